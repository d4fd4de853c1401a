//! NATS: its text protocol over a raw socket, and the JetStream API behind key-value buckets.
//!
//! A bucket is a stream with a subject for each key. A GET is a direct get of a subject's last message.
//! Compare-and-swap is a message with the expected sequence number of the subject's last message, as `update` of the
//! client libraries sends it. That sequence number serves as the key's version. Watching is an ephemeral push consumer
//! with flow control.
//!
//! Responses arrive in any order, each on the subject of its slot. Core NATS does not acknowledge messages, so a PING
//! follows each of them: its PONG shows that the server has processed the message.

use super::redis::put_decimal;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use syncline_load::{Error, Event, Link, Peer, Protocol, Request, Response, Slot};

/// How NATS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As a key-value store.
    Bucket,
    /// As a key-value store that is created first.
    NewBucket,
    /// As a broker of messages that nothing stores.
    Core,
}

/// How to connect to NATS.
#[derive(Clone)]
pub(crate) struct NatsPeer {
    pub(crate) address: SocketAddr,
    pub(crate) mode: Mode,
}

impl Peer for NatsPeer {
    async fn open(&self) -> Result<Link, Error> {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let inbox = format!("_INBOX.{}-{number}.", std::process::id());
        Link::open(self.address, Nats { mode: self.mode, inbox, pending: VecDeque::new() }).await
    }

    fn counts(&self) -> bool {
        self.mode == Mode::Core
    }
}

/// The number of connections so far, which makes their subjects unique.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// The subject of messages that nothing stores.
const SUBJECT: &str = "syncline-bench";

/// The subscriptions of a connection: to responses and to changes.
const RESPONSES: &[u8] = b"1";
const CHANGES: &[u8] = b"2";

/// The slot of the request that creates a bucket.
const CREATE_SLOT: u16 = u16::MAX;

const CONNECT: &str = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1,"lang":"rust","version":"1"}"#;

/// The configuration that `nats kv add` creates.
const BUCKET: &str = r#"{"name":"KV_bench","subjects":["$KV.bench.>"],"max_msgs_per_subject":1,"storage":"file","allow_direct":true,"allow_rollup_hdrs":true,"deny_delete":true,"discard":"new","num_replicas":1,"retention":"limits","max_consumers":100000,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msg_size":-1}"#;

/// The longest accepted message.
const MAX_MESSAGE: usize = 1024 * 1024;

/// The request that the next PONG completes.
enum Pending {
    Greeting,
    Written(Slot, u64),
    Follow(Slot),
}

/// A connection.
struct Nats {
    mode: Mode,
    inbox: String,
    pending: VecDeque<Pending>,
}

impl Nats {
    fn reply_to(&self, slot: u16, output: &mut BytesMut) {
        output.put_slice(self.inbox.as_bytes());
        put_decimal(output, slot.into());
    }

    /// Appends a message with a reply subject.
    fn request(&self, slot: u16, subject: &[&[u8]], payload: &[u8], output: &mut BytesMut) {
        output.put_slice(b"PUB ");
        for part in subject {
            output.put_slice(part);
        }
        output.put_u8(b' ');
        self.reply_to(slot, output);
        output.put_u8(b' ');
        put_decimal(output, payload.len());
        output.put_slice(b"\r\n");
        output.put_slice(payload);
        output.put_slice(b"\r\n");
    }

    fn ping(&mut self, pending: Pending, output: &mut BytesMut) {
        output.put_slice(b"PING\r\n");
        self.pending.push_back(pending);
    }

    /// Returns the event of a message on the subscription to responses.
    fn response(&self, subject: &[u8], headers: &[u8], payload: Bytes) -> Result<Event, Error> {
        let slot = subject.get(self.inbox.len()..).and_then(decimal).and_then(|slot| u16::try_from(slot).ok());
        let slot = slot.ok_or_else(|| Error::Protocol("a response without a request".into()))?;
        if headers.starts_with(b"NATS/1.0 404") {
            return Ok(Event::Response(Slot(slot), Response::Missing));
        }
        if headers.starts_with(b"NATS/1.0 5") {
            return Err(Error::Protocol(String::from_utf8_lossy(headers).trim().to_owned()));
        }
        if let Some(version) = number_after(headers, b"Nats-Sequence: ") {
            return Ok(Event::Response(Slot(slot), Response::Found { value: payload, version }));
        }
        if find(&payload, b"\"error\"").is_some() {
            if find(&payload, b"10071").is_some() {
                return Ok(Event::Response(Slot(slot), Response::Stale));
            }
            return Err(Error::Protocol(String::from_utf8_lossy(&payload).into_owned()));
        }
        if slot == CREATE_SLOT {
            return Ok(Event::Ready);
        }
        Ok(match number_after(&payload, b"\"seq\":") {
            Some(version) if find(&payload, b"consumer_create").is_none() => {
                Event::Response(Slot(slot), Response::Written { version })
            }
            _ => Event::Response(Slot(slot), Response::Watermark { revision: 0 }),
        })
    }

