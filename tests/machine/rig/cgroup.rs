//! A cgroup for each machine, below the test's own: nspawn puts its groups beside the process that starts it, and two
//! machines would have the same ones otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The machine's groups, one in each hierarchy that systemd uses.
pub struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    pub fn new(name: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let folders = hierarchies(&own, &mounts);
        assert!(!folders.is_empty(), "there is no cgroup hierarchy for systemd:\n{own}");
        for folder in &folders {
            remove_left(folder);
        }
        let groups = folders.iter().map(|folder| folder.join(format!("beacon-{name}-{}", std::process::id())));
        let groups: Vec<PathBuf> = groups.collect();
        for group in &groups {
            fs::create_dir_all(group).unwrap();
        }
        Self(groups)
    }

    /// The groups as words of a shell.
    pub fn words(&self) -> String {
        self.0.iter().map(|group| group.display().to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Takes the groups away, once the last process in them has ended.
    pub fn remove(&self) {
        let begun = Instant::now();
        for group in &self.0 {
            while remove(group).is_err() && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Takes away the groups of runs that were killed: their names end in the number of a process that is gone.
fn remove_left(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("beacon-").and_then(|rest| rest.rsplit('-').next());
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if owner.filter(is_number).is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = remove(&entry.path());
        }
    }
}

fn remove(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The folders of this process in the unified hierarchy and in systemd's own of the older kind.
fn hierarchies(own: &str, mounts: &str) -> Vec<PathBuf> {
    let mounted = |fits: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            fits(words[2], words[3]).then(|| PathBuf::from(words[1]))
        })
    };
    let below = |line: &str| -> Option<PathBuf> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kind, path) = (parts.next()?, parts.next()?);
        let mount = match kind {
            "" => mounted(&|kind, _| kind == "cgroup2")?,
            "name=systemd" => mounted(&|kind, options| kind == "cgroup" && options.contains("name=systemd"))?,
            _ => return None,
        };
        Some(mount.join(path.trim_start_matches('/')))
    };
    own.lines().filter_map(below).collect()
}

#[test]
fn both_kinds_of_hierarchy_are_found() {
    let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    let found = hierarchies("3:cpu:/x\n1:name=systemd:/a/b\n0::/\n", mounts);
    assert_eq!(found, [PathBuf::from("/sys/fs/cgroup/systemd/a/b"), PathBuf::from("/sys/fs/cgroup/unified/")]);
}
