//! The WATCHes and LISTs that are being answered: page by page from the store, beside the connection's other requests.
//!
//! ```text
//!               poll                   read at the head H
//!   NeedsPage ────────▶ page in flight ─────────────────▶ Ready(H)
//!      ▲                                                     │ the position reaches H
//!      └─────────────────── more pages ──────────────────────┤
//!                                                            ▼ last page: MARK
//! ```
//!
//! # Why a page waits
//! A page is a response like any other: it is true at the head at which it was read, and is sent when everything up to that
//! head was sent. So it never contains anything newer than what surrounds it, nor anything that was overtaken before.
//!
//! # What a WATCH sends
//! A WATCH begins at the connection's position. From there on every change under its prefix is sent as it commits. Its
//! pages contain what changed up to that position and not since. So each key is sent once, from one of the two sources.

use super::effect::PageRequest;
use crate::{Entry, KeyPage, Page};
use bytes::Bytes;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use syncline_wire::{List, Revision, Tag, Watch};

/// The bytes of frames that fill a page. One large entry may exceed them.
const PAGE_BYTES: usize = 64 * 1024;

/// One WATCH or LIST that is being answered.
#[derive(Debug)]
pub(super) struct Scan {
    tag: Tag,
    prefix: Bytes,
    purpose: Purpose,
    source: Source,
    page: Option<ReadyPage>,
}

#[derive(Debug)]
enum Purpose {
    /// Sends what changed up to the position of the connection when the WATCH began.
    Watch { until: Revision },
    /// Sends at most so many more keys.
    List { left: u32 },
}

#[derive(Debug)]
enum Source {
    /// The keys that have a value, in the order of their bytes, strictly after this one.
    Keys { after: Option<Bytes> },
    /// The keys that changed after this revision, in the order of revisions.
    Changes { since: Revision },
}

/// A page that was read and is not sent yet.
#[derive(Debug)]
pub(super) struct ReadyPage {
    /// The tag of its frames.
    pub(super) tag: Tag,
    pub(super) entries: Vec<Entry>,
    /// The head at which it was read.
    pub(super) at: Revision,
    /// The tag of the reset that precedes the page: the client forgets everything under the prefix.
    pub(super) reset: Option<Tag>,
    /// The tag of the MARK behind the last page.
    pub(super) last: Option<Tag>,
}

impl Scan {
    /// Returns the scan for a WATCH of a connection at `position`.
    pub(super) fn watch(Watch { tag, prefix, since }: Watch, position: Revision) -> Self {
        let source = if since == Revision::ZERO { Source::Keys { after: None } } else { Source::Changes { since } };
        Self { tag, prefix, purpose: Purpose::Watch { until: position }, source, page: None }
    }

    /// Returns the scan for a LIST.
    pub(super) fn list(List { tag, prefix, after, limit }: List) -> Self {
        let source = Source::Keys { after: Some(after) };
        Self { tag, prefix, purpose: Purpose::List { left: limit }, source, page: None }
    }

    fn page_request(&self) -> Option<PageRequest> {
        if self.page.is_some() {
            return None;
        }
        let (prefix, max_bytes) = (self.prefix.clone(), PAGE_BYTES);
        Some(match &self.source {
            Source::Changes { since } => PageRequest::Changes { prefix, since: *since, max_bytes },
            Source::Keys { after } => {
                let max_entries = match self.purpose {
                    Purpose::List { left } => left,
                    Purpose::Watch { .. } => u32::MAX,
                };
                let max_entries = usize::try_from(max_entries).ok().and_then(NonZeroUsize::new)?;
                PageRequest::Keys { prefix, after: after.clone(), max_entries, max_bytes }
            }
        })
    }

    fn accept_keys(&mut self, page: KeyPage) {
        let KeyPage { mut entries, next, head } = page;
        let mut is_last = next.is_none();
        let tag = match &mut self.purpose {
            Purpose::Watch { until } => {
                // Newer changes are sent as they commit.
                entries.retain(|entry| entry.revision <= *until);
                Tag::BROADCAST
            }
            Purpose::List { left } => {
                *left = left.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
                is_last |= *left == 0;
                self.tag
            }
        };
        self.source = Source::Keys { after: next };
        self.set_page(tag, entries, head, is_last);
    }

    fn accept_changes(&mut self, page: Page) {
        let Page { mut entries, through, head } = page;
        let Purpose::Watch { until } = self.purpose else {
            return debug_assert!(false, "a LIST reads by key");
        };
        entries.retain(|entry| entry.revision <= until);
        self.source = Source::Changes { since: through };
        self.set_page(Tag::BROADCAST, entries, head, through >= until || through >= head);
    }

    /// Answers the WATCH with a reset and everything, since the store does not know what changed since the client's revision.
    /// That repeats what was sent since the WATCH began.
    fn restart(&mut self, at: Revision) {
        self.purpose = Purpose::Watch { until: at };
        self.source = Source::Keys { after: None };
        self.page = Some(ReadyPage { tag: self.tag, entries: Vec::new(), at, reset: Some(self.tag), last: None });
    }

    fn set_page(&mut self, tag: Tag, entries: Vec<Entry>, at: Revision, is_last: bool) {
        self.page = Some(ReadyPage { tag, entries, at, reset: None, last: is_last.then_some(self.tag) });
    }
}

/// All WATCHes and LISTs that are being answered, round robin: the first one reads and sends the next page.
#[derive(Debug, Default)]
pub(super) struct Scans(VecDeque<Scan>);

impl Scans {
    pub(super) fn begin(&mut self, scan: Scan) {
        self.0.push_back(scan);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the page to be read next; `None` if none is needed, or one waits to be sent.
    pub(super) fn page_request(&self) -> Option<PageRequest> {
        self.0.front()?.page_request()
    }

    /// Accepts the page for [`PageRequest::Keys`].
    pub(super) fn accept_keys(&mut self, page: KeyPage) {
        if let Some(scan) = self.0.front_mut() {
            scan.accept_keys(page);
        }
    }

    /// Accepts the page for [`PageRequest::Changes`].
    pub(super) fn accept_changes(&mut self, page: Page) {
        if let Some(scan) = self.0.front_mut() {
            scan.accept_changes(page);
        }
    }

    /// Starts the first scan again from nothing, on a connection at the revision `at`: the store has forgotten what
    /// [`PageRequest::Changes`] asks for.
    pub(super) fn restart(&mut self, at: Revision) {
        if let Some(scan) = self.0.front_mut() {
            scan.restart(at);
        }
    }

    /// Removes the first scan, whose page the store could not read. Returns its tag, and the prefix of a WATCH.
    pub(super) fn remove_failed(&mut self) -> Option<(Tag, Option<Bytes>)> {
        let Scan { tag, prefix, purpose, .. } = self.0.pop_front()?;
        Some((tag, matches!(purpose, Purpose::Watch { .. }).then_some(prefix)))
    }

    /// Returns the revision from which on the page that waits may be sent.
    pub(super) fn at(&self) -> Option<Revision> {
        self.0.front()?.page.as_ref().map(|page| page.at)
    }

    /// Removes the page that waits. The next scan continues.
    pub(super) fn take_page(&mut self) -> Option<ReadyPage> {
        let page = self.0.front_mut()?.page.take()?;
        if let Some(scan) = self.0.pop_front()
            && page.last.is_none()
        {
            self.0.push_back(scan);
        }
        Some(page)
    }
}
