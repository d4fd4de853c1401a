//! The server of Syncline: sockets, tasks and threads around the state machines of `syncline-core`.
//!
//! ```text
//!   socket ◀──▶ connection task ──▶ commit queue ──▶ committer ─────────▶ store
//!                 ▲    ▲  ▲                             │                   │ feed
//!                 │    │  └──────── outcomes ───────────┘                   ▼
//!                 │    └─────────── notifications ◀──────────────────── recent log
//!                 └──────────────── reads ◀──────────────────────────── store
//! ```
//!
//! Each connection has a task, which moves bytes between its socket and its [`syncline_core::server::ServerConnection`].
//! One committer takes all queued transactions and commits them as one batch. While the store makes a batch durable, the
//! next batch gathers in the queue. If commits block, the committer is a thread of its own, otherwise a task.
//!
//! This crate never decides what the protocol means; `syncline-core` does.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use syncline_server::{Config, Server};
//! use syncline_store::MemoryStore;
//!
//! let server = Server::bind(Config::default(), MemoryStore::new()?).await?;
//! println!("listening on {}", server.local_addr());
//! server.run(async { tokio::time::sleep(std::time::Duration::from_secs(60)).await }).await?;
//! # Ok(())
//! # }
//! ```

mod acceptor;
mod access;
mod broadcaster;
mod committer;
mod config;
mod connection;
mod input_budget;
mod listen;
mod notify;
mod open_files;
mod priority_gate;
mod server;
mod status;
#[cfg(test)]
mod testing;
mod throttle;
mod tls;

pub use acceptor::{Handle, PlainServer};
pub use access::{
    AccessControl, AccessFileError, Hash, HashError, HashingError, MustUseTls, Users, UsersError, UsersProblem,
};
pub use config::{Config, InputError};
pub use listen::is_listen_address;
pub use server::{BindError, ServeError, Server};
pub use syncline_core::server::{LimitError, Limits};
pub use syncline_tls::{Identity, Pem, PemError};
pub use tls::{ClientCertificates, Tls, TlsError, TlsFiles};
