//! CPU time and peak memory of processes, the hardware of this machine, and the build of this process. The numbers are absent outside
//! Linux.

use serde::{Deserialize, Serialize};
use std::fs;

/// Unit of the times in `/proc/<pid>/stat`. Linux reports 100 ticks per second on every architecture that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub cpu_model: Option<String>,
    pub memory_mib: Option<u64>,
    pub kernel: Option<String>,
}

impl Machine {
    pub fn look() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu_model: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text)),
            memory_mib: fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(&text, "MemTotal:")).map(|kib| kib / 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
        }
    }

    /// One line for the head of a report.
    pub fn line(&self) -> String {
        let mut line = format!("{} core{}", self.cores, if self.cores == 1 { "" } else { "s" });
        if let Some(model) = &self.cpu_model {
            line.push_str(&format!(", {model}"));
        }
        if let Some(memory) = self.memory_mib {
            line.push_str(&format!(", {:.1} GiB", memory as f64 / 1024.0));
        }
        if let Some(kernel) = &self.kernel {
            line.push_str(&format!(", Linux {kernel}"));
        }
        line
    }
}

/// Build of the process that runs the load. A test mall runs the same binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildProfile {
    /// Folder name of Cargo's profile: `debug`, `release` or `dist`.
    pub name: String,
    /// Kind of link-time optimization across crates, such as `thin`. `None`: there is none.
    pub lto: Option<String>,
}

impl BuildProfile {
    /// One line for the head of a report.
    pub fn line(&self) -> String {
        match &self.lto {
            Some(kind) => format!("{} build, {kind} LTO", self.name),
            None => format!("{} build, without LTO", self.name),
        }
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// CPU seconds used by all threads of a process.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    stat_seconds(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn stat_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, which may itself contain spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// CPU seconds of several processes, summed. `None`: the list is empty, or one of them cannot be read.
pub fn cpu_seconds_of_all(pids: &[u32]) -> Option<f64> {
    sum(pids, cpu_seconds)
}

/// Sum of the peak memory of several processes. The peaks may have occurred at different times.
pub fn peak_rss_mib_of_all(pids: &[u32]) -> Option<f64> {
    sum(pids, peak_rss_mib)
}

fn sum(pids: &[u32], of: fn(u32) -> Option<f64>) -> Option<f64> {
    if pids.is_empty() { None } else { pids.iter().map(|pid| of(*pid)).sum() }
}

/// Peak resident memory of a process since its start.
pub fn peak_rss_mib(pid: u32) -> Option<f64> {
    let kib = kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")?;
    Some(kib as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_shifts_no_field() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 4 0 100 1000 10";
        assert_eq!(stat_seconds(stat), Some(4.0));
        assert_eq!(stat_seconds("garbage"), None);
    }

    #[test]
    fn proc_files_are_parsed() {
        assert_eq!(kib("VmPeak:\t  10 kB\nVmHWM:\t  2048 kB\n", "VmHWM:"), Some(2048));
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2.0GHz\n").as_deref(), Some("A CPU @ 2.0GHz"));
    }
}
