//! What was asked, and whether what comes is an answer to it.

use bytes::{Bytes, BytesMut};
use syncline_core::Rights;
use syncline_core::server::Limits;
use syncline_wire::{
    DecodeError, Decoded, FrameSkipper, Kind, Message, Operation, Revision, Tag, Txn, decode_bounded, decode_within,
};

/// A request that came whole, or that can only be refused.
#[derive(Debug)]
pub struct Asked {
    /// Its tag.
    pub tag: Tag,
    /// What it asks; nothing where it can only be refused.
    pub message: Option<Message>,
    /// The head of the log when it arrived.
    pub head: Revision,
    /// Whether nothing more may come for it.
    pub is_answered: bool,
    /// Of a TXN: how many of its operations were told. Of a LIST: how many keys.
    pub told: usize,
    /// Of a LIST: the last key that was told.
    pub last: Option<Bytes>,
    /// Of a WATCH: it was told to forget.
    pub is_reset: bool,
    /// The answer was an ERROR.
    pub is_refused: bool,
}

impl Asked {
    fn new(tag: Tag, message: Option<Message>, head: Revision) -> Self {
        Self { tag, message, head, is_answered: false, told: 0, last: None, is_reset: false, is_refused: false }
    }

    /// Whether its answer comes in pages, beside those to others.
    pub const fn runs_beside(&self) -> bool {
        matches!(self.message, Some(Message::Watch(_) | Message::List(_)))
    }

    /// Takes a frame that carries its tag; `is_true`: the store says the truth.
    pub fn take(&mut self, frame: &Message, is_extended: bool, is_true: bool) {
        let unfit = || panic!("{frame} is no answer to {:?}", self.message.as_ref().map(ToString::to_string));
        match (&self.message, frame) {
            (Some(Message::Txn(_)), Message::Error(_)) if self.told > 0 => unfit(),
            (_, Message::Error(_)) => (self.is_answered, self.is_refused) = (true, true),
            (Some(Message::Get(get)), Message::Put(_) | Message::PutLarge(_) | Message::Delete(_)) => {
                assert_eq!(frame.key(), Some(&get.key));
                assert!(is_extended || frame.kind() == Kind::Put, "{frame} before HELLO");
                self.is_answered = true;
            }
            (Some(asked @ (Message::Put(_) | Message::PutLarge(_) | Message::Delete(_))), _) => {
                assert_eq!(frame, asked);
                self.is_answered = true;
            }
            (Some(Message::Txn(txn)), Message::Mark(_)) => {
                assert_eq!(next_write(txn, self.told), None, "not all of its writes were told");
                self.is_answered = true;
            }
            (Some(Message::Txn(txn)), _) => {
                let Some((number, write)) = next_write(txn, self.told) else { return unfit() };
                match write {
                    Operation::Put { key, value, version } => {
                        assert_eq!(frame, &Message::write(self.tag, key.clone(), value.clone(), *version));
                    }
                    Operation::Delete { key, version } => {
                        assert_eq!(frame, &Message::delete(self.tag, key.clone(), *version));
                    }
                    Operation::Check { .. } => unfit(),
                }
                self.told = number + 1;
            }
            (Some(Message::Watch(watch)), Message::Mark(mark)) => {
                if mark.revision == Revision::ZERO && watch.since != Revision::ZERO && !self.is_reset {
                    self.is_reset = true;
                } else {
                    self.is_answered = true;
                }
            }
            (Some(Message::List(_)), Message::Mark(_)) => self.is_answered = true,
            (Some(Message::List(list)), Message::Put(_) | Message::PutLarge(_) | Message::Delete(_)) => {
                if !is_true {
                    // It tells what it is told.
                    return;
                }
                assert!(frame.kind() != Kind::Delete, "{frame} in a list of what is there");
                let key = frame.key().cloned().unwrap_or_default();
                self.told += 1;
                assert!(self.told <= list.limit as usize, "{} keys, asked for {}", self.told, list.limit);
                assert!(key.starts_with(&list.prefix) && key > list.after, "{key:?} was not asked for");
                assert!(self.last.as_ref().is_none_or(|last| *last < key), "{key:?} after {:?}", self.last);
                self.last = Some(key);
            }
            (Some(Message::Mark(_)), Message::Mark(_))
            | (Some(Message::Status(_)), Message::Status(_))
            | (Some(Message::Hello(_)), Message::Hello(_)) => self.is_answered = true,
            (Some(Message::Auth(_)), Message::Auth(auth)) => {
                assert!(auth.password.is_empty(), "a password is sent");
                self.is_answered = true;
            }
            _ => unfit(),
        }
    }
}

