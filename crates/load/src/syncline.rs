//! Our own protocol: `syncline-wire` over a stream. Of the client, only connecting is used.

use crate::{Error, Event, Link, PREFIX, Peer, Protocol, Request, Response, Slot};
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;
use syncline_client::{ConnectError, Dialer, Established};
use syncline_wire::{Decoded, Delete, HEADER_LENGTH, Kind, Message, Put, Revision, Tag, Version, decode};

/// A Syncline server, over connections of the extended or of the base protocol.
#[derive(Clone)]
pub struct SynclinePeer {
    /// Connects to the server.
    pub dialer: Arc<Dialer>,
    /// Whether to use the base protocol, without HELLO: every connection receives all writes of all others.
    pub base: bool,
}

impl Peer for SynclinePeer {
    async fn open(&self) -> Result<Link, Error> {
        let endpoint = self.dialer.endpoints().first().ok_or(ConnectError::NoEndpoint)?;
        let Established { socket, input, hello } = self.dialer.connect(endpoint, self.base).await?;
        if !self.base && hello.is_none() {
            return Err(Error::NoHello { endpoint: endpoint.to_string() });
        }
        Ok(Link::new(socket, Syncline::new(self.base), input))
    }

    fn counts(&self) -> bool {
        true
    }
}

/// The offset of the key in a PUT, behind the length of the key.
const KEY: usize = HEADER_LENGTH + 2;

/// The progress of a [`Request::Follow`] without a revision.
enum Following {
    /// There is none, or it was answered.
    No,
    /// The connection has asked for the head, to watch from there: existing keys are not wanted.
    AsksForHead(Tag),
}

/// The protocol of a connection to a Syncline server, after its HELLO.
pub struct Syncline {
    base: bool,
    following: Following,
}

impl Syncline {
    /// Returns the extended protocol, or the base protocol.
    pub const fn new(base: bool) -> Self {
        Self { base, following: Following::No }
    }

    fn event(&mut self, message: Message, output: &mut BytesMut) -> Result<Event, Error> {
        let tag = message.tag();
        let is_broadcast = tag == Tag::BROADCAST;
        let slot = Slot(tag.get().wrapping_sub(1));
        Ok(match message {
            Message::Put(Put { value, version, .. }) => {
                Event::Response(slot, Response::Found { value, version: version.get() })
            }
            Message::Delete(_) if is_broadcast => Event::Nothing,
            // A deleted key has no value, but a version: the next write must carry the one after that.
            Message::Delete(Delete { version, .. }) => {
                Event::Response(slot, Response::Found { value: Bytes::new(), version: version.get() })
            }
            Message::Mark(_) if is_broadcast => Event::Nothing,
            Message::Mark(mark) => match self.following {
                Following::AsksForHead(asked) if asked == tag => {
                    self.following = Following::No;
                    Message::watch(tag, PREFIX, mark.revision).encode(output)?;
                    Event::Nothing
                }
                _ => Event::Response(slot, Response::Watermark { revision: mark.revision.get() }),
            },
            Message::Error(error) if !is_broadcast && error.text.ends_with(b"not found") => Event::Response(
                slot,
                match deleted_at(&error.text) {
                    Some(version) => Response::Found { value: Bytes::new(), version },
                    None => Response::Missing,
                },
            ),
            Message::Error(error) if !is_broadcast && error.text == b"stale put"[..] => {
                Event::Response(slot, Response::Stale)
            }
            other => return Err(Error::unexpected("the answer to a request", other.redacted().to_string())),
        })
    }
}

/// Returns the version in the text for a GET of a deleted key: `"KEY": deleted at version N, not found`.
fn deleted_at(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?.strip_suffix(", not found")?;
    text.rsplit_once("deleted at version ")?.1.parse().ok()
}

impl Protocol for Syncline {
    fn greet(&mut self, _output: &mut BytesMut) -> Result<(), Error> {
        Ok(())
    }

    fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error> {
        let tag = Tag::new(slot.0.wrapping_add(1));
        match request {
            Request::Get { key } => Message::get(tag, key.clone()).encode(output)?,
            Request::Put { key, value, replaces } => {
                Put::encode_parts(output, tag, key, value, Version::new(replaces.wrapping_add(1)))?;
            }
            // Once this is answered, the server has accepted the connection and sends it every write.
            Request::Follow { .. } | Request::Barrier if self.base => {
                Message::get(tag, Bytes::from_static(PREFIX.as_bytes())).encode(output)?;
            }
            Request::Follow { since: Some(since) } => {
                Message::watch(tag, PREFIX, Revision::new(*since)).encode(output)?;
            }
            Request::Follow { since: None } => {
                self.following = Following::AsksForHead(tag);
                Message::mark(tag, Revision::ZERO).encode(output)?;
            }
            Request::Barrier => Message::mark(tag, Revision::ZERO).encode(output)?,
        }
        Ok(())
    }

