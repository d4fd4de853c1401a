//! What a client says first: HELLO; and what it learns of the server.

use super::connection::{ProtocolError, readable};
use crate::{Output, text};
use bytes::BytesMut;
use syncline_wire::{Decoded, Greeting, Message, Tag, decode};

/// How a server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// The base protocol only. It closes the connection on which it was asked: the next one starts without HELLO.
    Base,
    /// The extension.
    Extended(Greeting),
    /// Not at all: it turns this client away.
    Refused {
        /// Why, in its words.
        text: String,
    },
}

/// The first thing on a connection: HELLO, and its answer.
///
/// Its driver writes the [`output`](Self::output) and hands it what comes until the speech is known. What is left in the
/// buffer then belongs to the [`Connection`](super::Connection) that follows.
#[derive(Debug)]
pub struct Handshake {
    output: Output,
}

impl Handshake {
    const TAG: Tag = Tag::new(1);

    /// A connection was made.
    pub fn new() -> Self {
        let mut output = Output::new();
        let pushed = output.push(&Message::hello(Self::TAG, ""));
        debug_assert!(pushed.is_ok(), "an empty HELLO can be encoded");
        Self { output }
    }

    /// What is to be written.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How the server speaks; `None` until it has said so. Broadcasts that come before are passed over.
    ///
    /// # Errors
    /// [`ProtocolError`] where the server does not keep to the protocol.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Option<Speech>, ProtocolError> {
        loop {
            match decode(buffer)? {
                Decoded::Incomplete { .. } => return Ok(None),
                Decoded::Frame(Message::Hello(hello)) if hello.tag == Self::TAG => {
                    return Ok(Some(Speech::Extended(Greeting::decode(&hello.body)?)));
                }
                Decoded::Frame(Message::Error(error)) if error.text == text::UNKNOWN_KIND => {
                    return Ok(Some(Speech::Base));
                }
                Decoded::Frame(Message::Error(error)) => {
                    return Ok(Some(Speech::Refused { text: readable(&error.text) }));
                }
                Decoded::Frame(Message::Put(put)) if put.tag == Tag::BROADCAST => {}
                Decoded::Frame(found) => {
                    let asked = Message::hello(Self::TAG, "").to_string();
                    return Err(ProtocolError::NoAnswer { asked, found: found.to_string() });
                }
                Decoded::TooLarge { kind, tag, excess, .. } => return Err(ProtocolError::too_large(kind, tag, excess)),
            }
        }
    }
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use syncline_wire::{Revision, ShortGreeting, Version};

    const GREETING: Greeting = Greeting {
        protocol: 1,
        features: 0,
        store_id: [7; 16],
        head: Revision::new(3),
        heartbeat_ms: 2000,
        max_key: 4096,
        max_entry: 65_525,
    };

    fn said(messages: &[Message]) -> Result<Option<Speech>, ProtocolError> {
        let mut buffer = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut buffer).unwrap());
        Handshake::new().handle_input(&mut buffer)
    }

    #[test]
    fn hello_comes_first() {
        assert_eq!(Handshake::new().output().chunk(), b"\x04\x01\0\0\0");
    }

    #[test]
    fn a_server_says_how_it_speaks() {
        let hello = Message::hello(Handshake::TAG, GREETING.encode());
        let broadcast = Message::put(Tag::BROADCAST, "k", "v", Version::new(1));
        assert_eq!(said(&[]), Ok(None));
        assert_eq!(said(&[broadcast, hello]), Ok(Some(Speech::Extended(GREETING))));
        assert_eq!(said(&[Message::error(Handshake::TAG, "unknown message kind")]), Ok(Some(Speech::Base)));
        let text = "unavailable: too many connections";
        assert_eq!(said(&[Message::error(Tag::BROADCAST, text)]), Ok(Some(Speech::Refused { text: text.into() })));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let short = said(&[Message::hello(Handshake::TAG, "short")]);
        assert_eq!(short, Err(ProtocolError::Greeting(ShortGreeting { expected: 40, found: 5 })));
        let error = said(&[Message::auth(Handshake::TAG, "")]).unwrap_err();
        let expected = "expected an answer to kind=HELLO tag=1 bytes=0, found kind=AUTH tag=1 password=none";
        assert_eq!(error.to_string(), expected);
    }
}
