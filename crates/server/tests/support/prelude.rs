//! The imports that most integration tests share: `use crate::support::prelude::*;`.

pub use super::{Ca, TlsClient};
pub use super::{
    Client, Engine, History, Lab, MIB, Memory, Model, NEVER, Random, TIMEOUT, TestServer, TestStore, Watcher, Written,
    all_encoded, auth, change_of, checks, delete, deletes, disk_options, encoded, error, get, hello, is_subsequence,
    latest, list, mark, on_each_engine, on_each_engine_with, on_each_gated_engine, put, put_large, puts, status, txn,
    unhex, watch,
};
pub use bytes::Bytes;
pub use std::thread;
pub use std::time::Duration;
pub use syncline_core::Operation;
pub use syncline_server::Config;
pub use syncline_store::Store;
pub use syncline_wire::{Message, Revision, Tag, Version};
