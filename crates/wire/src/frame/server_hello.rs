//! The body of the response to HELLO, in which a server describes itself.
//!
//! ```text
//!  0          2          6                22      30           34        36          40
//!  ┌──────────┬──────────┬────────────────┬───────┬────────────┬─────────┬───────────┬─────────┐
//!  │ protocol │ features │    store id    │ head  │ heartbeat  │ max key │ max entry │ later … │
//!  └──────────┴──────────┴────────────────┴───────┴────────────┴─────────┴───────────┴─────────┘
//! ```

use crate::Revision;
use bytes::{Buf, BufMut, Bytes};
use std::time::Duration;
use thiserror::Error;

/// The description of a server: the body of its HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version of the extended protocol that the server speaks.
    pub protocol: u16,
    /// Optional features, one bit each. No bit has a meaning yet.
    pub features: u32,
    /// Identifies the history of the store. Revisions of different histories cannot be compared.
    pub store_id: [u8; 16],
    /// The newest revision of the store.
    pub head: Revision,
    /// The longest time between two MARKs on a connection that watches, in milliseconds.
    pub heartbeat_ms: u32,
    /// The longest key that the server accepts, in bytes.
    pub max_key: u16,
    /// The most bytes of key and value together that the server accepts.
    pub max_entry: u32,
}

/// A body of HELLO that is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer to HELLO is too short: expected at least {expected} bytes, found {found}")]
pub struct TruncatedHello {
    /// The least length of the body.
    pub expected: usize,
    /// The length of the body.
    pub found: usize,
}

impl ServerHello {
    /// The version of the extended protocol that this crate speaks.
    pub const PROTOCOL: u16 = 1;
    /// The least length of the body, in bytes.
    pub const LENGTH: usize = 40;

    /// After how many heartbeats without a byte a connection is dead.
    const HEARTBEATS: u32 = 3;

    /// Returns after how long without a byte from the server a watching client considers the connection dead.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into()) * Self::HEARTBEATS
    }

    /// Returns the body of the HELLO.
    pub fn encode(&self) -> Bytes {
        let mut body = Vec::with_capacity(Self::LENGTH);
        body.put_u16_le(self.protocol);
        body.put_u32_le(self.features);
        body.put_slice(&self.store_id);
        body.put_u64_le(self.head.get());
        body.put_u32_le(self.heartbeat_ms);
        body.put_u16_le(self.max_key);
        body.put_u32_le(self.max_entry);
        body.into()
    }

    /// Decodes the body of a HELLO. Ignores further bytes, which a newer protocol may append.
    ///
    /// # Errors
    /// [`TruncatedHello`] if the body is too short.
    pub fn decode(mut body: &[u8]) -> Result<Self, TruncatedHello> {
        if body.len() < Self::LENGTH {
            return Err(TruncatedHello { expected: Self::LENGTH, found: body.len() });
        }
        // None of these can panic: together they read `LENGTH` bytes.
        let protocol = body.get_u16_le();
        let features = body.get_u32_le();
        let mut store_id = [0; 16];
        body.copy_to_slice(&mut store_id);
        Ok(Self {
            protocol,
            features,
            store_id,
            head: Revision::new(body.get_u64_le()),
            heartbeat_ms: body.get_u32_le(),
            max_key: body.get_u16_le(),
            max_entry: body.get_u32_le(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: ServerHello = ServerHello {
        protocol: 1,
        features: 2,
        store_id: *b"0123456789abcdef",
        head: Revision::new(3),
        heartbeat_ms: 4,
        max_key: 5,
        max_entry: 6,
    };

    #[test]
    fn on_the_wire() {
        let body = HELLO.encode();
        let expected = b"\x01\0\x02\0\0\x000123456789abcdef\x03\0\0\0\0\0\0\0\x04\0\0\0\x05\0\x06\0\0\0";
        assert_eq!(body.as_ref(), expected);
        assert_eq!(body.len(), ServerHello::LENGTH);
    }

    #[test]
    fn appended_bytes_are_ignored() {
        let body = [&HELLO.encode()[..], b"more"].concat();
        assert_eq!(ServerHello::decode(&body), Ok(HELLO));
    }

    #[test]
    fn a_truncated_body_is_refused() {
        let body = HELLO.encode();
        for found in 0..ServerHello::LENGTH {
            assert_eq!(ServerHello::decode(&body[..found]), Err(TruncatedHello { expected: 40, found }));
        }
    }
}
