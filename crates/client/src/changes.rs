//! A stream of the writes of other connections.

use crate::change::Change;
use crate::client::Client;
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The writes of other connections since the call of [`Client::changes`], in commit order. Also a [`Stream`]. It ends if a
/// server [refuses](Client#refusals) the client.
pub struct Changes {
    changes: mpsc::Receiver<Change>,
    /// Keeps the connection open.
    _client: Client,
}

impl Client {
    /// Returns the writes of other connections from now on, in commit order. The client's own writes are not included.
    ///
    /// The stream may start with earlier writes that the server sent on this connection. While a [replica](Client::watch)
    /// fills, a key may be reported although it has not changed.
    pub fn changes(&self) -> Changes {
        let changes = Changes { changes: self.subscribe_to_changes(), _client: self.clone() };
        self.shared().follow();
        changes
    }
}

impl Changes {
    /// Waits for the next change. Returns `None` if the client has given up, because a server
    /// [refuses](Client#refusals) it: [`Client::refusal`] returns the error. Also if the runtime has shut down.
    ///
    /// Cancellation safe: if the future is dropped, no change is lost.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_recv(context)
    }
}
