//! Who takes part: a server, and the way in which it is used.

use crate::failure::Failure;
use crate::peers::AnyPeer;
use crate::peers::etcd::EtcdPeer;
use crate::peers::nats::{self, NatsPeer};
use crate::peers::redis::{Mode, RedisPeer};
use crate::server::{Kind, Place, Setting};
use std::sync::Arc;
use syncline_client::{Dialer, Endpoints, Options, Pem};
use syncline_load::{Error, SynclinePeer};

/// A server, and the way in which it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Over connections that said HELLO.
    Syncline,
    /// Over connections as old programs make them.
    SynclineBase,
    /// As the first, over TLS.
    SynclineTls,
    /// Compare-and-swap by a script, which publishes the value where others follow.
    Redis,
    /// Only PUBLISH: nothing is kept.
    RedisPubSub,
    /// A key-value bucket of JetStream.
    Nats,
    /// Only messages: nothing is kept.
    NatsCore,
    Etcd,
}

impl Contender {
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

    /// In files, and on the command line.
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

    /// For people.
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
        Self::ALL.into_iter().find(|contender| contender.id() == id)
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Syncline | Self::SynclineBase | Self::SynclineTls => Kind::Syncline,
            Self::Redis | Self::RedisPubSub => Kind::Redis,
            Self::Nats | Self::NatsCore => Kind::Nats,
            Self::Etcd => Kind::Etcd,
        }
    }

    /// The setting that its server needs where others have this one.
    pub(crate) fn setting(self, setting: Setting) -> Setting {
        if self == Self::SynclineTls { Setting::Tls } else { setting }
    }

    /// How it is connected to. `followed`: others are to be sent what is written.
    pub(crate) fn peer(self, place: &Place, followed: bool) -> Result<AnyPeer, Failure> {
        let address = place.address;
        let redis = |mode| AnyPeer::Redis(RedisPeer { address, mode });
        Ok(match self {
            Self::Syncline | Self::SynclineBase => {
                let dialer = dialer(&address.to_string(), &Options::default())?;
                AnyPeer::Syncline(SynclinePeer { dialer, base: self == Self::SynclineBase })
            }
            Self::SynclineTls => {
                let ca = place.ca.as_ref().map(Pem::file);
                let mut options = Options::default();
                options.tls.ca = ca;
                let dialer = dialer(&format!("synclines://localhost:{}", address.port()), &options)?;
                AnyPeer::Syncline(SynclinePeer { dialer, base: false })
            }
            Self::Redis if followed => redis(Mode::SwapAndPublish),
            Self::Redis => redis(Mode::Swap),
            Self::RedisPubSub => redis(Mode::Publish),
            Self::Nats => AnyPeer::Nats(NatsPeer { address, mode: nats::Mode::Bucket }),
            Self::NatsCore => AnyPeer::Nats(NatsPeer { address, mode: nats::Mode::Core }),
            Self::Etcd => AnyPeer::Etcd(EtcdPeer { address }),
        })
    }

    /// The same server, used so that it keeps what is written.
    pub(crate) fn keeps(self) -> Self {
        match self {
            Self::RedisPubSub => Self::Redis,
            Self::NatsCore => Self::Nats,
            other => other,
        }
    }

    /// How it is connected to at first: what has to be there is made then.
    pub(crate) fn first_peer(self, place: &Place) -> Result<AnyPeer, Failure> {
        match self.kind() {
            Kind::Nats => Ok(AnyPeer::Nats(NatsPeer { address: place.address, mode: nats::Mode::NewBucket })),
            Kind::Syncline | Kind::Redis | Kind::Etcd => self.peer(place, false),
        }
    }
}

fn dialer(endpoint: &str, options: &Options) -> Result<Arc<Dialer>, Failure> {
    Ok(Arc::new(Dialer::new(&Endpoints::from(endpoint), options).map_err(Error::from)?))
}
