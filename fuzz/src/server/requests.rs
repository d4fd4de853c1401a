//! The requests that the client has sent, and whether a frame is a response to one of them.

use bytes::{Bytes, BytesMut};
use syncline_core::Rights;
use syncline_core::server::Limits;
use syncline_wire::{
    DecodeError, Decoded, FrameSkipper, Kind, Message, Operation, Revision, Tag, Txn, decode_bounded, decode_within,
};

/// A request that has arrived.
#[derive(Debug)]
pub struct Request {
    /// The tag.
    pub tag: Tag,
    /// The frame, or `None` if the server can only refuse the request: it is too large, or of an unknown kind.
    pub message: Option<Message>,
    /// The head of the log when the request arrived.
    pub head: Revision,
    /// Whether the response is complete.
    pub is_complete: bool,
    /// For a TXN: the number of its operations up to the last write that was returned. For a LIST: the number of keys that
    /// were returned.
    pub returned: usize,
    /// For a LIST: the last key that was returned.
    pub last_key: Option<Bytes>,
    /// For a WATCH: a MARK with revision 0 was received, so the client starts over.
    pub is_reset: bool,
    /// Whether the response was an ERROR.
    pub is_refused: bool,
}

impl Request {
    fn new(tag: Tag, message: Option<Message>, head: Revision) -> Self {
        Self { tag, message, head, is_complete: false, returned: 0, last_key: None, is_reset: false, is_refused: false }
    }

    /// Returns whether the response is sent in pages, between the responses to other requests.
    pub const fn is_paged(&self) -> bool {
        matches!(self.message, Some(Message::Watch(_) | Message::List(_)))
    }

    /// Checks a frame that carries the tag of this request, as a part of its response.
    pub fn handle_response(&mut self, frame: &Message, is_extended: bool, is_honest: bool) {
        let mismatch = || panic!("{frame} is no response to {:?}", self.message.as_ref().map(ToString::to_string));
        match (&self.message, frame) {
            (Some(Message::Txn(_)), Message::Error(_)) if self.returned > 0 => mismatch(),
            (_, Message::Error(_)) => (self.is_complete, self.is_refused) = (true, true),
            (Some(Message::Get(get)), Message::Put(_) | Message::PutLarge(_) | Message::Delete(_)) => {
                assert_eq!(frame.key(), Some(&get.key));
                assert!(is_extended || frame.kind() == Kind::Put, "{frame} before HELLO");
                self.is_complete = true;
            }
            (Some(request @ (Message::Put(_) | Message::PutLarge(_) | Message::Delete(_))), _) => {
                assert_eq!(frame, request);
                self.is_complete = true;
            }
            (Some(Message::Txn(txn)), Message::Mark(_)) => {
                assert_eq!(next_write(txn, self.returned), None, "not all of its writes were returned");
                self.is_complete = true;
            }
            (Some(Message::Txn(txn)), _) => {
                let Some((number, write)) = next_write(txn, self.returned) else { return mismatch() };
                match write {
                    Operation::Put { key, value, version } => {
                        assert_eq!(frame, &Message::write(self.tag, key.clone(), value.clone(), *version));
                    }
                    Operation::Delete { key, version } => {
                        assert_eq!(frame, &Message::delete(self.tag, key.clone(), *version));
                    }
                    Operation::Check { .. } => mismatch(),
                }
                self.returned = number + 1;
            }
            (Some(Message::Watch(watch)), Message::Mark(mark)) => {
                if mark.revision == Revision::ZERO && watch.since != Revision::ZERO && !self.is_reset {
                    self.is_reset = true;
                } else {
                    self.is_complete = true;
                }
            }
            (Some(Message::List(_)), Message::Mark(_)) => self.is_complete = true,
            (Some(Message::List(list)), Message::Put(_) | Message::PutLarge(_) | Message::Delete(_)) => {
                if !is_honest {
                    // The connection returns what the store returns.
                    return;
                }
                assert!(frame.kind() != Kind::Delete, "{frame} in a list of keys that have a value");
                let key = frame.key().cloned().unwrap_or_default();
                self.returned += 1;
                assert!(self.returned <= list.limit as usize, "{} keys, the limit is {}", self.returned, list.limit);
                assert!(key.starts_with(&list.prefix) && key > list.after, "{key:?} was not requested");
                assert!(self.last_key.as_ref().is_none_or(|last| *last < key), "{key:?} after {:?}", self.last_key);
                self.last_key = Some(key);
            }
            (Some(Message::Mark(_)), Message::Mark(_))
            | (Some(Message::Status(_)), Message::Status(_))
            | (Some(Message::Hello(_)), Message::Hello(_)) => self.is_complete = true,
            (Some(Message::Auth(_)), Message::Auth(auth)) => {
                assert!(auth.password.is_empty(), "a password is sent");
                self.is_complete = true;
            }
            _ => mismatch(),
        }
    }
}

