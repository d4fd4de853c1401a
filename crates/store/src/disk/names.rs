//! The names of the files of a data directory.

use syncline_wire::Revision;

/// The file that says which history a directory holds: see [`super::identity`].
pub(super) const IDENTITY: &str = "identity";

/// The file that keeps a second process out.
pub(super) const LOCK: &str = "lock";

/// The file of the durable watermark: see [`super::watermark`].
pub(super) const WATERMARK: &str = "mark";

/// The file that keeps space for the next checkpoint: see [`super::reserve`].
pub(super) const RESERVE: &str = "reserve";

/// How the names of the log's files begin.
const SEGMENT: &str = "segment-";

/// How the names of checkpoints begin.
const CHECKPOINT: &str = "checkpoint-";

/// How the names of files end that are still being written.
const UNFINISHED: &str = ".new";

/// Returns the name of a file of the log.
pub(super) fn segment(number: u64) -> String {
    format!("{SEGMENT}{number:06}")
}

/// Returns the number of a file of the log, if `name` is the name of one.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SEGMENT)?.parse().ok()?;
    // A second spelling of a number is not ours: the file would be taken for two.
    (segment(number) == name && number < u64::MAX).then_some(number)
}

/// Returns the name of the checkpoint of a revision.
pub(super) fn checkpoint(through: Revision) -> String {
    format!("{CHECKPOINT}{:020}", through.get())
}

/// Returns the revision of a checkpoint, if `name` is the name of one.
pub(super) fn checkpoint_revision(name: &str) -> Option<Revision> {
    let revision = name.strip_prefix(CHECKPOINT)?.parse().ok().map(Revision::new)?;
    // A second spelling of a revision is not ours.
    (checkpoint(revision) == name).then_some(revision)
}

/// Returns the name under which a file is written before it is renamed to `name`.
pub(super) fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}

/// Returns whether `name` is the name of one of the engine's files before it was finished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| {
        name == IDENTITY || name == WATERMARK || segment_number(name).is_some() || checkpoint_revision(name).is_some()
    })
}
