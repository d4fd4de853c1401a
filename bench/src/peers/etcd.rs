//! etcd: gRPC over a raw socket, with a minimal implementation of HTTP/2 and protobuf.
//!
//! A gRPC library needs several times the processor time of the other adapters for each request. Load generator and
//! etcd share a machine, so etcd would lose that time.
//!
//! A GET is a Range of one key, linearizable by default. Compare-and-swap is a Txn on the key's `mod_revision`, which
//! serves as its version. Watching is a Watch of the prefix. Response headers are ignored, so no header table is kept.
//! A response that ends without a message is an error.

use super::protobuf::{Fields, bytes_field, number_field};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use syncline_load::{Error, Event, Link, PREFIX, Peer, Protocol, Request, Response, Slot};

/// How to connect to etcd.
#[derive(Clone)]
pub(crate) struct EtcdPeer {
    pub(crate) address: SocketAddr,
}

impl Peer for EtcdPeer {
    async fn open(&self) -> Result<Link, Error> {
        Link::open(self.address, Etcd::new(self.address.to_string())).await
    }

    fn counts(&self) -> bool {
        false
    }
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The HTTP/2 frame types that this module uses, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The lengths of the headers of a frame and of a gRPC message.
const FRAME_HEADER: usize = 9;
const MESSAGE_HEADER: usize = 5;

/// The longest accepted frame, which is the default of HTTP/2.
const MAX_FRAME: usize = 16_384;

/// The flow-control window that this side grants: the largest that HTTP/2 allows, so that the server never waits for
/// it.
const WINDOW: u32 = i32::MAX as u32;

/// The used part of the window at which it is renewed.
const RENEWED: u32 = 8 * 1024 * 1024;

/// The initial window for sending.
const FIRST_WINDOW: i64 = 65_535;

/// The request of an open stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Range(Slot),
    Txn(Slot),
    Watch(Slot),
}

/// An open stream, whose response is incomplete.
struct OpenStream {
    pending: Pending,
    /// The received part of an incomplete message.
    part: BytesMut,
    /// The bytes received since the window of a watch was last renewed.
    used: u32,
}

/// A connection.
struct Etcd {
    authority: String,
    next_stream: u32,
    open: HashMap<u32, OpenStream>,
    /// The remaining window for sending, and the frames that wait for it with their number of DATA bytes.
    window: i64,
    waiting: VecDeque<(Bytes, i64)>,
    used: u32,
    events: VecDeque<Event>,
    is_ready: bool,
}

fn frame(output: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    // At most MAX_FRAME.
    output.put_uint(length as u64, 3);
    output.put_u8(kind);
    output.put_u8(flags);
    output.put_u32(stream);
}

fn window_update(output: &mut BytesMut, stream: u32, by: u32) {
    frame(output, 4, WINDOW_UPDATE, 0, stream);
    output.put_u32(by);
}

/// Appends a literal header that is not added to the header table. Names and values must be shorter than 127 bytes.
fn literal(output: &mut BytesMut, name: &str, value: &str) {
    output.put_u8(0);
    for text in [name, value] {
        output.put_u8(u8::try_from(text.len()).unwrap_or(0));
        output.put_slice(text.as_bytes());
    }
}

impl Etcd {
    fn new(authority: String) -> Self {
        Self {
            authority,
            next_stream: 1,
            open: HashMap::new(),
            window: FIRST_WINDOW,
            waiting: VecDeque::new(),
            used: 0,
            events: VecDeque::new(),
            is_ready: false,
        }
    }

