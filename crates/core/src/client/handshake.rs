//! The start of a connection: the client authenticates with its password, sends HELLO, and learns what the server speaks.
//!
//! ```text
//!             AUTH, if there is a password      HELLO, unless only the base protocol is wanted
//!  Handshake ──────────────────────────────▶ ────────────────────────────────────────────────▶ HandshakeResult
//! ```

use super::error::ProtocolError;
use super::response::to_text;
use crate::{Output, text};
use bytes::BytesMut;
use syncline_wire::{Decoded, EncodeError, Kind, Message, Password, ServerHello, Tag, decode};

/// The outcome of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// The server speaks only the base protocol. If it received a HELLO, it closes the connection. The client connects
    /// again and uses [`Handshake::base`].
    Base,
    /// The server speaks the extension.
    Extended(ServerHello),
    /// The server accepts only TLS connections.
    TlsOnly,
    /// The server requires a password.
    PasswordRequired,
    /// The password is wrong.
    BadPassword,
    /// The server refused the connection for another reason.
    Refused {
        /// The reason, in the server's words.
        text: String,
    },
}

/// The handshake at the start of a connection, as a state machine.
///
/// The driver writes the [`output`](Self::output), passes received bytes to [`handle_input`](Self::handle_input), and
/// repeats both until it has a result. The bytes that remain in the buffer then belong to the
/// [`ClientConnection`](super::ClientConnection) or [`Cursor`](super::Cursor) that follows.
#[derive(Debug)]
pub struct Handshake {
    output: Output,
    /// The kind of the request in flight.
    pending: Option<Kind>,
    wants_extension: bool,
}

impl Handshake {
    const TAG: Tag = Tag::new(1);

    /// Starts a handshake that asks whether the server speaks the extension.
    ///
    /// # Errors
    /// [`EncodeError`] if the password is too long for a frame.
    pub fn new(password: Option<&Password>) -> Result<Self, EncodeError> {
        Self::start(password, true)
    }

    /// Starts a handshake with a server that is known to speak only the base protocol.
    ///
    /// # Errors
    /// [`EncodeError`] if the password is too long for a frame.
    pub fn base(password: Option<&Password>) -> Result<Self, EncodeError> {
        Self::start(password, false)
    }

    fn start(password: Option<&Password>, wants_extension: bool) -> Result<Self, EncodeError> {
        let mut handshake = Self { output: Output::new(), pending: None, wants_extension };
        match password {
            Some(password) => handshake.send(&Message::auth(Self::TAG, password.expose().clone()))?,
            None => handshake.send_hello(),
        }
        Ok(handshake)
    }

    /// Sends HELLO, or completes the handshake if the extension is not wanted.
    fn send_hello(&mut self) {
        self.pending = None;
        if self.wants_extension {
            let sent = self.send(&Message::hello(Self::TAG, ""));
            debug_assert!(sent.is_ok(), "an empty HELLO can be encoded");
        }
    }

    fn send(&mut self, message: &Message) -> Result<(), EncodeError> {
        self.output.push(message)?;
        self.pending = Some(message.kind());
        Ok(())
    }

