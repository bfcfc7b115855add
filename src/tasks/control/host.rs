//! What the kernel says of this process, with the names of Python's `resource` module.
//!
//! From /proc, because getrusage(2) cannot be called without unsafe code.

use std::fs;

use serde_json::{Map, Value, json};

/// Ticks a second in /proc/self/stat: 100 on every machine that Linux shows programs.
const TICKS: f64 = 100.0;
/// Bytes of a block in getrusage(2).
const BLOCK: u64 = 512;

/// As `resource.getrusage(RUSAGE_SELF)`; `None` where there is no /proc.
pub(super) fn usage() -> Option<Value> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold blanks and brackets; what follows the last one is numbers.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let (minor, major, user, system) = (number(7)?, number(9)?, number(11)?, number(12)?);
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let (voluntary, forced) = switches();
    // Not readable in some sandboxes.
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let blocks = |name| field(&io, name).unwrap_or_default() / BLOCK;
    let mut all = Map::new();
    for (name, value) in [
        ("maxrss", field(&status, "VmHWM:").unwrap_or_default()),
        ("minflt", minor),
        ("majflt", major),
        ("inblock", blocks("read_bytes:")),
        ("oublock", blocks("write_bytes:")),
        ("nvcsw", voluntary),
        ("nivcsw", forced),
    ] {
        all.insert(name.into(), value.into());
    }
    // Linux does not keep these.
    for name in ["ixrss", "idrss", "isrss", "nswap", "msgsnd", "msgrcv", "nsignals"] {
        all.insert(name.into(), 0.into());
    }
    all.insert("utime".into(), json!(user as f64 / TICKS));
    all.insert("stime".into(), json!(system as f64 / TICKS));
    Some(Value::Object(all))
}

/// Context switches of all threads that live: given up, and taken away.
fn switches() -> (u64, u64) {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return (0, 0) };
    let mut all = (0, 0);
    for thread in threads.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        all.0 += field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
        all.1 += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
    }
    all
}

/// Memory that this process has, in bytes.
pub(super) fn resident() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:").map(|kilobytes| kilobytes * 1024)
}

/// The number on the line that begins so.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// A size as Celery writes it, as in "58.477MB": five digits that count.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 5] = [(1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"), (1, "b")];
    let (each, unit) = UNITS.into_iter().find(|(each, _)| bytes >= *each).unwrap_or((1, "b"));
    if bytes.is_multiple_of(each) {
        return format!("{}{unit}", bytes / each);
    }
    let real = bytes as f64 / each as f64;
    let digits = 4 - (real.log10().floor() as usize).min(4);
    let text = format!("{real:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_has_every_key_of_python() {
        let usage = usage().unwrap();
        let keys = [
            "utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap", "inblock", "oublock",
            "msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw",
        ];
        assert_eq!(usage.as_object().unwrap().len(), keys.len());
        assert!(keys.iter().all(|key| usage[key].is_number()), "{usage}");
        assert!(usage["maxrss"].as_u64().unwrap() > 1_000 && usage["minflt"].as_u64().unwrap() > 100, "{usage}");
        assert!(resident().unwrap() > 1_000_000);
    }

    #[test]
    fn sizes_are_those_of_celery() {
        for (bytes, shown) in [
            (0, "0b"),
            (512, "512b"),
            (1_024, "1KB"),
            (1_536, "1.5KB"),
            (61_317_120, "58.477MB"),
            (123_456_789, "117.74MB"),
            (5 << 30, "5GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
