//! What a process takes of its machine, as Linux tells it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Clock ticks per second, as Linux tells times to programs, on every processor it runs on here.
const TICKS: u64 = 100;

/// What a process has taken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors, its own and the kernel's for it.
    pub processor: Duration,
    /// Bytes of memory that are its own or that it has touched.
    pub resident: u64,
}

/// Asks Linux what a process has taken.
///
/// # Errors
/// Where there is no such process, or no Linux.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let of = PathBuf::from("/proc").join(pid.to_string());
    let unread = |what: &str| io::Error::other(format!("expected {what} in {}", of.display()));
    let processor = ticks(&std::fs::read_to_string(of.join("stat"))?).ok_or_else(|| unread("two times"))?;
    let resident = resident(&std::fs::read_to_string(of.join("status"))?).ok_or_else(|| unread("VmRSS"))?;
    Ok(Usage { processor: Duration::from_millis(processor * (1000 / TICKS)), resident })
}

/// How long the processors of this machine have been busy since it was started, all together.
///
/// # Errors
/// Where there is no Linux.
pub fn busy() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&stat).ok_or_else(|| io::Error::other("expected times of `cpu` in /proc/stat"))?;
    Ok(Duration::from_millis(ticks * (1000 / TICKS)))
}

/// The ticks of all processors together that were neither idle nor waiting for a disk.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_ascii_whitespace();
    // The last two are in the first two already: guests.
    let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = ticks.get(3)?.checked_add(*ticks.get(4)?)?;
    ticks.iter().sum::<u64>().checked_sub(idle)
}

/// The ticks that a process has run.
fn ticks(stat: &str) -> Option<u64> {
    // The name of the program, in brackets, may hold anything.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

/// The bytes of memory that a process has.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Which machine this is.
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
    fn what_linux_tells_of_a_process() {
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
    fn this_process_has_memory() {
        assert!(usage(std::process::id()).unwrap().resident > 100_000);
        assert!(usage(u32::MAX).is_err());
        assert!(busy().unwrap() > Duration::ZERO);
    }
}