    /// Makes a call: headers and one message. The stream of a watch stays open.
    fn call(&mut self, path: &str, pending: Pending, message: &[u8], output: &mut BytesMut) {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.open.insert(stream, OpenStream { pending, part: BytesMut::new(), used: 0 });
        let mut headers = BytesMut::with_capacity(160);
        headers.put_u8(0x83); // :method POST
        headers.put_u8(0x86); // :scheme http
        literal(&mut headers, ":path", path);
        literal(&mut headers, ":authority", &self.authority);
        literal(&mut headers, "content-type", "application/grpc");
        literal(&mut headers, "te", "trailers");
        let length = MESSAGE_HEADER + message.len();
        let mut frames = BytesMut::with_capacity(2 * FRAME_HEADER + headers.len() + length);
        frame(&mut frames, headers.len(), HEADERS, END_HEADERS, stream);
        frames.put_slice(&headers);
        let flags = if matches!(pending, Pending::Watch(_)) { 0 } else { END_STREAM };
        frame(&mut frames, length, DATA, flags, stream);
        frames.put_u8(0);
        frames.put_u32(u32::try_from(message.len()).unwrap_or(0));
        frames.put_slice(message);
        self.waiting.push_back((frames.freeze(), i64::try_from(length).unwrap_or(i64::MAX)));
        self.send(output);
    }

    /// Sends waiting frames as far as the window allows.
    fn send(&mut self, output: &mut BytesMut) {
        while let Some((frames, length)) = self.waiting.front() {
            if *length > self.window {
                return;
            }
            self.window -= length;
            output.put_slice(frames);
            self.waiting.pop_front();
        }
    }

    /// Handles the DATA of a response.
    fn data(&mut self, stream: u32, payload: Bytes, output: &mut BytesMut) -> Result<(), Error> {
        let length = u32::try_from(payload.len()).unwrap_or(0);
        self.used += length;
        if self.used > RENEWED {
            window_update(output, 0, self.used);
            self.used = 0;
        }
        let Some(open) = self.open.get_mut(&stream) else { return Ok(()) };
        let is_watch = matches!(open.pending, Pending::Watch(_));
        if is_watch {
            open.used += length;
            if open.used > RENEWED {
                window_update(output, stream, open.used);
                open.used = 0;
            }
        }
        let pending = open.pending;
        let mut rest = payload;
        if !open.part.is_empty() {
            open.part.put_slice(&rest);
            rest = std::mem::take(&mut open.part).freeze();
        }
        loop {
            let length = rest.get(1..MESSAGE_HEADER).and_then(|length| length.first_chunk().copied());
            let Some(length) = length.map(|length| u32::from_be_bytes(length) as usize) else { break };
            if rest.len() < MESSAGE_HEADER + length {
                break;
            }
            rest.advance(MESSAGE_HEADER);
            message(pending, &rest.split_to(length), &mut self.events)?;
            if !is_watch {
                self.open.remove(&stream);
                return Ok(());
            }
        }
        if let Some(open) = self.open.get_mut(&stream) {
            open.part = BytesMut::from(&rest[..]);
        }
        Ok(())
    }
}