/// Returns whether a client with these rights may receive `frame`, in response to `request` or as a broadcast.
pub fn may_receive(rights: &Rights, request: Option<&Message>, frame: &Message) -> bool {
    match (request, frame, frame.key()) {
        (Some(Message::Put(_) | Message::PutLarge(_) | Message::Delete(_) | Message::Txn(_)), _, Some(key)) => {
            rights.may_write(key)
        }
        (_, _, Some(key)) => rights.may_read(key),
        // The response must not depend on whether the key exists.
        (Some(Message::Get(get)), Message::Error(error), None) if !rights.may_read(&get.key) => {
            [&b"not permitted: "[..], b"too large: ", b"go away"].iter().any(|text| error.text.starts_with(text))
        }
        _ => true,
    }
}

/// Returns the first write among the operations from index `from` on, and its index.
fn next_write(txn: &Txn, from: usize) -> Option<(usize, &Operation)> {
    let mut rest = txn.operations.iter().enumerate().skip(from);
    rest.find(|(_, operation)| !matches!(operation, Operation::Check { .. }))
}

/// The longest frame that is accepted from an unauthenticated client, and its attempts at a password (`core/src/server`).
const MAX_AUTH_FRAME: usize = 5 + 1024;
const MAX_ATTEMPTS: usize = 3;

/// Finds the requests in the bytes that the client sends.
#[derive(Debug)]
pub struct RequestReader {
    max_frame: usize,
    buffer: BytesMut,
    skip: Option<FrameSkipper>,
    client: Client,
    /// The start of the next frame is unknown, or the server no longer reads.
    has_stopped: bool,
}

/// What the server knows about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Unauthenticated { attempts: usize },
    Verifying { attempts: usize },
    Authenticated,
}

impl RequestReader {
    /// Returns a reader that reads as a server with these limits does.
    pub fn new(limits: &Limits, is_authenticated: bool) -> Self {
        // As `Limits::max_frame`.
        let max_frame = limits.max_transaction() + Txn::MAX_OPERATIONS * 32;
        let client = if is_authenticated { Client::Authenticated } else { Client::Unauthenticated { attempts: 0 } };
        Self { max_frame, buffer: BytesMut::new(), skip: None, client, has_stopped: false }
    }

    /// Handles the result of a password check.
    pub fn handle_verdict(&mut self, is_correct: bool) {
        let Client::Verifying { attempts } = self.client else { return };
        self.client =
            if is_correct { Client::Authenticated } else { Client::Unauthenticated { attempts: attempts + 1 } };
        self.has_stopped |= self.client == Client::Unauthenticated { attempts: MAX_ATTEMPTS };
    }

    /// Returns the requests that `bytes` completes.
    pub fn read(&mut self, bytes: &[u8], head: Revision) -> Vec<Request> {
        let mut found = Vec::new();
        self.buffer.extend_from_slice(bytes);
        while !self.has_stopped && !matches!(self.client, Client::Verifying { .. }) {
            let error = if let Some(skip) = &mut self.skip {
                match skip.skip(&mut self.buffer) {
                    Ok(true) => {
                        self.skip = None;
                        continue;
                    }
                    Ok(false) => break,
                    Err(error) => error,
                }
            } else {
                let decoded = match self.client {
                    Client::Authenticated => decode_within(&mut self.buffer, self.max_frame),
                    _ => decode_bounded(&mut self.buffer, MAX_AUTH_FRAME),
                };
                match decoded {
                    Ok(Decoded::Frame(message)) => {
                        if let (Client::Unauthenticated { attempts }, Message::Auth(_)) = (self.client, &message) {
                            self.client = Client::Verifying { attempts };
                        }
                        found.push(Request::new(message.tag(), Some(message), head));
                        continue;
                    }
                    Ok(Decoded::Incomplete { .. }) => break,
                    Ok(Decoded::TooLarge { tag, skip, .. }) => {
                        self.skip = Some(skip);
                        found.push(Request::new(tag, None, head));
                        continue;
                    }
                    Err(error) => error,
                }
            };
            let (DecodeError::UnknownKind { tag, .. } | DecodeError::UnknownOperation { tag, .. }) = error;
            // A frame that is skipped may get two errors: it is too large, and its end cannot be found.
            found.push(Request::new(tag, None, head));
            self.has_stopped = true;
        }
        found
    }
}

/// Removes the complete frames from `received`, and returns them.
pub fn frames(received: &mut BytesMut) -> Vec<Message> {
    let mut frames = Vec::new();
    loop {
        match syncline_wire::decode(received) {
            Ok(Decoded::Frame(frame)) => frames.push(frame),
            Ok(Decoded::Incomplete { .. }) => return frames,
            other => panic!("the server sent {other:?}"),
        }
    }
}
