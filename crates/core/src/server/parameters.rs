//! What a server grants every connection and tells it in the response to HELLO.

use super::limits::Limits;
use crate::StoreId;
use std::time::Duration;
use syncline_wire::{Revision, ServerHello};

/// What a server grants every connection and tells it in the response to HELLO.
#[derive(Clone, Copy, Debug)]
pub struct ServerParameters {
    /// What one connection may request. They are [`validated`](Limits::validated).
    pub limits: Limits,
    /// The history that the server serves.
    pub store: StoreId,
    /// The longest time between two MARKs on a connection that watches.
    pub heartbeat: Duration,
}

impl ServerParameters {
    /// Returns the response to HELLO.
    pub(super) fn hello(&self, head: Revision) -> ServerHello {
        ServerHello {
            protocol: ServerHello::PROTOCOL,
            features: 0,
            store_id: self.store.bytes(),
            head,
            heartbeat_ms: u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX),
            max_key: u16::try_from(self.limits.max_key).unwrap_or(u16::MAX),
            max_entry: u32::try_from(self.limits.max_entry).unwrap_or(u32::MAX),
        }
    }
}
