//! Every row of the protocol's test vectors, encoded and decoded.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use syncline_wire::{
    DecodeError, Decoded, Decoder, Encoder, Message, Operation, Revision, ServerHello, Tag, Version, decode,
};

fn rows(json: &str) -> Vec<Value> {
    let Value::Array(rows) = serde_json::from_str(json).unwrap() else { panic!("not an array") };
    rows
}

fn hex(row: &Value, field: &str) -> Vec<u8> {
    let digits = row[field].as_str().unwrap_or_else(|| panic!("{row} has no {field}"));
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_str().unwrap_or_else(|| panic!("{row} has no {field}")).parse().unwrap()
}

fn small(row: &Value, field: &str) -> u32 {
    row[field].as_u64().unwrap_or_else(|| panic!("{row} has no {field}")).try_into().unwrap()
}

fn operation(row: &Value) -> Operation {
    let (key, version) = (hex(row, "key_hex").into(), Version::new(number(row, "version")));
    match row["op"].as_str().unwrap() {
        "CHECK" => Operation::Check { key, version },
        "PUT" => Operation::Put { key, value: hex(row, "value_hex").into(), version },
        "DELETE" => Operation::Delete { key, version },
        other => panic!("unknown operation {other}"),
    }
}

fn message(row: &Value) -> Message {
    let tag = Tag::new(row["tag"].as_u64().unwrap().try_into().unwrap());
    let version = |row| Version::new(number(row, "version"));
    match row["kind"].as_str().unwrap() {
        "GET" => Message::get(tag, hex(row, "key_hex")),
        "PUT" => Message::put(tag, hex(row, "key_hex"), hex(row, "value_hex"), version(row)),
        "ERROR" => Message::error(tag, hex(row, "text_hex")),
        "AUTH" => Message::auth(tag, hex(row, "password_hex")),
        "HELLO" => Message::hello(tag, hex(row, "value_hex")),
        "DELETE" => Message::delete(tag, hex(row, "key_hex"), version(row)),
        "WATCH" => Message::watch(tag, hex(row, "prefix_hex"), Revision::new(number(row, "since"))),
        "MARK" => Message::mark(tag, Revision::new(number(row, "revision"))),
        "LIST" => Message::list(tag, hex(row, "prefix_hex"), hex(row, "after_hex"), small(row, "limit")),
        "TXN" => Message::txn(tag, row["ops"].as_array().unwrap().iter().map(operation).collect()),
        "PUTL" => Message::put_large(tag, hex(row, "key_hex"), hex(row, "value_hex"), version(row)),
        "STATUS" => Message::status(tag, hex(row, "value_hex")),
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn base_vectors_are_encoded_and_decoded() {
    let rows = rows(include_str!("vectors/base.json"));
    assert_eq!(rows.len(), 19, "rows of base.json");
    check_encoding_and_decoding(&rows);
}

#[test]
fn extension_vectors_are_encoded_and_decoded() {
    let rows = rows(include_str!("vectors/extension.json"));
    assert_eq!(rows.len(), 11, "rows of extension.json");
    check_encoding_and_decoding(&rows);
}

#[test]
fn the_server_hello_vector_is_encoded_and_decoded() {
    let rows = rows(include_str!("vectors/extension.json"));
    let row = rows.iter().find(|row| row["name"] == "hello, answer").unwrap();
    let hello = ServerHello {
        protocol: small(row, "protocol").try_into().unwrap(),
        features: small(row, "features"),
        store_id: hex(row, "store_id_hex").try_into().unwrap(),
        head: Revision::new(number(row, "head")),
        heartbeat_ms: small(row, "heartbeat_ms"),
        max_key: small(row, "max_key").try_into().unwrap(),
        max_entry: small(row, "max_entry"),
    };
    assert_eq!(hello.encode(), hex(row, "value_hex"));
    assert_eq!(ServerHello::decode(&hex(row, "value_hex")), Ok(hello));
}

fn check_encoding_and_decoding(rows: &[Value]) {
    let mut stream = Vec::new();
    let mut messages = Vec::new();
    for row in rows {
        let (name, frame, message) = (&row["name"], hex(row, "frame_hex"), message(row));

        let mut encoded = BytesMut::new();
        message.encode(&mut encoded).unwrap();
        assert_eq!(encoded, frame, "encoding {name}");
        assert_eq!(message.encoded_length(), frame.len(), "length of {name}");

        let mut buffer = BytesMut::from(frame.as_slice());
        assert_eq!(decode(&mut buffer), Ok(Decoded::Frame(message.clone())), "decoding {name}");
        assert!(buffer.is_empty(), "{name} left bytes behind");

        stream.extend_from_slice(&frame);
        messages.push(message);
    }

    // All rows over one stream.
    let mut encoder = Encoder::new(Vec::new());
    messages.iter().for_each(|message| encoder.write(message).unwrap());
    assert_eq!(encoder.into_inner(), stream);
    let mut decoder = Decoder::new(stream.as_slice());
    for message in messages {
        assert_eq!(decoder.read().unwrap(), Some(message));
    }
    assert_eq!(decoder.read().unwrap(), None);
}

#[test]
fn malformed_vectors_are_incomplete_or_refused() {
    let rows = rows(include_str!("vectors/malformed.json"));
    assert_eq!(rows.len(), 10, "rows of malformed.json");
    for row in &rows {
        let (name, input) = (&row["name"], hex(row, "input_hex"));
        let mut buffer = BytesMut::from(input.as_slice());
        let found = decode(&mut buffer);
        match row["expect"].as_str().unwrap() {
            "incomplete" => {
                let Ok(Decoded::Incomplete { expected }) = found else { panic!("{name}: {found:?}") };
                assert!(expected > input.len(), "{name}: expects {expected} bytes of {}", input.len());
            }
            "unknown kind" => {
                let tag = Tag::new(u16::from_le_bytes([input[1], input[2]]));
                assert_eq!(found, Err(DecodeError::UnknownKind { kind: input[0], tag }), "{name}");
            }
            other => panic!("{name} expects {other}"),
        }
        assert_eq!(Bytes::from(buffer), input, "{name}: the buffer was changed");
    }
}