/// Whether somebody may be told this, which answers a request, or nothing that they have asked.
pub fn may_be_told(rights: &Rights, asked: Option<&Message>, frame: &Message) -> bool {
    match (asked, frame, frame.key()) {
        (Some(Message::Put(_) | Message::PutLarge(_) | Message::Delete(_) | Message::Txn(_)), _, Some(key)) => {
            rights.may_write(key)
        }
        (_, _, Some(key)) => rights.may_read(key),
        // The same answer, whether it is there or not.
        (Some(Message::Get(get)), Message::Error(error), None) if !rights.may_read(&get.key) => {
            [&b"not permitted: "[..], b"too large: ", b"go away"].iter().any(|text| error.text.starts_with(text))
        }
        (_, Message::Status(_), None) => rights.is_admin(),
        _ => true,
    }
}

/// The next write of a transaction, from one of its operations on.
fn next_write(txn: &Txn, from: usize) -> Option<(usize, &Operation)> {
    let mut rest = txn.operations.iter().enumerate().skip(from);
    rest.find(|(_, operation)| !matches!(operation, Operation::Check { .. }))
}

/// The longest frame that is taken of a stranger, and the most guesses (`core/src/server`).
const MAX_AUTH_FRAME: usize = 5 + 1024;
const MAX_GUESSES: usize = 3;

/// Finds the requests in what the client sends.
#[derive(Debug)]
pub struct Reader {
    max_frame: usize,
    buffer: BytesMut,
    skip: Option<FrameSkipper>,
    client: Client,
    /// What came can't be read any more, nor can what follows.
    is_lost: bool,
}

/// What the server knows of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Unauthenticated { guesses: usize },
    Verifying { guesses: usize },
    Known,
}

impl Reader {
    /// Reads as a server of these limits does.
    pub fn new(limits: &Limits, is_known: bool) -> Self {
        // What core/src/server/limits.rs takes of a frame.
        let max_frame = limits.max_transaction() + Txn::MAX_OPERATIONS * 32;
        let client = if is_known { Client::Known } else { Client::Unauthenticated { guesses: 0 } };
        Self { max_frame, buffer: BytesMut::new(), skip: None, client, is_lost: false }
    }

    /// A password was right, or wrong.
    pub fn handle_verdict(&mut self, is_right: bool) {
        let Client::Verifying { guesses } = self.client else { return };
        self.client = if is_right { Client::Known } else { Client::Unauthenticated { guesses: guesses + 1 } };
        self.is_lost |= self.client == Client::Unauthenticated { guesses: MAX_GUESSES };
    }

    /// The requests that are whole with these bytes.
    pub fn read(&mut self, bytes: &[u8], head: Revision) -> Vec<Asked> {
        let mut found = Vec::new();
        self.buffer.extend_from_slice(bytes);
        while !self.is_lost && !matches!(self.client, Client::Verifying { .. }) {
            let malformed = if let Some(skip) = &mut self.skip {
                match skip.skip(&mut self.buffer) {
                    Ok(true) => {
                        self.skip = None;
                        continue;
                    }
                    Ok(false) => break,
                    Err(malformed) => malformed,
                }
            } else {
                let decoded = match self.client {
                    Client::Known => decode_within(&mut self.buffer, self.max_frame),
                    _ => decode_bounded(&mut self.buffer, MAX_AUTH_FRAME),
                };
                match decoded {
                    Ok(Decoded::Frame(message)) => {
                        if let (Client::Unauthenticated { guesses }, Message::Auth(_)) = (self.client, &message) {
                            self.client = Client::Verifying { guesses };
                        }
                        found.push(Asked::new(message.tag(), Some(message), head));
                        continue;
                    }
                    Ok(Decoded::Incomplete { .. }) => break,
                    Ok(Decoded::TooLarge { tag, skip, .. }) => {
                        self.skip = Some(skip);
                        found.push(Asked::new(tag, None, head));
                        continue;
                    }
                    Err(malformed) => malformed,
                }
            };
            let (DecodeError::UnknownKind { tag, .. } | DecodeError::UnknownOperation { tag, .. }) = malformed;
            // Of what is passed over, two things may be said: that it is too large, and that it has no end.
            found.push(Asked::new(tag, None, head));
            self.is_lost = true;
        }
        found
    }
}

/// What was sent, frame by frame.
pub fn frames(received: &mut BytesMut) -> Vec<Message> {
    let mut frames = Vec::new();
    loop {
        match syncline_wire::decode(received) {
            Ok(Decoded::Frame(frame)) => frames.push(frame),
            Ok(Decoded::Incomplete { .. }) => return frames,
            other => panic!("the server has sent {other:?}"),
        }
    }
}
