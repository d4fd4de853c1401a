//! What a server grants all of its connections, and tells them of itself.

use super::Limits;
use crate::StoreId;
use std::time::Duration;
use syncline_wire::{Revision, ServerHello};

/// What a server grants all of its connections, and tells them of itself.
#[derive(Clone, Copy, Debug)]
pub struct ServerParameters {
    /// What one of them may ask for; [`validated`](Limits::validated).
    pub limits: Limits,
    /// Which history it serves.
    pub store: StoreId,
    /// How often somebody who watches hears of it at the least.
    pub heartbeat: Duration,
}

impl ServerParameters {
    /// What HELLO is answered with.
    pub(super) fn greeting(&self, head: Revision) -> ServerHello {
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
