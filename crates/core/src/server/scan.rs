//! What a WATCH or LIST is being answered with: page after page of the store, beside the connection's other requests.
//!
//! ```text
//!             asked                 read at the head H
//!   Wanted ─────────▶ Asked ─────────────────────────────▶ Ready(H)
//!      ▲                                                      │ the position is at H
//!      └──────────────── there is more ───────────────────────┤
//!                                                             ▼ that was all: MARK
//! ```
//!
//! # Why a page waits
//! A page is an answer like any other: it is true at the head at which it was read, and is sent when the connection was
//! sent everything up to there. So it never tells of what is newer than what was sent around it, nor is it sent after what
//! has overtaken it.
//!
//! # What a WATCH is sent
//! It begins at the connection's position, from which on it is sent every change under its prefix, as they commit. Its
//! pages tell the rest: what changed up to there, and not since. So each key comes once, from the one side or the other.

use crate::{Entry, KeyPage, Page};
use bytes::Bytes;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use syncline_wire::{List, Revision, Tag, Watch};

/// How large a page is, in bytes of frames; one large entry may pass it.
const PAGE: usize = 64 * 1024;

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
    /// What changed up to where the connection stood when it began.
    Watch { until: Revision },
    /// So many keys more.
    List { left: u32 },
}

#[derive(Debug)]
enum Source {
    /// The keys that are there, in their order, after this one.
    Keys { after: Option<Bytes> },
    /// What changed after a revision, in the order of revisions.
    Changes { since: Revision },
}

/// A page that was read, and not sent yet.
#[derive(Debug)]
pub(super) struct ReadyPage {
    /// The tag that its frames have.
    pub(super) tag: Tag,
    pub(super) entries: Vec<Entry>,
    /// The head at which it was read.
    pub(super) at: Revision,
    /// Whether what the prefix held before is to be forgotten first.
    pub(super) reset: Option<Tag>,
    /// Where it is the last: the tag of the MARK that ends it all.
    pub(super) ends: Option<Tag>,
}

/// What to ask the store for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Keys { prefix: Bytes, after: Option<Bytes>, max_entries: NonZeroUsize, max_bytes: usize },
    Changes { prefix: Bytes, since: Revision, max_bytes: usize },
}

impl Scan {
    /// A WATCH of a connection that stands at `position`.
    pub(super) fn watch(Watch { tag, prefix, since }: Watch, position: Revision) -> Self {
        let source = if since == Revision::ZERO { Source::Keys { after: None } } else { Source::Changes { since } };
        Self { tag, prefix, purpose: Purpose::Watch { until: position }, source, page: None }
    }

    pub(super) fn list(List { tag, prefix, after, limit }: List) -> Self {
        let source = Source::Keys { after: Some(after) };
        Self { tag, prefix, purpose: Purpose::List { left: limit }, source, page: None }
    }

    fn wanted(&self) -> Option<Wanted> {
        if self.page.is_some() {
            return None;
        }
        let (prefix, max_bytes) = (self.prefix.clone(), PAGE);
        Some(match &self.source {
            Source::Changes { since } => Wanted::Changes { prefix, since: *since, max_bytes },
            Source::Keys { after } => {
                let max_entries = match self.purpose {
                    Purpose::List { left } => left,
                    Purpose::Watch { .. } => u32::MAX,
                };
                let max_entries = usize::try_from(max_entries).ok().and_then(NonZeroUsize::new)?;
                Wanted::Keys { prefix, after: after.clone(), max_entries, max_bytes }
            }
        })
    }

    fn take_keys(&mut self, page: KeyPage) {
        let KeyPage { mut entries, next, head } = page;
        let mut is_last = next.is_none();
        let tag = match &mut self.purpose {
            Purpose::Watch { until } => {
                // What is newer is sent as it commits.
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
        self.ready(tag, entries, head, is_last);
    }

    fn take_changes(&mut self, page: Page) {
        let Page { mut entries, through, head } = page;
        let Purpose::Watch { until } = self.purpose else {
            return debug_assert!(false, "a LIST goes by key");
        };
        entries.retain(|entry| entry.revision <= until);
        self.source = Source::Changes { since: through };
        self.ready(Tag::BROADCAST, entries, head, through >= until || through >= head);
    }

    /// What changed since the revision that the client knows can't be told: it forgets, and is told everything; also what
    /// it was sent since it has asked.
    fn start_over(&mut self, at: Revision) {
        self.purpose = Purpose::Watch { until: at };
        self.source = Source::Keys { after: None };
        self.page = Some(ReadyPage { tag: self.tag, entries: Vec::new(), at, reset: Some(self.tag), ends: None });
    }

    fn ready(&mut self, tag: Tag, entries: Vec<Entry>, at: Revision, is_last: bool) {
        self.page = Some(ReadyPage { tag, entries, at, reset: None, ends: is_last.then_some(self.tag) });
    }
}

/// All that are being answered. They take turns, page by page; the first is the one whose turn it is.
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

    /// The page to be read next; none where one waits to be sent.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.0.front()?.wanted()
    }

    /// The page for [`Wanted::Keys`].
    pub(super) fn take_keys(&mut self, page: KeyPage) {
        if let Some(scan) = self.0.front_mut() {
            scan.take_keys(page);
        }
    }

    /// The page for [`Wanted::Changes`].
    pub(super) fn take_changes(&mut self, page: Page) {
        if let Some(scan) = self.0.front_mut() {
            scan.take_changes(page);
        }
    }

    /// What [`Wanted::Changes`] asks for can't be told any more, of a connection that stands at a revision.
    pub(super) fn start_over(&mut self, at: Revision) {
        if let Some(scan) = self.0.front_mut() {
            scan.start_over(at);
        }
    }

    /// The store is in trouble: the one that has asked gets no answer. Tells its tag, and of a WATCH the prefix.
    pub(super) fn give_up(&mut self) -> Option<(Tag, Option<Bytes>)> {
        let Scan { tag, prefix, purpose, .. } = self.0.pop_front()?;
        Some((tag, matches!(purpose, Purpose::Watch { .. }).then_some(prefix)))
    }

    /// The revision at which the page that waits may be sent.
    pub(super) fn at(&self) -> Option<Revision> {
        self.0.front()?.page.as_ref().map(|page| page.at)
    }

    /// Takes the page that waits; the next scan has its turn.
    pub(super) fn take_page(&mut self) -> Option<ReadyPage> {
        let page = self.0.front_mut()?.page.take()?;
        if let Some(scan) = self.0.pop_front()
            && page.ends.is_none()
        {
            self.0.push_back(scan);
        }
        Some(page)
    }
}
