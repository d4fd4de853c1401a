//! The effects of a connection: what its driver is to do, and what the driver returns for a page of the store.

use crate::{KeyPage, Page, PageError, Transaction};
use bytes::Bytes;
use std::num::NonZeroUsize;
use std::sync::Arc;
use syncline_wire::{Password, Revision};

/// What a [`ServerConnection`](super::ServerConnection) asks its driver to do.
///
/// Each effect is completed with the `handle_…` method that it names. Effects of one kind are completed in the order in
/// which they were polled; reads are also executed in that order, so that a later read never returns an older state.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Check a password. Completed with [`handle_verdict`](super::ServerConnection::handle_verdict).
    Verify {
        /// The password that the client has sent.
        password: Password,
    },
    /// Give a transaction to the committer. Completed with
    /// [`handle_outcome`](super::ServerConnection::handle_outcome); further effects may be polled before.
    Commit {
        /// What the client wants to write.
        transaction: Transaction,
    },
    /// Read a key. Completed with [`handle_entry`](super::ServerConnection::handle_entry).
    Get {
        /// The key to read.
        key: Bytes,
    },
    /// Describe the state of the server. Completed with [`handle_status`](super::ServerConnection::handle_status).
    Status(StatusScope),
    /// Read a page of the store. Completed with [`handle_page`](super::ServerConnection::handle_page).
    Page(PageRequest),
}

/// How much of the state of the server a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusScope {
    /// Only whether the server accepts writes. Every authenticated client may see this.
    Health,
    /// Everything. For admins.
    Everything,
}

/// A page of the store that a connection needs, for its catch-up or for a WATCH or LIST.
#[derive(Debug, PartialEq, Eq)]
pub enum PageRequest {
    /// The keys that changed after a revision, in the order of revisions.
    Changes {
        /// What all keys of the page begin with.
        prefix: Bytes,
        /// The revision up to which everything is known.
        since: Revision,
        /// The bytes of PUT frames that fill a page. Its last transaction may exceed them.
        max_bytes: usize,
    },
    /// The keys that have a value, in the order of their bytes.
    Keys {
        /// What all keys of the page begin with.
        prefix: Bytes,
        /// The page starts strictly after this key; `None`: at the first one.
        after: Option<Bytes>,
        /// The most keys that the page may hold.
        max_entries: NonZeroUsize,
        /// The bytes of PUT frames that fill a page. Its last entry may exceed them.
        max_bytes: usize,
    },
}

impl PageRequest {
    /// Returns the request for a page of at most `bound` bytes of PUT frames.
    #[must_use]
    pub fn at_most(mut self, bound: usize) -> Self {
        let (Self::Changes { max_bytes, .. } | Self::Keys { max_bytes, .. }) = &mut self;
        *max_bytes = bound.min(*max_bytes);
        self
    }
}

/// What the store returned for a [`PageRequest`]: the variant of the same name.
#[derive(Debug)]
pub enum PageResult {
    /// For [`PageRequest::Changes`].
    Changes(Result<Page, PageError>),
    /// For [`PageRequest::Keys`]; the error says why the store is unavailable.
    Keys(Result<KeyPage, Arc<str>>),
}
