//! The async client of Syncline.
//!
//! A [`Client`] is a handle to one connection, which many tasks can use at once: their requests are in flight together. If
//! the connection is lost, the client reconnects, with growing pauses between attempts. If several endpoints are given, it
//! tries the next one. If the server refuses the password or the certificate, it gives up; see [Refusals](Client#refusals).
//!
//! - Reads and writes: [`Client::get`], [`put`](Client::put), [`delete`](Client::delete), [`list`](Client::list),
//!   [`txn`](Client::txn).
//! - Replicas: [`Client::watch`] returns a [`Replica`]. Its reads are local, it always shows the state at one revision, and
//!   it reports how stale it is.
//! - Changes: a [`Cursor`] reports the changes since any position in the history, and keeps no copy of the state.
//! - Recipes, each with a documented guarantee: [`Client::update`], [`Counter`], [`Election`].
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use syncline_client::{Client, Version};
//!
//! let client = Client::connect("127.0.0.1:6660").await?;
//!
//! // A write carries the next version of its key, which starts at 1. With any other version it is refused as stale.
//! client.put("greeting", "hello", Version::new(1)).await?;
//! let found = client.get("greeting").await?;
//! assert_eq!((found.value.as_ref(), found.version), (&b"hello"[..], Version::new(1)));
//!
//! // Read, modify, write; repeated if another client changed the key meanwhile.
//! client.update("visits", |old| match old {
//!     None => "1".to_owned(),
//!     Some(count) => (String::from_utf8_lossy(count).parse().unwrap_or(0) + 1).to_string(),
//! }).await?;
//!
//! // A replica of all keys under a prefix: the server sends changes, and reads are local.
//! let config = client.watch("config/").await?;
//! client.put("config/theme", "dark", Version::new(1)).await?;
//! assert_eq!(config.get("config/theme").map(|found| found.version), Some(Version::new(1)));
//! for (key, found) in config.snapshot().iter() {
//!     println!("{key:?} is at version {}", found.version);
//! }
//! let mut updates = config.updates();
//! while let Some(update) = updates.next().await {
//!     println!("{:?} has changed: {:?}", update.key, update.now);
//! }
//! # Ok(())
//! # }
//! ```

mod change;
mod changes;
mod client;
mod connection;
mod counter;
mod cursor;
mod dialer;
mod election;
mod endpoints;
mod error;
mod failure;
mod link;
mod list;
mod options;
mod pauses;
mod race;
mod replica;
mod send_guard;
mod shared;
mod tls;
mod tls_error;
mod txn;
mod update;
mod updates;

pub use change::Change;
pub use changes::Changes;
pub use client::Client;
pub use counter::{Counter, CounterError};
pub use cursor::{Cursor, CursorError, Progress};
pub use dialer::Dialer;
pub use election::{Election, ElectionError, Leadership};
pub use endpoints::{Endpoint, EndpointError, Endpoints};
pub use error::{BaseOnly, ConnectError, GetError, PutError, RequestError, TxnError, UpdateError};
pub use link::Established;
pub use list::Pages;
pub use options::Options;
pub use replica::{Replica, Snapshot, Staleness};
pub use syncline_core::client::{KeyChange, Keys, ParsePositionError, Position, Step, Versioned};
pub use syncline_tls::{Identity, Pem, PemError, Socket};
pub use syncline_wire::{Password, Revision, Version};
pub use tls::Tls;
pub use tls_error::TlsError;
pub use txn::Txn;
pub use updates::{Update, Updates};
