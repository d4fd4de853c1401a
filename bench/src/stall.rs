//! A writer beside a watcher that does not read: what that costs the writer and the server, and what the watcher
//! receives when it reads again.

use crate::error::BenchError;
use crate::peers::AnyPeer;
use crate::sample::{Figures, figures};
use crate::target::Target;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use syncline_load::workload::{follow, write_all};
use syncline_load::{Error, Event, Keys, Link};
use tokio::time::timeout;

/// The longest time to write, both without and beside the watcher. A slow server receives fewer writes.
const MAX_WRITE_TIME: Duration = Duration::from_secs(20);

/// The longest time for the watcher to receive the latest value of every key.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Measures the writer without and beside the watcher, and then lets the watcher read.
pub(crate) async fn run(target: &Target<'_>, peer: &AnyPeer, puts: usize, depth: u16) -> Result<Figures, BenchError> {
    let keys = &target.keys;
    let (without, _) = write_all(peer, keys, puts, depth, MAX_WRITE_TIME).await?;
    let before = target.usage()?.resident;
    let mut watcher = follow(peer).await?;
    let (beside, writes) = write_all(peer, keys, puts, depth, MAX_WRITE_TIME).await?;
    let after = target.usage()?.resident;
    let resumed = Instant::now();
    let (is_current, changes) = match timeout(CATCH_UP_TIMEOUT, catch_up(&mut watcher, keys, writes)).await {
        Ok(Ok(received)) => received,
        // The server has closed the connection, or the watcher is still behind.
        Ok(Err(_)) | Err(_) => (false, 0),
    };
    Ok(figures([
        ("puts", beside.count() as f64),
        ("p99_us_without", without.micros_at(0.99)),
        ("p99_us", beside.micros_at(0.99)),
        ("p99_ratio", beside.micros_at(0.99) / without.micros_at(0.99)),
        ("grown_bytes", after.saturating_sub(before) as f64),
        // Infinity if an update was lost.
        ("current_s", if is_current { resumed.elapsed().as_secs_f64() } else { f64::INFINITY }),
        ("changes", changes as f64),
        ("server_bytes", after as f64),
    ]))
}

/// Reads up to the last write. Returns whether the latest write of every key was received, and the number of changes.
async fn catch_up(watcher: &mut Link, keys: &Keys, writes: u64) -> Result<(bool, u64), Error> {
    let mut latest: HashMap<u64, u64> = HashMap::new();
    let mut changes = 0;
    loop {
        let Event::Change { value, .. } = watcher.receive().await? else { continue };
        changes += 1;
        let Some([stamp, key, write]) = syncline_load::parse_stamp(&value) else { continue };
        if stamp == 0 {
            break;
        }
        latest.insert(key, write);
    }
    // Keys were written one after the other, over and over. The last write of all goes to a key outside of them.
    let count = keys.count() as u64;
    let is_latest = |key: u64| {
        let writes = writes - 1;
        let last = (writes > key).then(|| key + 1 + (writes - key - 1) / count * count);
        latest.get(&key).copied() == last
    };
    Ok(((0..count).all(is_latest), changes))
}
