//! The systems that are compared. A system is a server and the way in which it is used.

use crate::error::BenchError;
use crate::peers::AnyPeer;
use crate::peers::etcd::EtcdPeer;
use crate::peers::nats::{self, NatsPeer};
use crate::peers::redis::{Mode, RedisPeer};
use crate::server::{Profile, ServerInfo, ServerKind};
use std::sync::Arc;
use syncline_client::{Dialer, Endpoints, Options, Pem};
use syncline_load::{Error, SynclinePeer};

/// A server and the way in which it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum System {
    /// Syncline over extended connections, which begin with HELLO.
    Syncline,
    /// Syncline over base connections, without HELLO.
    SynclineBase,
    /// Syncline over extended connections with TLS.
    SynclineTls,
    /// Redis with compare-and-swap by a script, which also publishes the value if there are watchers.
    Redis,
    /// Redis with PUBLISH only, which stores nothing.
    RedisPubSub,
    /// A JetStream key-value bucket of NATS.
    Nats,
    /// Core NATS messages, which nothing stores.
    NatsCore,
    /// etcd.
    Etcd,
}

impl System {
    pub(crate) const ALL: [Self; 8] = [
        Self::Syncline,
        Self::SynclineBase,
        Self::SynclineTls,
        Self::Redis,
        Self::RedisPubSub,
        Self::Nats,
        Self::NatsCore,
        Self::Etcd,
    ];

    /// Returns the name in files and on the command line.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Syncline => "syncline",
            Self::SynclineBase => "syncline-base",
            Self::SynclineTls => "syncline-tls",
            Self::Redis => "redis",
            Self::RedisPubSub => "redis-pubsub",
            Self::Nats => "nats",
            Self::NatsCore => "nats-core",
            Self::Etcd => "etcd",
        }
    }

    /// Returns the name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Syncline => "Syncline",
            Self::SynclineBase => "Syncline, base connections",
            Self::SynclineTls => "Syncline, TLS",
            Self::Redis => "Redis",
            Self::RedisPubSub => "Redis, PUBLISH only",
            Self::Nats => "NATS KV",
            Self::NatsCore => "NATS, messages only",
            Self::Etcd => "etcd",
        }
    }

    pub(crate) fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.id() == id)
    }

    pub(crate) fn kind(self) -> ServerKind {
        match self {
            Self::Syncline | Self::SynclineBase | Self::SynclineTls => ServerKind::Syncline,
            Self::Redis | Self::RedisPubSub => ServerKind::Redis,
            Self::Nats | Self::NatsCore => ServerKind::Nats,
            Self::Etcd => ServerKind::Etcd,
        }
    }

    /// Returns the profile of this system's server in a run with the given profile.
    pub(crate) fn profile(self, profile: Profile) -> Profile {
        if self == Self::SynclineTls { Profile::Tls } else { profile }
    }

    /// Returns how to connect. With `has_watchers`, writes are also sent to watchers.
    pub(crate) fn peer(self, info: &ServerInfo, has_watchers: bool) -> Result<AnyPeer, BenchError> {
        let address = info.address;
        let redis = |mode| AnyPeer::Redis(RedisPeer { address, mode });
        Ok(match self {
            Self::Syncline | Self::SynclineBase => {
                let dialer = dialer(&address.to_string(), &Options::default())?;
                AnyPeer::Syncline(SynclinePeer { dialer, base: self == Self::SynclineBase })
            }
            Self::SynclineTls => {
                let mut options = Options::default();
                options.tls.ca = info.ca.as_ref().map(Pem::file);
                let dialer = dialer(&format!("synclines://localhost:{}", address.port()), &options)?;
                AnyPeer::Syncline(SynclinePeer { dialer, base: false })
            }
            Self::Redis if has_watchers => redis(Mode::SwapAndPublish),
            Self::Redis => redis(Mode::Swap),
            Self::RedisPubSub => redis(Mode::Publish),
            Self::Nats => AnyPeer::Nats(NatsPeer { address, mode: nats::Mode::Bucket }),
            Self::NatsCore => AnyPeer::Nats(NatsPeer { address, mode: nats::Mode::Core }),
            Self::Etcd => AnyPeer::Etcd(EtcdPeer { address }),
        })
    }

    /// Returns the system of the same server that stores what is written.
    pub(crate) fn storing(self) -> Self {
        match self {
            Self::RedisPubSub => Self::Redis,
            Self::NatsCore => Self::Nats,
            other => other,
        }
    }

    /// Returns how to make the first connection, which creates what the system needs.
    pub(crate) fn first_peer(self, info: &ServerInfo) -> Result<AnyPeer, BenchError> {
        match self.kind() {
            ServerKind::Nats => Ok(AnyPeer::Nats(NatsPeer { address: info.address, mode: nats::Mode::NewBucket })),
            ServerKind::Syncline | ServerKind::Redis | ServerKind::Etcd => self.peer(info, false),
        }
    }
}

fn dialer(endpoint: &str, options: &Options) -> Result<Arc<Dialer>, BenchError> {
    Ok(Arc::new(Dialer::new(&Endpoints::from(endpoint), options).map_err(Error::from)?))
}
