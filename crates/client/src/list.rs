//! The keys under a prefix, page by page.

use crate::failure::Failure;
use crate::{Client, RequestError};
use bytes::Bytes;
use syncline_core::client::{Request, Response, Versioned};

/// How many keys a page has.
const PAGE: u32 = 1000;

/// All keys under a prefix, page by page, each in one piece. Made by [`Client::pages`].
///
/// A key that is there all the while is told once. What changes meanwhile is told as it was or as it is: for a consistent
/// cut, [watch](Client::watch).
pub struct Pages {
    client: Client,
    prefix: Bytes,
    /// The last key that was told; nothing before the first.
    after: Option<Bytes>,
    is_over: bool,
}

impl Pages {
    pub(crate) const fn new(client: Client, prefix: Bytes) -> Self {
        Self { client, prefix, after: None, is_over: false }
    }

    /// The next page, of 1,000 keys at the most; `None` after the last.
    ///
    /// # Errors
    /// [`RequestError`] where it can't be had. The call may be repeated.
    pub async fn next(&mut self) -> Result<Option<Vec<(Bytes, Versioned)>>, RequestError> {
        if self.is_over {
            return Ok(None);
        }
        let mut page = Vec::new();
        if self.after.is_none() && self.prefix.is_empty() {
            // The empty key comes before all that a LIST can tell.
            match self.client.request(Request::Get { key: Bytes::new() }).await? {
                Response::Value(found) => page.push((Bytes::new(), found)),
                Response::NotFound { .. } => {}
                other => return Err(Failure::Answered(other).into()),
            }
        }
        let after = self.after.clone().unwrap_or_default();
        let listed = self.client.list(self.prefix.clone(), after, PAGE).await?;
        self.is_over = listed.len() < PAGE as usize;
        if let Some((last, _)) = listed.last() {
            self.after = Some(last.clone());
        }
        page.extend(listed);
        Ok((!page.is_empty()).then_some(page))
    }
}
