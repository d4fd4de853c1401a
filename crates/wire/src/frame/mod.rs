//! The kinds of frames, one file for each: byte diagram, type, encoding, decoding, tests.
//!
//! `crate::table` lists the kinds, and `definition.rs` says what each of them defines.

mod auth;
mod definition;
mod delete;
mod entry;
mod error;
mod get;
mod hello;
mod list;
mod mark;
mod operation;
mod put;
mod put_large;
mod server_hello;
mod status;
mod txn;
mod watch;

pub use auth::{Auth, Password};
pub use delete::Delete;
pub use error::Error;
pub use get::Get;
pub use hello::Hello;
pub use list::List;
pub use mark::Mark;
pub use operation::Operation;
pub use put::Put;
pub use put_large::PutLarge;
pub use server_hello::{ServerHello, TruncatedHello};
pub use status::Status;
pub use txn::Txn;
pub use watch::Watch;

pub(crate) use definition::Frame;
pub(crate) use operation::OperationKind;
