//! Accounts of this host, from /etc/passwd and /etc/group themselves.
//!
//! Never through the C library: a static glibc loads the host's modules for such look-ups, and dies in them. Accounts
//! that only a directory service knows are not found here.

use std::fs;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl User {
    /// The account of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        find(&fs::read_to_string("/etc/passwd").ok()?, |user| user.name == name)
    }

    /// The account of that number.
    #[must_use]
    pub fn of(uid: u32) -> Option<Self> {
        find(&fs::read_to_string("/etc/passwd").ok()?, |user| user.uid == uid)
    }
}

/// The number of the group called `name`.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn find(text: &str, fits: impl Fn(&User) -> bool) -> Option<User> {
    text.lines().filter_map(read).find(fits)
}

/// From "name:x:uid:gid:comment:home:shell".
fn read(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(['+', '-', '#']))?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User { name, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let text =
            "# none\n+::::::\nroot:x:0:0:root:/root:/bin/bash\nodd\npostgres:x:101:104:PG,,,:/var/lib:/bin/bash\n";
        let user = find(text, |user| user.name == "postgres").unwrap();
        assert_eq!(user, User { name: "postgres".into(), uid: 101, gid: 104 });
        assert_eq!(find(text, |user| user.uid == 0).unwrap().name, "root");
        assert!(find(text, |user| user.name == "odd").is_none());
        assert_eq!(User::of(0).unwrap().name, "root");
        assert_eq!(group("root"), Some(0));
    }
}