/// Handles a message of a response.
fn message(pending: Pending, message: &Bytes, events: &mut VecDeque<Event>) -> Result<(), Error> {
    let mut fields = Fields(message);
    match pending {
        Pending::Range(slot) => {
            let mut answer = Response::Missing;
            while let Some(field) = fields.next()? {
                if field.number == 2 {
                    let (value, version) = key_value(message, field.bytes)?;
                    answer = Response::Found { value, version };
                }
            }
            events.push_back(Event::Response(slot, answer));
        }
        Pending::Txn(slot) => {
            let (mut version, mut succeeded) = (0, false);
            while let Some(field) = fields.next()? {
                match field.number {
                    1 => version = revision(field.bytes)?,
                    2 => succeeded = field.value != 0,
                    _ => {}
                }
            }
            let answer = if succeeded { Response::Written { version } } else { Response::Stale };
            events.push_back(Event::Response(slot, answer));
        }
        Pending::Watch(slot) => {
            let mut at = 0;
            while let Some(field) = fields.next()? {
                match field.number {
                    1 => at = revision(field.bytes)?,
                    3 if field.value != 0 => {
                        events.push_back(Event::Response(slot, Response::Watermark { revision: at }))
                    }
                    4 if field.value != 0 => return Err(Error::Protocol("the watch was cancelled".into())),
                    11 => {
                        let mut event = Fields(field.bytes);
                        while let Some(field) = event.next()? {
                            if field.number == 2 {
                                let (value, version) = key_value(message, field.bytes)?;
                                events.push_back(Event::Change { value, place: Some(version) });
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Returns the revision in the header of a response.
fn revision(header: &[u8]) -> Result<u64, Error> {
    let mut fields = Fields(header);
    while let Some(field) = fields.next()? {
        if field.number == 3 {
            return Ok(field.value);
        }
    }
    Ok(0)
}

/// Returns the value and the `mod_revision` of a key. The value shares the memory of the message.
fn key_value(message: &Bytes, key_value: &[u8]) -> Result<(Bytes, u64), Error> {
    let (mut value, mut version) = (Bytes::new(), 0);
    let mut fields = Fields(key_value);
    while let Some(field) = fields.next()? {
        match field.number {
            3 => version = field.value,
            5 => value = message.slice_ref(field.bytes),
            _ => {}
        }
    }
    Ok((value, version))
}

impl Protocol for Etcd {
    fn greet(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        output.put_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(output, 12, SETTINGS, 0, 0);
        output.put_u16(2); // no push
        output.put_u32(0);
        output.put_u16(4); // the window of each stream
        output.put_u32(WINDOW);
        window_update(output, 0, WINDOW - 65_535);
        Ok(())
    }

    fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error> {
        let mut message = BytesMut::with_capacity(256);
        match request {
            Request::Get { key } => {
                bytes_field(&mut message, 1, key);
                self.call(RANGE, Pending::Range(slot), &message, output);
            }
            Request::Put { key, value, replaces } => {
                let mut compare = BytesMut::with_capacity(64);
                number_field(&mut compare, 2, 2); // its mod_revision; 1, result, is 0: equal
                bytes_field(&mut compare, 3, key);
                number_field(&mut compare, 6, *replaces);
                let mut put = BytesMut::with_capacity(160);
                bytes_field(&mut put, 1, key);
                bytes_field(&mut put, 2, value);
                let mut operation = BytesMut::with_capacity(170);
                bytes_field(&mut operation, 2, &put);
                bytes_field(&mut message, 1, &compare);
                bytes_field(&mut message, 2, &operation);
                self.call(TXN, Pending::Txn(slot), &message, output);
            }
            Request::Follow { since: None } => {
                let mut create = BytesMut::with_capacity(64);
                bytes_field(&mut create, 1, PREFIX.as_bytes());
                // The exclusive end of the range is the prefix with its last byte incremented.
                let end = PREFIX.replace('/', "0");
                bytes_field(&mut create, 2, end.as_bytes());
                bytes_field(&mut message, 1, &create);
                self.call(WATCH, Pending::Watch(slot), &message, output);
            }
            Request::Follow { since: Some(_) } | Request::Barrier => {
                return Err(Error::unexpected(
                    "a request that this load generator can send to etcd",
                    "another request",
                ));
            }
        }
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Event>, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let Some(&[high, middle, low, kind, flags, a, b, c, d]) = input.first_chunk::<FRAME_HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > MAX_FRAME {
            return Err(Error::Protocol(format!("a frame of {length} bytes")));
        }
        if input.len() < FRAME_HEADER + length {
            return Ok(None);
        }
        input.advance(FRAME_HEADER);
        let payload = input.split_to(length).freeze();
        let stream = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        match kind {
            DATA => self.data(stream, payload, output)?,
            HEADERS if flags & END_STREAM != 0 && self.open.contains_key(&stream) => {
                return Err(Error::Protocol("a response without a message".into()));
            }
            RST_STREAM if self.open.contains_key(&stream) => {
                return Err(Error::Protocol("a stream was reset".into()));
            }
            SETTINGS if flags & ACK == 0 => {
                frame(output, 0, SETTINGS, ACK, 0);
                if !self.is_ready {
                    self.is_ready = true;
                    return Ok(Some(Event::Ready));
                }
            }
            PING if flags & ACK == 0 => {
                frame(output, payload.len(), PING, ACK, 0);
                output.put_slice(&payload);
            }
            WINDOW_UPDATE if stream == 0 => {
                let by = payload.first_chunk().copied().map_or(0, u32::from_be_bytes);
                self.window += i64::from(by);
                self.send(output);
            }
            GOAWAY => return Err(Error::Closed),
            _ => {}
        }
        Ok(Some(self.events.pop_front().unwrap_or(Event::Nothing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(stream: u32, message: &[u8]) -> BytesMut {
        let mut output = BytesMut::new();
        frame(&mut output, MESSAGE_HEADER + message.len(), DATA, 0, stream);
        output.put_u8(0);
        output.put_u32(u32::try_from(message.len()).unwrap());
        output.put_slice(message);
        output
    }

    fn connection(requests: &[Request]) -> Etcd {
        let mut etcd = Etcd::new("localhost".into());
        for (slot, request) in (0..).zip(requests) {
            etcd.encode(Slot(slot), request, &mut BytesMut::new()).unwrap();
        }
        etcd
    }

    fn events(etcd: &mut Etcd, mut input: BytesMut) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = etcd.decode(&mut input, &mut BytesMut::new()).unwrap() {
            events.push(event);
        }
        events.retain(|event| *event != Event::Nothing);
        events
    }

    fn kept(version: u64, value: &[u8]) -> BytesMut {
        let mut kept = BytesMut::new();
        bytes_field(&mut kept, 1, b"k");
        number_field(&mut kept, 3, version);
        bytes_field(&mut kept, 5, value);
        kept
    }

    #[test]
    fn responses_may_arrive_out_of_order() {
        let get = Request::Get { key: "k".into() };
        let mut etcd =
            connection(&[get.clone(), get, Request::Put { key: "k".into(), value: "v".into(), replaces: 3 }]);
        let (mut found, mut header, mut written) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        bytes_field(&mut found, 2, &kept(300, b"v"));
        number_field(&mut header, 3, 301);
        bytes_field(&mut written, 1, &header);
        number_field(&mut written, 2, 1);
        let mut input = data(5, &written);
        input.unsplit(data(3, b""));
        input.unsplit(data(1, &found));
        let expected = [
            Event::Response(Slot(2), Response::Written { version: 301 }),
            Event::Response(Slot(1), Response::Missing),
            Event::Response(Slot(0), Response::Found { value: "v".into(), version: 300 }),
        ];
        assert_eq!(events(&mut etcd, input), expected);
    }

    #[test]
    fn a_watch_message_may_span_several_frames() {
        let mut etcd = connection(&[Request::Follow { since: None }]);
        let mut message = BytesMut::new();
        for version in [7, 8] {
            let mut event = BytesMut::new();
            bytes_field(&mut event, 2, &kept(version, b"v"));
            bytes_field(&mut message, 11, &event);
        }
        let whole = data(1, &message).split_off(FRAME_HEADER);
        let mut input = BytesMut::new();
        for part in whole.chunks(7) {
            frame(&mut input, part.len(), DATA, 0, 1);
            input.put_slice(part);
        }
        let change = |version| Event::Change { value: "v".into(), place: Some(version) };
        assert_eq!(events(&mut etcd, input), [change(7), change(8)]);
    }

    #[test]
    fn a_response_without_a_message_is_an_error() {
        let mut etcd = connection(&[Request::Get { key: "k".into() }]);
        let mut input = BytesMut::new();
        frame(&mut input, 0, HEADERS, END_STREAM | END_HEADERS, 1);
        assert!(etcd.decode(&mut input, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn no_more_is_sent_than_the_flow_control_window_allows() {
        let value = Bytes::from(vec![b'v'; 30_000]);
        let mut etcd = Etcd::new("localhost".into());
        let mut output = BytesMut::new();
        for slot in 0..3 {
            let put = Request::Put { key: "k".into(), value: value.clone(), replaces: 0 };
            etcd.encode(Slot(slot), &put, &mut output).unwrap();
        }
        assert!((60_000..65_535).contains(&output.len()), "{}", output.len());
        output.clear();
        let mut input = BytesMut::new();
        window_update(&mut input, 0, 60_000);
        etcd.decode(&mut input, &mut output).unwrap();
        assert!((30_000..31_000).contains(&output.len()), "{}", output.len());
    }
}
