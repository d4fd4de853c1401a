//! The stored results of comparisons. A comparison of some runs keeps the stored samples of all others.

use crate::error::BenchError;
use crate::sample::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The results of all runs.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: String,
    /// The versions of the servers by name.
    pub(crate) versions: BTreeMap<String, String>,
    /// The results by run id.
    pub(crate) runs: BTreeMap<String, RunResults>,
}

/// The results of one run.
#[derive(Serialize, Deserialize)]
pub(crate) struct RunResults {
    pub(crate) date: String,
    pub(crate) seconds: f64,
    pub(crate) keys: usize,
    pub(crate) threads: u64,
    pub(crate) samples: Vec<Sample>,
}

impl Results {
    pub(crate) fn read(file: &Path) -> Result<Self, BenchError> {
        if !file.is_file() {
            return Ok(Self::default());
        }
        serde_json::from_str(&fs::read_to_string(file)?)
            .map_err(|error| BenchError::Usage(format!("{}: {error}; remove the file to start again", file.display())))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), BenchError> {
        let text = serde_json::to_string(self).map_err(|error| BenchError::Usage(error.to_string()))?;
        Ok(fs::write(file, text)?)
    }

    /// Adds results. They replace those of the same runs.
    pub(crate) fn add(&mut self, newer: Self) {
        self.machine = newer.machine;
        self.versions.extend(newer.versions);
        self.runs.extend(newer.runs);
    }
}

/// Returns today's date, such as 2026-11-23.
pub(crate) fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// Returns a description of this machine.
pub(crate) fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gigabytes = kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{} {kernel}, {gigabytes} GiB", syncline_load::process::machine())
}
