//! What a client says first: its password, and HELLO; and what it learns of the server.
//!
//! ```text
//!             AUTH, where there is a password      HELLO, unless only the base protocol is wanted
//!  Handshake ─────────────────────────────────▶ ───────────────────────────────────────────────▶ HandshakeResult
//! ```

use super::connection::{ProtocolError, readable};
use crate::{Output, text};
use bytes::BytesMut;
use syncline_wire::{Decoded, EncodeError, Kind, Message, Password, ServerHello, Tag, decode};

/// How a server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// The base protocol only. Where it was asked by a HELLO, it closes that connection: the next handshake is a
    /// [`Handshake::base`].
    Base,
    /// The extension.
    Extended(ServerHello),
    /// TLS, and nothing else.
    TlsOnly,
    /// Not before it was shown a password.
    PasswordRequired,
    /// Not with this password.
    BadPassword,
    /// Not at all: it turns this client away.
    Refused {
        /// Why, in its words.
        text: String,
    },
}

/// The first thing on a connection: who asks, and how the server speaks.
///
/// Its driver writes the [`output`](Self::output) and hands it what comes, by turns, until the speech is known. What is left
/// in the buffer then belongs to the [`ClientConnection`](super::ClientConnection) that follows.
#[derive(Debug)]
pub struct Handshake {
    output: Output,
    /// What waits for its answer.
    asked: Option<Kind>,
    wants_extension: bool,
}

impl Handshake {
    const TAG: Tag = Tag::new(1);

    /// A connection was made: asks whether the server speaks the extension.
    ///
    /// # Errors
    /// [`EncodeError`] for a password that no frame can carry.
    pub fn new(password: Option<&Password>) -> Result<Self, EncodeError> {
        Self::begin(password, true)
    }

    /// A connection was made to a server that is known to speak the base protocol only.
    ///
    /// # Errors
    /// As [`Handshake::new`].
    pub fn base(password: Option<&Password>) -> Result<Self, EncodeError> {
        Self::begin(password, false)
    }

    fn begin(password: Option<&Password>, wants_extension: bool) -> Result<Self, EncodeError> {
        let mut handshake = Self { output: Output::new(), asked: None, wants_extension };
        match password {
            Some(password) => handshake.ask(&Message::auth(Self::TAG, password.expose().clone()))?,
            None => handshake.greet(),
        }
        Ok(handshake)
    }

    fn greet(&mut self) {
        self.asked = None;
        if self.wants_extension {
            let asked = self.ask(&Message::hello(Self::TAG, ""));
            debug_assert!(asked.is_ok(), "an empty HELLO can be encoded");
        }
    }

    fn ask(&mut self, message: &Message) -> Result<(), EncodeError> {
        self.output.push(message)?;
        self.asked = Some(message.kind());
        Ok(())
    }

    /// What is to be written; after [`handle_input`](Self::handle_input) there may be more.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How the server speaks; `None` until it has said so. Broadcasts that come before are passed over.
    ///
    /// # Errors
    /// [`ProtocolError`] where the server does not keep to the protocol.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Option<HandshakeResult>, ProtocolError> {
        loop {
            let Some(asked) = self.asked else { return Ok(Some(HandshakeResult::Base)) };
            let message = match decode(buffer)? {
                Decoded::Frame(message) => message,
                Decoded::Incomplete { .. } => return Ok(None),
                Decoded::TooLarge { kind, tag, excess, .. } => return Err(ProtocolError::too_large(kind, tag, excess)),
            };
            match message {
                Message::Put(put) if put.tag == Tag::BROADCAST => {}
                Message::Auth(auth) if asked == Kind::Auth && auth.tag == Self::TAG => self.greet(),
                Message::Hello(hello) if asked == Kind::Hello && hello.tag == Self::TAG => {
                    return Ok(Some(HandshakeResult::Extended(ServerHello::decode(&hello.body)?)));
                }
                // It needs none.
                Message::Error(error) if asked == Kind::Auth && error.text == text::cannot_be_applied(Kind::Auth) => {
                    self.greet();
                }
                Message::Error(error) => {
                    return Ok(Some(match error.text.as_ref() {
                        unknown if unknown == text::UNKNOWN_KIND.as_bytes() => HandshakeResult::Base,
                        required if required == text::BAD_MESSAGE_TYPE.as_bytes() => HandshakeResult::PasswordRequired,
                        bad if bad == text::BAD_PASSWORD.as_bytes() => HandshakeResult::BadPassword,
                        tls if tls == text::unavailable(text::TLS_ONLY) => HandshakeResult::TlsOnly,
                        other => HandshakeResult::Refused { text: readable(other) },
                    }));
                }
                found => {
                    let asked = format!("kind={asked} tag={}", Self::TAG);
                    return Err(ProtocolError::NoAnswer { asked, found: found.redacted().to_string() });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use syncline_wire::{Revision, TruncatedHello, Version};

    const GREETING: ServerHello = ServerHello {
        protocol: 1,
        features: 0,
        store_id: [7; 16],
        head: Revision::new(3),
        heartbeat_ms: 2000,
        max_key: 4096,
        max_entry: 65_525,
    };

    fn said(messages: &[Message]) -> Result<Option<HandshakeResult>, ProtocolError> {
        let mut buffer = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut buffer).unwrap());
        Handshake::new(None).unwrap().handle_input(&mut buffer)
    }

    /// All that is to be written now.
    fn asked(handshake: &mut Handshake) -> Vec<u8> {
        let length = handshake.output().remaining();
        handshake.output().copy_to_bytes(length).to_vec()
    }

    fn with_password() -> Option<Password> {
        Some(Password::new("me:secret"))
    }

    fn encoded(message: &Message) -> BytesMut {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer).unwrap();
        buffer
    }

