//! What was measured, as it is kept between comparisons, so that some rows can be measured anew.

use crate::error::BenchError;
use crate::sample::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// All that was measured on a machine.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: String,
    /// By the names of the servers.
    pub(crate) versions: BTreeMap<String, String>,
    /// By the names of the runs.
    pub(crate) runs: BTreeMap<String, RunResults>,
}

/// A run that was done.
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
            .map_err(|error| BenchError::Usage(format!("{}: {error}; remove it to begin anew", file.display())))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), BenchError> {
        let text = serde_json::to_string(self).map_err(|error| BenchError::Usage(error.to_string()))?;
        Ok(fs::write(file, text)?)
    }

    /// The runs of `newer` take the place of those of the same name.
    pub(crate) fn add(&mut self, newer: Self) {
        self.machine = newer.machine;
        self.versions.extend(newer.versions);
        self.runs.extend(newer.runs);
    }
}

/// Today, as in 2026-11-23.
pub(crate) fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// Which machine this is.
pub(crate) fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gigabytes = kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{} {kernel}, {gigabytes} GiB", syncline_load::process::machine())
}
