//! The async client of Syncline.
//!
//! A [`Client`] is a handle on one connection, which many tasks may use at once: their requests are in flight together.
//! A connection that is lost is made again, with growing pauses between the attempts, to the next server that answers
//! where several are named.
//!
//! - Reads and writes: [`Client::get`], [`put`](Client::put), [`delete`](Client::delete), [`list`](Client::list),
//!   [`txn`](Client::txn).
//! - Replicas: [`Client::watch`] makes a [`Replica`], whose reads are local, whose state is always that of one revision,
//!   and which says how stale it is.
//! - What changes, told and not kept: a [`Cursor`], which can be opened anywhere in the history.
//! - Recipes, each with its guarantee: [`Client::update`], [`Counter`], [`Election`].
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use syncline_client::{Client, Version};
//!
//! let client = Client::connect("127.0.0.1:6660").await?;
//!
//! // A write proves that it has seen the latest: the first has version 1, each further one the next.
//! client.put("greeting", "hello", Version::new(1)).await?;
//! let found = client.get("greeting").await?;
//! assert_eq!((found.value.as_ref(), found.version), (&b"hello"[..], Version::new(1)));
//!
//! // Read, change, write; again where somebody else was faster.
//! client.update("visits", |old| match old {
//!     None => "1".to_owned(),
//!     Some(count) => (String::from_utf8_lossy(count).parse().unwrap_or(0) + 1).to_string(),
//! }).await?;
//!
//! // All keys under a prefix, pushed by the server and read without asking it.
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
mod replica;
mod send_guard;
mod shared;
mod tls;
mod txn;
mod update;
mod updates;

pub use changes::{Change, Changes};
pub use client::Client;
pub use counter::{Counter, CounterError};
pub use cursor::{Cursor, CursorError, Moved};
pub use dialer::Dialer;
pub use election::{Election, ElectionError, Leadership};
pub use endpoints::{Endpoint, EndpointError, Endpoints};
pub use error::{BaseOnly, ConnectError, GetError, PutError, RequestError, TxnError, UpdateError};
pub use link::Greeted;
pub use list::Pages;
pub use options::Options;
pub use replica::{Replica, Snapshot, Staleness};
pub use syncline_core::client::{KeyChange, Keys, NoPosition, Position, Step, Versioned};
pub use syncline_tls::{Identity, Pem, PemError, Socket};
pub use syncline_wire::{Password, Revision, Version};
pub use tls::{Tls, TlsProblem};
pub use txn::Txn;
pub use updates::{Update, Updates};
