//! How many connections the limit of open files allows.
//!
//! Connections never take the last files of the process. So the store can still open its own files, and a client beyond the
//! limit is sent the reason, instead of waiting in the accept queue for ever.

use rlimit::Resource;
use tracing::warn;

/// Returns how many connections there may be: as many as configured, or fewer if the limit of open files is too low.
/// `reserved` files are left for other purposes.
pub(crate) fn limit_connections(configured: usize, reserved: usize) -> usize {
    let Ok(open_files) = Resource::NOFILE.get_soft() else { return configured };
    let allowed = allowed_connections(usize::try_from(open_files).unwrap_or(usize::MAX), reserved);
    if allowed < configured {
        warn!(open_files, configured, allowed, "the limit of open files allows fewer connections than configured");
    }
    configured.min(allowed)
}

/// Returns the number of connections that leave `reserved` files. If the limit is very low, half of the files are for
/// connections.
const fn allowed_connections(open_files: usize, reserved: usize) -> usize {
    let half = open_files / 2;
    open_files - if reserved < half { reserved } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_store() {
        assert_eq!(allowed_connections(1024, 128), 896);
        assert_eq!(allowed_connections(200, 128), 100);
        assert_eq!(allowed_connections(1, 128), 1);
        assert_eq!(allowed_connections(usize::MAX, 128), usize::MAX - 128);
        assert_eq!(limit_connections(1, 0), 1);
    }
}