    /// Returns the bytes to write to the socket. [`handle_input`](Self::handle_input) may add more.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Consumes frames from the front of `buffer`. Returns `None` until the handshake is complete. Broadcasts that arrive
    /// before are skipped.
    ///
    /// # Errors
    /// [`ProtocolError`] if the server violates the protocol.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Option<HandshakeResult>, ProtocolError> {
        loop {
            let Some(pending) = self.pending else { return Ok(Some(HandshakeResult::Base)) };
            let message = match decode(buffer)? {
                Decoded::Frame(message) => message,
                Decoded::Incomplete { .. } => return Ok(None),
                Decoded::TooLarge { kind, tag, excess, .. } => return Err(ProtocolError::too_large(kind, tag, excess)),
            };
            match message {
                Message::Put(put) if put.tag == Tag::BROADCAST => {}
                Message::Auth(auth) if pending == Kind::Auth && auth.tag == Self::TAG => self.send_hello(),
                Message::Hello(hello) if pending == Kind::Hello && hello.tag == Self::TAG => {
                    return Ok(Some(HandshakeResult::Extended(ServerHello::decode(&hello.body)?)));
                }
                // The server needs no password.
                Message::Error(error) if pending == Kind::Auth && error.text == text::cannot_be_applied(Kind::Auth) => {
                    self.send_hello();
                }
                Message::Error(error) => {
                    return Ok(Some(match error.text.as_ref() {
                        unknown if unknown == text::UNKNOWN_KIND.as_bytes() => HandshakeResult::Base,
                        required if required == text::BAD_MESSAGE_TYPE.as_bytes() => HandshakeResult::PasswordRequired,
                        bad if bad == text::BAD_PASSWORD.as_bytes() => HandshakeResult::BadPassword,
                        tls if tls == text::unavailable(text::TLS_ONLY) => HandshakeResult::TlsOnly,
                        other => HandshakeResult::Refused { text: to_text(other) },
                    }));
                }
                found => {
                    let request = format!("kind={pending} tag={}", Self::TAG);
                    return Err(ProtocolError::WrongResponse { request, found: found.redacted().to_string() });
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

    const HELLO: ServerHello = ServerHello {
        protocol: 1,
        features: 0,
        store_id: [7; 16],
        head: Revision::new(3),
        heartbeat_ms: 2000,
        max_key: 4096,
        max_entry: 65_525,
    };

    fn result_of(messages: &[Message]) -> Result<Option<HandshakeResult>, ProtocolError> {
        let mut buffer = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut buffer).unwrap());
        Handshake::new(None).unwrap().handle_input(&mut buffer)
    }

    /// Consumes and returns the output.
    fn sent(handshake: &mut Handshake) -> Vec<u8> {
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
        assert_eq!(sent(&mut Handshake::new(None).unwrap()), b"\x04\x01\0\0\0");
    }

    #[test]
    fn hello_follows_a_password_that_is_right_or_not_needed() {
        for response in [Message::auth(Handshake::TAG, ""), Message::error(Handshake::TAG, NOT_NEEDED)] {
            let mut handshake = Handshake::new(with_password().as_ref()).unwrap();
            assert_eq!(sent(&mut handshake), b"\x03\x01\0\x09\0me:secret");
            assert_eq!(handshake.handle_input(&mut BytesMut::new()), Ok(None));
            assert_eq!(sent(&mut handshake), b"", "nothing before the response");
            assert_eq!(handshake.handle_input(&mut encoded(&response)), Ok(None));
            assert_eq!(sent(&mut handshake), b"\x04\x01\0\0\0");
            let hello = Message::hello(Handshake::TAG, HELLO.encode());
            assert_eq!(handshake.handle_input(&mut encoded(&hello)), Ok(Some(HandshakeResult::Extended(HELLO))));
        }
    }

    const NOT_NEEDED: &str = "messages of kind AUTH cannot be applied";

    #[test]
    fn the_base_handshake_sends_only_the_password() {
        let mut handshake = Handshake::base(with_password().as_ref()).unwrap();
        assert_eq!(sent(&mut handshake), b"\x03\x01\0\x09\0me:secret");
        assert_eq!(handshake.handle_input(&mut BytesMut::new()), Ok(None));
        let mut right = encoded(&Message::auth(Handshake::TAG, ""));
        assert_eq!(handshake.handle_input(&mut right), Ok(Some(HandshakeResult::Base)));
        assert_eq!(sent(&mut handshake), b"");
        let mut empty = Handshake::base(None).unwrap();
        assert_eq!(empty.handle_input(&mut BytesMut::new()), Ok(Some(HandshakeResult::Base)));
        assert_eq!(sent(&mut empty), b"");
    }

    #[test]
    fn a_wrong_and_a_missing_password_are_distinct_results() {
        let mut handshake = Handshake::new(with_password().as_ref()).unwrap();
        let mut wrong = encoded(&Message::error(Handshake::TAG, "go away, bad password"));
        assert_eq!(handshake.handle_input(&mut wrong), Ok(Some(HandshakeResult::BadPassword)));
        let missing = result_of(&[Message::error(Handshake::TAG, "go away, bad message type")]);
        assert_eq!(missing, Ok(Some(HandshakeResult::PasswordRequired)));
    }

    #[test]
    fn a_password_that_is_too_long_is_refused() {
        let error = Handshake::new(Some(&Password::new(vec![b'p'; 65_536]))).unwrap_err();
        assert_eq!(error.to_string(), "bad message: expected a password of at most 65535 bytes, found 65536");
    }

    #[test]
    fn each_response_of_the_server_has_its_result() {
        let hello = Message::hello(Handshake::TAG, HELLO.encode());
        let broadcast = Message::put(Tag::BROADCAST, "k", "v", Version::new(1));
        assert_eq!(result_of(&[]), Ok(None));
        assert_eq!(result_of(&[broadcast, hello]), Ok(Some(HandshakeResult::Extended(HELLO))));
        assert_eq!(
            result_of(&[Message::error(Handshake::TAG, "unknown message kind")]),
            Ok(Some(HandshakeResult::Base))
        );
        let tls_only = Message::error(Tag::BROADCAST, crate::server::unavailable(crate::server::TLS_ONLY));
        assert_eq!(result_of(&[tls_only]), Ok(Some(HandshakeResult::TlsOnly)));
        let text = "unavailable: too many connections";
        assert_eq!(
            result_of(&[Message::error(Tag::BROADCAST, text)]),
            Ok(Some(HandshakeResult::Refused { text: text.into() }))
        );
    }

    #[test]
    fn a_frame_that_is_no_valid_response_is_an_error() {
        let short = result_of(&[Message::hello(Handshake::TAG, "short")]);
        assert_eq!(short, Err(ProtocolError::ServerHello(TruncatedHello { expected: 40, found: 5 })));
        let error = result_of(&[Message::auth(Handshake::TAG, "")]).unwrap_err();
        let expected = "expected a response to kind=HELLO tag=1, found kind=AUTH tag=1 password=none";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn hello_is_sent_once_if_the_server_repeats_that_auth_is_not_needed() {
        let mut handshake = Handshake::new(None).unwrap();
        let before = handshake.output().remaining();
        let mut buffer = BytesMut::new();
        let needless = Message::error(Handshake::TAG, text::cannot_be_applied(Kind::Auth));
        (0..3).for_each(|_| needless.encode(&mut buffer).unwrap());
        assert!(matches!(handshake.handle_input(&mut buffer), Ok(Some(HandshakeResult::Refused { .. }))));
        assert_eq!(handshake.output().remaining(), before);
    }
}
