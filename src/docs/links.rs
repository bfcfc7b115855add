//! From a link as written in a page (`../api/keys.md#rotate`) to an address of the site.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::tree::{Place, Tree};

/// What stays as it is in the path of an address (RFC 3986, section 2.3, and the slash).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Out of the documentation, or to an absolute path: left as written.
    Elsewhere,
    /// A page, and the part after `#`, decoded.
    Page(usize, String),
    /// Another file.
    File,
    /// Nothing.
    Broken,
}

/// The prefix of all addresses under a mount: "/docs" and "/docs/" give "/docs/", "/" gives "/".
pub fn base(mount: &str) -> String {
    let inner = mount.trim_matches('/');
    if inner.is_empty() { "/".into() } else { format!("/{}/", encode(inner)) }
}

/// Encodes a decoded path for an address.
pub fn encode(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, PATH).into()
}

/// Resolves `url`, written in the page `from`, and gives the address to write instead if it should change.
pub fn resolve(tree: &Tree, base: &str, from: usize, url: &str) -> (Target, Option<String>) {
    if url.is_empty() || url.starts_with('/') || has_scheme(url) {
        return (Target::Elsewhere, None);
    }
    let (rest, fragment) = url.split_once('#').map_or((url, None), |(rest, fragment)| (rest, Some(fragment)));
    let anchor = || percent_decode_str(fragment.unwrap_or_default()).decode_utf8_lossy().into_owned();
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    if path.is_empty() {
        return (Target::Page(from, anchor()), None);
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let Some(path) = normalise(&tree.pages[from].folder, &decoded) else { return (Target::Broken, None) };
    let exact = tree.find(&path).or_else(|| tree.canonical(&path).and_then(|route| tree.find(route)));
    let (target, route) = match exact {
        Some(Place::Page(at)) => (Target::Page(at, anchor()), tree.pages[at].route.as_str()),
        Some(Place::File(_)) => (Target::File, path.as_str()),
        None => return (Target::Broken, None),
    };
    let mut out = format!("{base}{}", encode(route));
    for (mark, part) in [('?', query), ('#', fragment)] {
        if let Some(part) = part {
            out.push(mark);
            out.push_str(part);
        }
    }
    (target, Some(out))
}

/// "mailto:", "https:", and "//host" too.
fn has_scheme(url: &str) -> bool {
    url.starts_with("//")
        || url.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|ch: char| ch.is_ascii_alphabetic())
                && scheme.chars().all(|ch| ch.is_ascii_alphanumeric() || "+-.".contains(ch))
        })
}

/// Joins and resolves dot segments; none for a path that leaves the site.
fn normalise(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            other => parts.push(other),
        }
    }
    let mut out = parts.join("/");
    if !out.is_empty() && (path.ends_with('/') || path.ends_with("/.") || path.ends_with("..") || path == ".") {
        out.push('/');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::source::Source;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "# T\n").unwrap();
        }
        let source = Source::Folder(dir.path().to_path_buf());
        let entries = source.scan().unwrap();
        (dir, Tree::read(&source, entries))
    }

    #[test]
    fn links_between_files_become_addresses() {
        let (_dir, tree) = tree(&["index.md", "a b.md", "guide/index.md", "guide/tls.md", "guide/img/x.png"]);
        let Some(Place::Page(from)) = tree.find("guide/tls") else { panic!() };
        let to = |url: &str| resolve(&tree, "/d%20x/", from, url).1;
        assert_eq!(to("index.md").as_deref(), Some("/d%20x/guide/"));
        assert_eq!(to("../index.md#top").as_deref(), Some("/d%20x/#top"));
        assert_eq!(to("../a%20b.md?x=1#y").as_deref(), Some("/d%20x/a%20b?x=1#y"));
        assert_eq!(to("../a b").as_deref(), Some("/d%20x/a%20b"));
        assert_eq!(to(".").as_deref(), Some("/d%20x/guide/"));
        assert_eq!(to("..").as_deref(), Some("/d%20x/"));
        assert_eq!(to("img/x.png").as_deref(), Some("/d%20x/guide/img/x.png"));
        assert_eq!(to("tls.html#x").as_deref(), Some("/d%20x/guide/tls#x"));
        for same in ["#here", "https://example.org/a.md", "mailto:a@b.c", "/abs.md", "//host/x.md"] {
            assert_eq!(to(same), None, "{same}");
        }
    }

    #[test]
    fn what_is_not_there_or_outside_is_broken() {
        let (_dir, tree) = tree(&["index.md", "guide/tls.md"]);
        for url in ["nothing.md", "../../etc/passwd", "%2e%2e/%2e%2e/x.md", "guide/tls.md/x"] {
            assert_eq!(resolve(&tree, "/", 0, url).0, Target::Broken, "{url}");
        }
    }

    #[test]
    fn every_mount_has_a_base() {
        assert_eq!((base("/").as_str(), base("/docs").as_str(), base("/a/b/").as_str()), ("/", "/docs/", "/a/b/"));
        assert_eq!(base("/\"x"), "/%22x/");
    }
}
