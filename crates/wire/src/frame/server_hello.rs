//! What a server says of itself in its answer to HELLO.
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

/// What a server says of itself: the body of its HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version of the protocol that it speaks.
    pub protocol: u16,
    /// What it can do beyond that; no bit has a meaning yet.
    pub features: u32,
    /// Names its history. A revision means nothing under another.
    pub store_id: [u8; 16],
    /// The newest revision.
    pub head: Revision,
    /// The most milliseconds between two MARKs on a connection that watches.
    pub heartbeat_ms: u32,
    /// The longest key that it takes.
    pub max_key: u16,
    /// The most bytes of key and value together that it takes.
    pub max_entry: u32,
}

/// A body of HELLO that ends before all was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer to HELLO is too short: expected at least {expected} bytes, found {found}")]
pub struct TruncatedHello {
    /// The bytes that it has at the least.
    pub expected: usize,
    /// The bytes that it has.
    pub found: usize,
}

impl ServerHello {
    /// The protocol that this crate speaks.
    pub const PROTOCOL: u16 = 1;
    /// The bytes that it takes, at the least.
    pub const LENGTH: usize = 40;

    /// How many heartbeats long a silence means that the connection is dead.
    const HEARTBEATS: u32 = 3;

    /// How long a silence of the server means that the connection is dead, for who watches something.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into()) * Self::HEARTBEATS
    }

    /// The body of the HELLO that says it.
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

    /// What a body says. Bytes that were appended to it, by a protocol that is newer, are passed over.
    ///
    /// # Errors
    /// [`TruncatedHello`] where it ends too early.
    pub fn decode(mut body: &[u8]) -> Result<Self, TruncatedHello> {
        if body.len() < Self::LENGTH {
            return Err(TruncatedHello { expected: Self::LENGTH, found: body.len() });
        }
        // None of these can panic: together they take as many bytes as are there.
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

    const GREETING: ServerHello = ServerHello {
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
        let body = GREETING.encode();
        let expected = b"\x01\0\x02\0\0\x000123456789abcdef\x03\0\0\0\0\0\0\0\x04\0\0\0\x05\0\x06\0\0\0";
        assert_eq!(body.as_ref(), expected);
        assert_eq!(body.len(), ServerHello::LENGTH);
    }

    #[test]
    fn what_is_appended_is_passed_over() {
        let body = [&GREETING.encode()[..], b"more"].concat();
        assert_eq!(ServerHello::decode(&body), Ok(GREETING));
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        let body = GREETING.encode();
        for found in 0..ServerHello::LENGTH {
            assert_eq!(ServerHello::decode(&body[..found]), Err(TruncatedHello { expected: 40, found }));
        }
    }
}
