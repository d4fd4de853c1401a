//! The protocols of the servers. All of them use raw sockets and the same event loop.

pub(crate) mod etcd;
pub(crate) mod nats;
mod protobuf;
pub(crate) mod redis;

use etcd::EtcdPeer;
use nats::NatsPeer;
use redis::RedisPeer;
use syncline_load::{Error, Link, Peer, SynclinePeer};

/// A way to connect to any of the servers.
#[derive(Clone)]
pub(crate) enum AnyPeer {
    Syncline(SynclinePeer),
    Redis(RedisPeer),
    Nats(NatsPeer),
    Etcd(EtcdPeer),
}

impl Peer for AnyPeer {
    async fn open(&self) -> Result<Link, Error> {
        match self {
            Self::Syncline(peer) => peer.open().await,
            Self::Redis(peer) => peer.open().await,
            Self::Nats(peer) => peer.open().await,
            Self::Etcd(peer) => peer.open().await,
        }
    }

    fn counts(&self) -> bool {
        match self {
            Self::Syncline(peer) => peer.counts(),
            Self::Redis(peer) => peer.counts(),
            Self::Nats(peer) => peer.counts(),
            Self::Etcd(peer) => peer.counts(),
        }
    }
}
