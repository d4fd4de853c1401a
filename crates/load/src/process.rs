//! The processor time and memory that a process uses, as Linux reports them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Clock ticks per second, the unit of the times in `/proc`. It is 100 on every architecture that is supported here.
const TICKS: u64 = 100;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in user mode and in the kernel.
    pub processor: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
}

/// Returns what a process has used so far.
///
/// # Errors
/// If there is no such process, or the system is not Linux.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let directory = PathBuf::from("/proc").join(pid.to_string());
    let unread = |what: &str| io::Error::other(format!("expected {what} in {}", directory.display()));
    let processor = ticks(&std::fs::read_to_string(directory.join("stat"))?).ok_or_else(|| unread("two times"))?;
    let resident = resident(&std::fs::read_to_string(directory.join("status"))?).ok_or_else(|| unread("VmRSS"))?;
    Ok(Usage { processor: Duration::from_millis(processor * (1000 / TICKS)), resident })
}

/// Returns how long the processors of this machine have been busy since it was started, all added up.
///
/// # Errors
/// If the system is not Linux.
pub fn busy() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&stat).ok_or_else(|| io::Error::other("expected times of `cpu` in /proc/stat"))?;
    Ok(Duration::from_millis(ticks * (1000 / TICKS)))
}

/// Returns the ticks of all processors together in which they were neither idle nor waiting for a disk.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_ascii_whitespace();
    // The last two, the time of guests, are included in the first two.
    let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = ticks.get(3)?.checked_add(*ticks.get(4)?)?;
    ticks.iter().sum::<u64>().checked_sub(idle)
}

/// Returns how many ticks a process has run.
fn ticks(stat: &str) -> Option<u64> {
    // The name of the program, in parentheses, may contain spaces and parentheses.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

/// Returns the resident memory of a process, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns a description of this machine.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_parsed() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000000 300 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (cut"), None);
        assert_eq!(resident("Name:\ta\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(resident("Name:\ta\n"), None);
        assert_eq!(busy_ticks("cpu  100 1 50 900 40 2 3 4 5 6\ncpu0 1 1 1 1 1\n"), Some(160));
        assert_eq!(busy_ticks("cpu0 1 1 1 1 1\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).unwrap().resident > 100_000);
        assert!(usage(u32::MAX).is_err());
        assert!(busy().unwrap() > Duration::ZERO);
    }
}