    #[test]
    fn hello_comes_first() {
        assert_eq!(asked(&mut Handshake::new(None).unwrap()), b"\x04\x01\0\0\0");
    }

    #[test]
    fn a_password_comes_first_and_hello_when_it_was_right_or_not_needed() {
        for answer in [Message::auth(Handshake::TAG, ""), Message::error(Handshake::TAG, NOT_NEEDED)] {
            let mut handshake = Handshake::new(with_password().as_ref()).unwrap();
            assert_eq!(asked(&mut handshake), b"\x03\x01\0\x09\0me:secret");
            assert_eq!(handshake.handle_input(&mut BytesMut::new()), Ok(None));
            assert_eq!(asked(&mut handshake), b"", "nothing before the answer");
            assert_eq!(handshake.handle_input(&mut encoded(&answer)), Ok(None));
            assert_eq!(asked(&mut handshake), b"\x04\x01\0\0\0");
            let hello = Message::hello(Handshake::TAG, GREETING.encode());
            assert_eq!(handshake.handle_input(&mut encoded(&hello)), Ok(Some(HandshakeResult::Extended(GREETING))));
        }
    }

    const NOT_NEEDED: &str = "messages of kind AUTH cannot be applied";

    #[test]
    fn a_password_alone_will_do_where_the_server_is_known_to_speak_no_more() {
        let mut handshake = Handshake::base(with_password().as_ref()).unwrap();
        assert_eq!(asked(&mut handshake), b"\x03\x01\0\x09\0me:secret");
        assert_eq!(handshake.handle_input(&mut BytesMut::new()), Ok(None));
        let mut right = encoded(&Message::auth(Handshake::TAG, ""));
        assert_eq!(handshake.handle_input(&mut right), Ok(Some(HandshakeResult::Base)));
        assert_eq!(asked(&mut handshake), b"");
        let mut nothing = Handshake::base(None).unwrap();
        assert_eq!(nothing.handle_input(&mut BytesMut::new()), Ok(Some(HandshakeResult::Base)));
        assert_eq!(asked(&mut nothing), b"");
    }

    #[test]
    fn a_server_says_that_a_password_is_wrong_or_missing() {
        let mut handshake = Handshake::new(with_password().as_ref()).unwrap();
        let mut wrong = encoded(&Message::error(Handshake::TAG, "go away, bad password"));
        assert_eq!(handshake.handle_input(&mut wrong), Ok(Some(HandshakeResult::BadPassword)));
        let missing = said(&[Message::error(Handshake::TAG, "go away, bad message type")]);
        assert_eq!(missing, Ok(Some(HandshakeResult::PasswordRequired)));
    }

    #[test]
    fn a_password_that_is_too_long_is_refused() {
        let bad = Handshake::new(Some(&Password::new(vec![b'p'; 65_536]))).unwrap_err();
        assert_eq!(bad.to_string(), "bad message: expected a password of at most 65535 bytes, found 65536");
    }

    #[test]
    fn a_server_says_how_it_speaks() {
        let hello = Message::hello(Handshake::TAG, GREETING.encode());
        let broadcast = Message::put(Tag::BROADCAST, "k", "v", Version::new(1));
        assert_eq!(said(&[]), Ok(None));
        assert_eq!(said(&[broadcast, hello]), Ok(Some(HandshakeResult::Extended(GREETING))));
        assert_eq!(said(&[Message::error(Handshake::TAG, "unknown message kind")]), Ok(Some(HandshakeResult::Base)));
        let tls_only = Message::error(Tag::BROADCAST, crate::server::unavailable(crate::server::TLS_ONLY));
        assert_eq!(said(&[tls_only]), Ok(Some(HandshakeResult::TlsOnly)));
        let text = "unavailable: too many connections";
        assert_eq!(
            said(&[Message::error(Tag::BROADCAST, text)]),
            Ok(Some(HandshakeResult::Refused { text: text.into() }))
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let short = said(&[Message::hello(Handshake::TAG, "short")]);
        assert_eq!(short, Err(ProtocolError::ServerHello(TruncatedHello { expected: 40, found: 5 })));
        let error = said(&[Message::auth(Handshake::TAG, "")]).unwrap_err();
        let expected = "expected an answer to kind=HELLO tag=1, found kind=AUTH tag=1 password=none";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_server_that_says_again_and_again_that_it_needs_no_password_is_asked_once() {
        let mut handshake = Handshake::new(None).unwrap();
        let asked = handshake.output().remaining();
        let mut buffer = BytesMut::new();
        let needless = Message::error(Handshake::TAG, text::cannot_be_applied(Kind::Auth));
        (0..3).for_each(|_| needless.encode(&mut buffer).unwrap());
        assert!(matches!(handshake.handle_input(&mut buffer), Ok(Some(HandshakeResult::Refused { .. }))));
        assert_eq!(handshake.output().remaining(), asked);
    }
}
