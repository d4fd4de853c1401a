//! Reads the pages that connections ask for.

use crate::store::{ChangedError, Store};
use syncline_core::PageError;
use syncline_core::server::{PageRequest, PageResult};

/// Reads a page of `store` for a connection.
pub async fn read_page(store: &impl Store, request: &PageRequest) -> PageResult {
    match request {
        PageRequest::Changes { prefix, since, max_bytes } => {
            let page = store.changed_since(*since, prefix, *max_bytes).await;
            PageResult::Changes(page.map_err(|error| match error {
                ChangedError::Unavailable(unavailable) => PageError::Unavailable(unavailable.0),
                ChangedError::Forgotten { .. } | ChangedError::Unknown { .. } => {
                    PageError::Untold(error.to_string().into())
                }
            }))
        }
        PageRequest::Keys { prefix, after, max_entries, max_bytes } => {
            let page = store.list(prefix, after.as_deref(), *max_entries, *max_bytes).await;
            PageResult::Keys(page.map_err(|unavailable| unavailable.0))
        }
    }
}
