//! Redis: RESP2 over a raw socket.
//!
//! A key stores its version (8 bytes) followed by the value. A plain GET, the fastest read of Redis, thus returns both.
//! Compare-and-swap is a script that compares those 8 bytes. The load generator prepares the new bytes, so the script
//! does as little as possible. Redis sends responses in the order of the requests.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use syncline_load::{Error, Event, Link, Peer, Protocol, Request, Response, Slot};

/// How Redis is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Compare-and-swap.
    Swap,
    /// Compare-and-swap by a script that also publishes the value.
    SwapAndPublish,
    /// PUBLISH only, which stores nothing.
    Publish,
}

/// How to connect to Redis.
#[derive(Clone)]
pub(crate) struct RedisPeer {
    pub(crate) address: SocketAddr,
    pub(crate) mode: Mode,
}

impl Peer for RedisPeer {
    async fn open(&self) -> Result<Link, Error> {
        Link::open(self.address, Redis { mode: self.mode, sha: Bytes::new(), pending: VecDeque::new() }).await
    }

    fn counts(&self) -> bool {
        true
    }
}

/// The channel of published values.
const CHANNEL: &[u8] = b"syncline-bench";

/// The length of the version in front of a value.
const VERSION: usize = 8;

const SWAP: &str = "if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1";

const SWAP_AND_PUBLISH: &str = "if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', 'syncline-bench', ARGV[2])
return 1";

/// The longest accepted bulk string.
const MAX_BULK: usize = 1024 * 1024;

/// A request without a response so far.
enum Pending {
    Script,
    Get(Slot),
    Put(Slot, u64),
    Follow(Slot),
}

/// A connection.
struct Redis {
    mode: Mode,
    /// The hash by which the script is called.
    sha: Bytes,
    pending: VecDeque<Pending>,
}

/// Appends a command.
fn command<const N: usize>(output: &mut BytesMut, words: [&[u8]; N]) {
    header(output, b'*', N);
    for word in words {
        header(output, b'$', word.len());
        output.put_slice(word);
        output.put_slice(b"\r\n");
    }
}

fn header(output: &mut BytesMut, kind: u8, number: usize) {
    output.put_u8(kind);
    put_decimal(output, number);
    output.put_slice(b"\r\n");
}

/// Appends a number in decimal digits. Faster than the formatting of the standard library.
pub(super) fn put_decimal(output: &mut BytesMut, mut number: usize) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b"0123456789".get(number % 10).copied().unwrap_or(b'0');
        start = place;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.put_slice(digits.get(start..).unwrap_or_default());
}

/// Returns the stored bytes of a version and how many of them count: none for a key that does not exist.
fn stored(version: u64) -> ([u8; VERSION], usize) {
    (version.to_le_bytes(), if version == 0 { 0 } else { VERSION })
}

impl Protocol for Redis {
    fn greet(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        let script = if self.mode == Mode::SwapAndPublish { SWAP_AND_PUBLISH } else { SWAP };
        command(output, [b"SCRIPT", b"LOAD", script.as_bytes()]);
        self.pending.push_back(Pending::Script);
        Ok(())
    }

    fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error> {
        match request {
            Request::Get { key } => {
                command(output, [b"GET", key]);
                self.pending.push_back(Pending::Get(slot));
            }
            Request::Put { key, value, replaces } => {
                let version = replaces + 1;
                let mut kept = BytesMut::with_capacity(VERSION + value.len());
                kept.put_u64_le(version);
                kept.put_slice(value);
                if self.mode == Mode::Publish {
                    command(output, [b"PUBLISH", CHANNEL, &kept]);
                } else {
                    let (old, length) = stored(*replaces);
                    let old = old.get(..length).unwrap_or_default();
                    command(output, [b"EVALSHA", &self.sha, b"1", key, old, &kept]);
                }
                self.pending.push_back(Pending::Put(slot, version));
            }
            Request::Follow { since: None } => {
                command(output, [b"SUBSCRIBE", CHANNEL]);
                self.pending.push_back(Pending::Follow(slot));
            }
            Request::Follow { since: Some(_) } | Request::Barrier => {
                return Err(Error::unexpected("a request that Redis supports", "one to resume from a revision"));
            }
        }
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut, _output: &mut BytesMut) -> Result<Option<Event>, Error> {
        let Some(&kind) = input.first() else { return Ok(None) };
        if kind == b'*' {
            return self.pushed(input);
        }
        let Some((number, start)) = line(input, 0) else { return Ok(None) };
        let bulk = match (kind, decimal(number)) {
            (b'$', Some(-1)) => Reply::Nil,
            (b'$', Some(length)) => {
                let length = bounded(length)?;
                if input.len() < start + length + 2 {
                    return Ok(None);
                }
                let mut frame = input.split_to(start + length + 2);
                frame.advance(start);
                frame.truncate(length);
                return self.response(Reply::Bulk(frame.freeze())).map(Some);
            }
            (b':', Some(number)) => Reply::Number(number),
            _ => return Err(Error::Protocol(String::from_utf8_lossy(input.get(..start).unwrap_or(input)).into())),
        };
        input.advance(start);
        self.response(bulk).map(Some)
    }
}

/// A reply of Redis.
enum Reply {
    Nil,
    Number(i64),
    Bulk(Bytes),
}

impl Redis {
    fn response(&mut self, reply: Reply) -> Result<Event, Error> {
        let pending = self.pending.pop_front().ok_or_else(|| Error::Protocol("a response without a request".into()))?;
        Ok(match (pending, reply) {
            (Pending::Script, Reply::Bulk(sha)) => {
                self.sha = sha;
                Event::Ready
            }
            (Pending::Get(slot), Reply::Nil) => Event::Response(slot, Response::Missing),
            (Pending::Get(slot), Reply::Bulk(mut value)) if value.len() >= VERSION => {
                let version = value.get_u64_le();
                Event::Response(slot, Response::Found { value, version })
            }
            // The number is that of the subscribers. Watchers count the messages themselves.
            (Pending::Put(slot, version), Reply::Number(_)) if self.mode == Mode::Publish => {
                Event::Response(slot, Response::Written { version })
            }
            (Pending::Put(slot, version), Reply::Number(1)) => Event::Response(slot, Response::Written { version }),
            (Pending::Put(slot, _), Reply::Number(0)) => Event::Response(slot, Response::Stale),
            _ => return Err(Error::Protocol("a response of another type than the request has".into())),
        })
    }

    /// Handles a message of a channel or the response to SUBSCRIBE: `*3`, twice `$…`, and either `$…` or `:…`.
    fn pushed(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        let Some((number, mut at)) = line(input, 0) else { return Ok(None) };
        if decimal(number) != Some(3) {
            return Err(Error::Protocol("an array of other than 3".into()));
        }
        for _ in 0..2 {
            let Some((number, start)) = line(input, at) else { return Ok(None) };
            at = start + bounded(decimal(number).unwrap_or(-1))? + 2;
        }
        let Some((number, start)) = line(input, at) else { return Ok(None) };
        let number = decimal(number).ok_or_else(|| Error::Protocol("expected a number".into()))?;
        if input.get(at) == Some(&b':') {
            input.advance(start);
            return match self.pending.pop_front() {
                Some(Pending::Follow(slot)) => Ok(Some(Event::Response(slot, Response::Watermark { revision: 0 }))),
                _ => Err(Error::Protocol("a subscription without a request".into())),
            };
        }
        let length = bounded(number)?;
        if input.len() < start + length + 2 {
            return Ok(None);
        }
        let mut frame = input.split_to(start + length + 2);
        frame.advance(start + VERSION.min(length));
        frame.truncate(length.saturating_sub(VERSION));
        Ok(Some(Event::Change { value: frame.freeze(), place: None }))
    }
}

/// Returns the text from after the byte at `at` to the end of the line, and the position of the next line.
fn line(input: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = input.get(at + 1..)?;
    let length = rest.iter().position(|&byte| byte == b'\r')?;
    (rest.len() > length + 1).then(|| rest.get(..length).map(|line| (line, at + 1 + length + 2)))?
}

fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn bounded(length: i64) -> Result<usize, Error> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_BULK)
        .ok_or_else(|| Error::Protocol(format!("a string of {length} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(mode: Mode) -> Redis {
        Redis { mode, sha: "abc".into(), pending: VecDeque::new() }
    }

    fn events(redis: &mut Redis, input: &[u8]) -> Vec<Event> {
        // Byte by byte: an incomplete frame must never be decoded.
        let mut buffer = BytesMut::new();
        let mut events = Vec::new();
        for byte in input {
            buffer.put_u8(*byte);
            events.extend(redis.decode(&mut buffer, &mut BytesMut::new()).unwrap());
        }
        assert!(buffer.is_empty());
        events
    }

    #[test]
    fn a_write_sends_the_version_that_it_replaces() {
        let mut output = BytesMut::new();
        let put = |replaces| Request::Put { key: "k".into(), value: "v".into(), replaces };
        connection(Mode::Swap).encode(Slot(0), &put(0), &mut output).unwrap();
        let first =
            b"*6\r\n$7\r\nEVALSHA\r\n$3\r\nabc\r\n$1\r\n1\r\n$1\r\nk\r\n$0\r\n\r\n$9\r\n\x01\0\0\0\0\0\0\0v\r\n";
        assert_eq!(output.as_ref(), first);
        output.clear();
        connection(Mode::Swap).encode(Slot(0), &put(1), &mut output).unwrap();
        assert!(output.ends_with(b"$8\r\n\x01\0\0\0\0\0\0\0\r\n$9\r\n\x02\0\0\0\0\0\0\0v\r\n"));
    }

    #[test]
    fn responses_arrive_in_the_order_of_requests() {
        let mut redis = connection(Mode::Swap);
        let mut output = BytesMut::new();
        let requests = [
            Request::Get { key: "k".into() },
            Request::Get { key: "k".into() },
            Request::Put { key: "k".into(), value: "v".into(), replaces: 4 },
            Request::Put { key: "k".into(), value: "v".into(), replaces: 4 },
        ];
        for (slot, request) in (0..).zip(&requests) {
            redis.encode(Slot(slot), request, &mut output).unwrap();
        }
        let found = events(&mut redis, b"$9\r\n\x04\0\0\0\0\0\0\0v\r\n$-1\r\n:1\r\n:0\r\n");
        let expected = [
            Event::Response(Slot(0), Response::Found { value: "v".into(), version: 4 }),
            Event::Response(Slot(1), Response::Missing),
            Event::Response(Slot(2), Response::Written { version: 5 }),
            Event::Response(Slot(3), Response::Stale),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_published_message_is_a_change() {
        let mut redis = connection(Mode::SwapAndPublish);
        redis.encode(Slot(3), &Request::Follow { since: None }, &mut BytesMut::new()).unwrap();
        let found = events(
            &mut redis,
            b"*3\r\n$9\r\nsubscribe\r\n$14\r\nsyncline-bench\r\n:1\r\n\
              *3\r\n$7\r\nmessage\r\n$14\r\nsyncline-bench\r\n$9\r\n\x04\0\0\0\0\0\0\0v\r\n",
        );
        let expected = [
            Event::Response(Slot(3), Response::Watermark { revision: 0 }),
            Event::Change { value: "v".into(), place: None },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_error_reply_is_an_error() {
        let mut input = BytesMut::from(&b"-NOSCRIPT No matching script.\r\n"[..]);
        let error = connection(Mode::Swap).decode(&mut input, &mut BytesMut::new()).unwrap_err();
        assert!(error.to_string().contains("NOSCRIPT"), "{error}");
    }

    #[test]
    fn numbers_are_encoded_as_decimal_digits() {
        for (number, expected) in
            [(0, "0"), (9, "9"), (10, "10"), (65_535, "65535"), (usize::MAX, "18446744073709551615")]
        {
            let mut output = BytesMut::new();
            put_decimal(&mut output, number);
            assert_eq!(output.as_ref(), expected.as_bytes());
        }
    }
}
