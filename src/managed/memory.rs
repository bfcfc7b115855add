//! How much memory there is to share out: the host's, or what the control group allows, if that is less.

use std::fs;

/// Taken for granted where nothing can be read, in bytes.
const UNKNOWN: u64 = 1 << 30;

/// The memory that this process and its children may have, in bytes.
#[must_use]
pub fn total() -> u64 {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_host(&text)).unwrap_or(UNKNOWN);
    limits().into_iter().fold(host, u64::min)
}

/// From "MemTotal:       24576000 kB".
fn of_host(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The limits of the control group that we are in, and of those above it.
fn limits() -> Vec<u64> {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
    let below = std::path::Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let groups = below.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    groups
        .filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok())
        .filter_map(|text| text.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_host_is_read() {
        assert_eq!(of_host("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 << 10));
        assert_eq!(of_host("nothing"), None);
        assert!(total() > 64 << 20);
    }
}
