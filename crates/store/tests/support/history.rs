//! The commits that a store has fed, decoded from the recent log.

use bytes::BytesMut;
use syncline_core::{ConnId, Dialect, RecentLog};
use syncline_wire::{Decoded, Message, Revision, decode};

/// One committed transaction.
pub(crate) struct Commit {
    pub(crate) revision: Revision,
    /// The connection that wrote it; `None` if it was another process.
    pub(crate) origin: Option<ConnId>,
    /// Its writes, as broadcasts.
    pub(crate) writes: Vec<Message>,
}

/// Returns the commits after `since` in a log that still holds all of them.
pub(crate) fn commits_after(log: &RecentLog, since: Revision, dialect: Dialect) -> Vec<Commit> {
    let mut commits = Vec::new();
    for unread in log.after(since).unwrap() {
        for (index, committed) in unread.commits().iter().enumerate() {
            let mut frames = BytesMut::from(unread.frames(dialect, index..index + 1).as_ref());
            let mut writes = Vec::new();
            while let Ok(Decoded::Frame(message)) = decode(&mut frames) {
                writes.push(message);
            }
            assert!(frames.is_empty(), "the log holds whole frames");
            commits.push(Commit { revision: committed.revision, origin: committed.origin, writes });
        }
    }
    commits
}