    fn pong(&mut self) -> Result<Event, Error> {
        Ok(match self.pending.pop_front() {
            Some(Pending::Greeting) if self.mode == Mode::NewBucket => Event::Nothing,
            Some(Pending::Greeting) => Event::Ready,
            Some(Pending::Written(slot, version)) => Event::Response(slot, Response::Written { version }),
            Some(Pending::Follow(slot)) => Event::Response(slot, Response::Watermark { revision: 0 }),
            None => return Err(Error::Protocol("a PONG without a PING".into())),
        })
    }
}

impl Protocol for Nats {
    fn greet(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        output.put_slice(format!("{CONNECT}\r\nSUB {}* 1\r\n", self.inbox).as_bytes());
        self.ping(Pending::Greeting, output);
        if self.mode == Mode::NewBucket {
            self.request(CREATE_SLOT, &[b"$JS.API.STREAM.CREATE.KV_bench"], BUCKET.as_bytes(), output);
        }
        Ok(())
    }

    fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error> {
        match request {
            Request::Put { value, replaces, .. } if self.mode == Mode::Core => {
                output.put_slice(format!("PUB {SUBJECT} {}\r\n", value.len()).as_bytes());
                output.put_slice(value);
                output.put_slice(b"\r\n");
                self.ping(Pending::Written(slot, replaces + 1), output);
            }
            Request::Follow { since: None } if self.mode == Mode::Core => {
                output.put_slice(format!("SUB {SUBJECT} 2\r\n").as_bytes());
                self.ping(Pending::Follow(slot), output);
            }
            Request::Get { key } => {
                self.request(slot.0, &[b"$JS.API.DIRECT.GET.KV_bench.$KV.bench.", key], b"", output);
            }
            Request::Put { key, value, replaces } => {
                let mut headers = BytesMut::with_capacity(80);
                headers.put_slice(b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: ");
                put_decimal(&mut headers, usize::try_from(*replaces).unwrap_or(usize::MAX));
                headers.put_slice(b"\r\n\r\n");
                output.put_slice(b"HPUB $KV.bench.");
                output.put_slice(key);
                output.put_u8(b' ');
                self.reply_to(slot.0, output);
                output.put_u8(b' ');
                put_decimal(output, headers.len());
                output.put_u8(b' ');
                put_decimal(output, headers.len() + value.len());
                output.put_slice(b"\r\n");
                output.put_slice(&headers);
                output.put_slice(value);
                output.put_slice(b"\r\n");
            }
            Request::Follow { since: None } => {
                let subject = format!("_WATCH.{}", self.inbox.trim_end_matches('.'));
                output.put_slice(format!("SUB {subject} 2\r\n").as_bytes());
                let consumer = format!(
                    r#"{{"stream_name":"KV_bench","config":{{"deliver_subject":"{subject}","deliver_policy":"new","ack_policy":"none","max_deliver":1,"replay_policy":"instant","filter_subject":"$KV.bench.>","flow_control":true,"idle_heartbeat":5000000000,"mem_storage":true,"num_replicas":1}}}}"#
                );
                self.request(slot.0, &[b"$JS.API.CONSUMER.CREATE.KV_bench"], consumer.as_bytes(), output);
            }
            Request::Follow { since: Some(_) } | Request::Barrier => {
                return Err(Error::unexpected("a request that NATS supports", "one to resume from a revision"));
            }
        }
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Event>, Error> {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line = input.get(..end).unwrap_or_default().trim_ascii_end();
        if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
            return self.message(end + 1, input, output);
        }
        let event = match line {
            b"PONG" => self.pong()?,
            b"PING" => {
                output.put_slice(b"PONG\r\n");
                Event::Nothing
            }
            line if line.starts_with(b"INFO ") || line == b"+OK" => Event::Nothing,
            other => return Err(Error::Protocol(String::from_utf8_lossy(other).into_owned())),
        };
        input.advance(end + 1);
        Ok(Some(event))
    }
}

impl Nats {
    /// Handles `MSG subject sid [reply] bytes` or `HMSG subject sid [reply] header-bytes bytes`. The payload begins at
    /// `start`, after that line.
    fn message(&mut self, start: usize, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Event>, Error> {
        let line = input.get(..start).unwrap_or_default();
        let wrong = || Error::Protocol(String::from_utf8_lossy(line).into_owned());
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let has_headers = words.next() == Some(b"HMSG");
        let (subject, subscription) = (words.next().ok_or_else(wrong)?, words.next().ok_or_else(wrong)?);
        let length = words.next_back().and_then(decimal).filter(|length| *length <= MAX_MESSAGE as u64);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
        let headers = match has_headers {
            true => words.next_back().and_then(decimal).and_then(|length| usize::try_from(length).ok()),
            false => Some(0),
        };
        let headers = headers.filter(|headers| *headers <= length).ok_or_else(wrong)?;
        if input.len() < start + length + 2 {
            return Ok(None);
        }
        let is_change = subscription == CHANGES;
        if !is_change && subscription != RESPONSES {
            return Err(wrong());
        }
        let whole = input.get(start..start + headers).unwrap_or_default();
        if is_change && whole.starts_with(b"NATS/1.0 100") {
            // The server requests flow control by a reply subject or, in a heartbeat, by a header.
            let stalled = find(whole, b"Nats-Consumer-Stalled: ").and_then(|at| whole.get(at..));
            let stalled = stalled.and_then(|text| text.split(|byte| *byte == b'\r').next());
            if let Some(reply) = stalled.or_else(|| words.next()) {
                output.put_slice(b"PUB ");
                output.put_slice(reply);
                output.put_slice(b" 0\r\n\r\n");
            }
            input.advance(start + length + 2);
            return Ok(Some(Event::Nothing));
        }
        if is_change {
            input.advance(start + headers);
            let value = input.split_to(length - headers).freeze();
            input.advance(2);
            return Ok(Some(Event::Change { value, place: None }));
        }
        let subject = Bytes::copy_from_slice(subject);
        let frame = input.split_to(start + length + 2).freeze();
        let head = frame.get(start..start + headers).unwrap_or_default();
        let payload = frame.slice(start + headers..start + length);
        self.response(&subject, head, payload).map(Some)
    }
}

/// Returns the position after the first occurrence of a text.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted).map(|at| at + wanted.len())
}

/// Returns the number after the first occurrence of a text.
fn number_after(text: &[u8], wanted: &[u8]) -> Option<u64> {
    let rest = text.get(find(text, wanted)?..)?.trim_ascii_start();
    let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    decimal(rest.get(..length)?)
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(mode: Mode) -> Nats {
        Nats { mode, inbox: "_INBOX.1.".into(), pending: VecDeque::new() }
    }

    fn events(nats: &mut Nats, input: &[u8]) -> (Vec<Event>, BytesMut) {
        // Byte by byte: an incomplete message must never be decoded.
        let (mut buffer, mut output) = (BytesMut::new(), BytesMut::new());
        let mut events = Vec::new();
        for byte in input {
            buffer.put_u8(*byte);
            events.extend(nats.decode(&mut buffer, &mut output).unwrap());
        }
        assert!(buffer.is_empty());
        (events, output)
    }

    #[test]
    fn responses_name_the_slot_of_their_request() {
        let head = b"NATS/1.0\r\nNats-Stream: KV_bench\r\nNats-Sequence: 12\r\n\r\n";
        let missing = b"NATS/1.0 404 Message Not Found\r\n\r\n";
        let mut input = format!("HMSG _INBOX.1.7 1 {} {}\r\n", head.len(), head.len() + 1).into_bytes();
        input.extend_from_slice(head);
        input.extend_from_slice(b"v\r\n");
        input.extend_from_slice(format!("HMSG _INBOX.1.8 1 {0} {0}\r\n", missing.len()).as_bytes());
        input.extend_from_slice(missing);
        input.extend_from_slice(b"\r\n");
        for text in [r#"{"stream":"KV_bench","seq":13}"#, r#"{"error":{"code":400,"err_code":10071},"seq":0}"#] {
            input.extend_from_slice(format!("MSG _INBOX.1.9 1 {}\r\n{text}\r\n", text.len()).as_bytes());
        }
        let expected = [
            Event::Response(Slot(7), Response::Found { value: "v".into(), version: 12 }),
            Event::Response(Slot(8), Response::Missing),
            Event::Response(Slot(9), Response::Written { version: 13 }),
            Event::Response(Slot(9), Response::Stale),
        ];
        assert_eq!(events(&mut connection(Mode::Bucket), &input).0, expected);
    }

    #[test]
    fn flow_control_requests_get_a_reply_and_are_not_changes() {
        let head = "NATS/1.0 100 FlowControl Request\r\n\r\n";
        let input =
            format!("HMSG _WATCH.1 2 $JS.FC.x {0} {0}\r\n{head}\r\nMSG $KV.bench.k 2 $JS.ACK.y 1\r\nv\r\n", head.len());
        let (found, output) = events(&mut connection(Mode::Bucket), input.as_bytes());
        assert_eq!(found, [Event::Nothing, Event::Change { value: "v".into(), place: None }]);
        assert_eq!(output.as_ref(), b"PUB $JS.FC.x 0\r\n\r\n");
    }

    #[test]
    fn a_pong_acknowledges_a_core_nats_message() {
        let mut nats = connection(Mode::Core);
        let mut output = BytesMut::new();
        let put = Request::Put { key: "k".into(), value: "v".into(), replaces: 4 };
        nats.encode(Slot(3), &put, &mut output).unwrap();
        assert_eq!(output.as_ref(), b"PUB syncline-bench 1\r\nv\r\nPING\r\n");
        let (found, _) = events(&mut nats, b"PONG\r\n");
        assert_eq!(found, [Event::Response(Slot(3), Response::Written { version: 5 })]);
    }
}
