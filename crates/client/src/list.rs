//! Listing all keys under a prefix, page by page.

use crate::client::Client;
use crate::error::RequestError;
use crate::failure::Failure;
use bytes::Bytes;
use syncline_core::client::{Request, Response, Versioned};

/// The number of keys of a page.
const PAGE: u32 = 1000;

/// All keys under a prefix, page by page. [`Client::pages`] creates it.
///
/// A key that exists during the whole listing is returned exactly once. If a key changes meanwhile, the listing contains
/// its old or its new state. For a consistent cut, use [`Client::watch`].
pub struct Pages {
    client: Client,
    prefix: Bytes,
    /// The last key that was returned.
    after: Option<Bytes>,
    is_complete: bool,
}

impl Client {
    /// Returns all keys under a prefix, page by page. Nothing is requested before the first call of [`Pages::next`].
    pub fn pages(&self, prefix: impl Into<Bytes>) -> Pages {
        Pages { client: self.clone(), prefix: prefix.into(), after: None, is_complete: false }
    }
}

impl Pages {
    /// Returns the next page of at most 1,000 keys, or `None` after the last one.
    ///
    /// Cancellation safe: if the future is dropped, the next call returns the same page.
    ///
    /// # Errors
    /// [`RequestError`] if the page cannot be read. The call can be repeated.
    pub async fn next(&mut self) -> Result<Option<Vec<(Bytes, Versioned)>>, RequestError> {
        if self.is_complete {
            return Ok(None);
        }
        let mut page = Vec::new();
        if self.after.is_none() && self.prefix.is_empty() {
            // LIST returns keys strictly after another key, so it never returns the empty key.
            match self.client.request(Request::Get { key: Bytes::new() }).await? {
                Response::Value(found) => page.push((Bytes::new(), found)),
                Response::NotFound { .. } => {}
                other => return Err(Failure::Response(other).into()),
            }
        }
        let after = self.after.clone().unwrap_or_default();
        let listed = self.client.list(self.prefix.clone(), after, PAGE).await?;
        self.is_complete = listed.len() < PAGE as usize;
        if let Some((last, _)) = listed.last() {
            self.after = Some(last.clone());
        }
        page.extend(listed);
        Ok((!page.is_empty()).then_some(page))
    }
}