    #[inline]
    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Event>, Error> {
        if let Some(value) = change(input) {
            return Ok(Some(Event::Change { value, place: None }));
        }
        match decode(input) {
            Ok(Decoded::Frame(message)) => self.event(message, output).map(Some),
            Ok(Decoded::Incomplete { .. }) => Ok(None),
            Ok(Decoded::TooLarge { kind, excess, .. }) => Err(Error::Protocol(format!("a {kind} of {excess}"))),
            Err(error) => Err(Error::Protocol(error.to_string())),
        }
    }
}

/// Removes a change from the front of `input`, if it is one and has arrived completely, and returns its value.
///
/// Most frames are changes, and their keys are not needed, so this is faster than [`decode`].
#[inline]
fn change(input: &mut BytesMut) -> Option<Bytes> {
    let [kind, tag_low, tag_high, key_low, key_high] = *input.first_chunk()?;
    if kind != Kind::Put.byte() || Tag::new(u16::from_le_bytes([tag_low, tag_high])) != Tag::BROADCAST {
        return None;
    }
    let key = usize::from(u16::from_le_bytes([key_low, key_high]));
    let [low, high] = *input.get(KEY + key..)?.first_chunk()?;
    let value = usize::from(u16::from_le_bytes([low, high]));
    let length = Put::OVERHEAD + key + value;
    if input.len() < length {
        return None;
    }
    let mut frame = input.split_to(length);
    frame.advance(KEY + key + 2);
    frame.truncate(value);
    Some(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(protocol: &mut Syncline, messages: &[Message]) -> Vec<Event> {
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        for message in messages {
            message.encode(&mut input).unwrap();
        }
        std::iter::from_fn(|| protocol.decode(&mut input, &mut output).unwrap()).collect()
    }

    #[test]
    fn responses_have_the_slot_of_their_request() {
        let mut protocol = Syncline::new(false);
        let found = events(
            &mut protocol,
            &[
                Message::put(Tag::new(1), "k", "v", Version::new(3)),
                Message::put(Tag::BROADCAST, "k", "w", Version::new(4)),
                Message::error(Tag::new(512), "stale put"),
                Message::error(Tag::new(2), "\"k\": not found"),
                Message::mark(Tag::BROADCAST, Revision::new(9)),
                Message::mark(Tag::new(3), Revision::new(9)),
            ],
        );
        let expected = [
            Event::Response(Slot(0), Response::Found { value: "v".into(), version: 3 }),
            Event::Change { value: "w".into(), place: None },
            Event::Response(Slot(511), Response::Stale),
            Event::Response(Slot(1), Response::Missing),
            Event::Nothing,
            Event::Response(Slot(2), Response::Watermark { revision: 9 }),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_incomplete_frame_stays_in_the_input() {
        let mut whole = BytesMut::new();
        Message::put(Tag::BROADCAST, "key", "value", Version::new(4)).encode(&mut whole).unwrap();
        Message::put(Tag::new(2), "key", "other", Version::new(5)).encode(&mut whole).unwrap();
        let (mut protocol, mut input, mut output) = (Syncline::new(false), BytesMut::new(), BytesMut::new());
        let mut found = Vec::new();
        for byte in whole {
            input.extend_from_slice(&[byte]);
            found.extend(protocol.decode(&mut input, &mut output).unwrap());
        }
        let expected = [
            Event::Change { value: "value".into(), place: None },
            Event::Response(Slot(1), Response::Found { value: "other".into(), version: 5 }),
        ];
        assert_eq!(found, expected);
        assert!(input.is_empty());
    }

    #[test]
    fn follow_asks_for_the_head_and_watches_from_there() {
        let mut protocol = Syncline::new(false);
        let mut output = BytesMut::new();
        protocol.encode(Slot(0), &Request::Follow { since: None }, &mut output).unwrap();
        assert_eq!(decode(&mut output), Ok(Decoded::Frame(Message::mark(Tag::new(1), Revision::ZERO))));
        let mut input = BytesMut::new();
        Message::mark(Tag::new(1), Revision::new(7)).encode(&mut input).unwrap();
        assert_eq!(protocol.decode(&mut input, &mut output).unwrap(), Some(Event::Nothing));
        assert_eq!(decode(&mut output), Ok(Decoded::Frame(Message::watch(Tag::new(1), PREFIX, Revision::new(7)))));
        assert_eq!(
            events(&mut protocol, &[Message::mark(Tag::new(1), Revision::new(8))]),
            [Event::Response(Slot(0), Response::Watermark { revision: 8 })]
        );
    }

    #[test]
    fn an_error_without_a_request_ends_the_measurement() {
        let mut input = BytesMut::new();
        Message::error(Tag::BROADCAST, "unavailable: too many connections").encode(&mut input).unwrap();
        let error = Syncline::new(false).decode(&mut input, &mut BytesMut::new()).unwrap_err();
        assert!(error.to_string().contains("too many connections"), "{error}");
    }
}
