//! The process's own numbers (`process_*`, named as Prometheus's client libraries name them), read when asked for.
//!
//! Only files below /proc/self are read: the unit's `ProcSubset=pid` hides the others.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Clock ticks a second in /proc/self/stat: 100 on every architecture that Linux has had since 2.6 but alpha and ia64.
const TICKS: f64 = 100.0;

/// Reads the numbers of this process.
#[derive(Debug)]
pub struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Process {
    /// Takes now for the start of the process.
    #[must_use]
    pub fn new() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) }
    }
}

impl Collector for Process {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        gauge(&mut out, "process_start_time_seconds", "When the process started, since 1970.", &self.started)?;
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (key, unit, name, help) in [
                ("VmRSS:", 1_024, "process_resident_memory_bytes", "Memory in use."),
                ("VmSize:", 1_024, "process_virtual_memory_bytes", "Address space in use."),
                ("Threads:", 1, "process_threads", "Threads."),
            ] {
                if let Some(value) = after(&status, key) {
                    gauge(&mut out, name, help, &(value * unit))?;
                }
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            gauge(&mut out, "process_open_fds", "Open file descriptors.", &(open.count() as u64).saturating_sub(1))?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        gauge(
            &mut out,
            "process_max_fds",
            "The most descriptors that may be open.",
            &(limit.unwrap_or(u64::MAX) as f64),
        )?;
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
            out.encode_descriptor("process_cpu_seconds", "Processor time used.", None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
        }
        Ok(())
    }
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
}

/// The number in the line of /proc/self/status that begins with `key`.
fn after(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time out of /proc/self/stat. The name of the program, in parentheses, may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // Of proc_pid_stat(5), fields 14 and 15; the first one here is the third.
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_name_and_place() {
        assert_eq!(after("Name:\tx\nVmRSS:\t  1234 kB\nThreads:\t7\n", "VmRSS:"), Some(1_234));
        assert_eq!(after("Name:\tx\n", "VmRSS:"), None);
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
