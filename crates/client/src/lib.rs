//! The async client of Syncline.
//!
//! A [`Client`] is a handle on one connection, which many tasks may use at once: their requests are in flight together.
//! A connection that is lost is made again, with growing pauses between the attempts.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use syncline_client::{Change, Client, Version};
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
//! // What others write, as they write it.
//! let mut changes = client.changes();
//! while let Some(change) = changes.next().await {
//!     match change {
//!         Change::Put { key, version, .. } => println!("{key:?} is at version {version}"),
//!         Change::Gap => println!("changes were missed: read again what matters"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod changes;
mod client;
mod connection;
mod error;
mod options;

pub use changes::{Change, Changes};
pub use client::{Client, Versioned};
pub use error::{ConnectError, GetError, PutError, UpdateError};
pub use options::Options;
pub use syncline_wire::Version;
