//! Which handler answers: by host first, then by the longest path prefix.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::Handler;
use super::rate::Limiter;
use crate::telemetry::MountMetrics;

/// A handler at a host and path prefix, and what is asked of its requests.
pub struct Mount {
    /// Its name in the configuration, in logs and metrics.
    pub name: Arc<str>,
    /// What answers.
    pub handler: Arc<dyn Handler>,
    /// The largest request body in bytes.
    pub body_bytes: u64,
    /// The rate of requests from one client.
    pub limiter: Option<Limiter>,
    /// Headers set on every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Counts its requests.
    pub metrics: MountMetrics,
}

/// All mounts.
#[derive(Default)]
pub struct Router {
    mounts: Vec<Mount>,
    exact: HashMap<Arc<str>, Prefixes>,
    /// By the parent of a wildcard.
    parents: HashMap<Arc<str>, Prefixes>,
    any: Prefixes,
}

/// Mounts of one host, longest prefix first; a prefix has no final slash, the root is "".
#[derive(Default)]
struct Prefixes(Vec<(Box<str>, Place)>);

/// A mount's place in its router. Requests keep this and not the mount itself: a count of references that all cores
/// change at every request costs more than the look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// To this mount, whose prefix takes so many bytes of the path.
    Mount(Place, usize),
    /// To the mount's own address with a final slash.
    Slash,
    /// Nowhere.
    Nothing,
}

impl Router {
    /// Adds a mount at `host` ("" is every host, "*.example.org" every name one label below) and `path`.
    ///
    /// # Errors
    /// The name of the mount that is there already.
    pub fn add(&mut self, host: &str, path: &str, mount: Mount) -> Result<(), Arc<str>> {
        let host = host.to_ascii_lowercase();
        let prefixes = match host.strip_prefix("*.") {
            Some(parent) => self.parents.entry(Arc::from(parent)).or_default(),
            None if host.is_empty() || host == "*" => &mut self.any,
            None => self.exact.entry(Arc::from(host)).or_default(),
        };
        let prefix = path.trim_end_matches('/');
        if let Some((_, other)) = prefixes.0.iter().find(|(taken, _)| **taken == *prefix) {
            return Err(self.mounts[other.0].name.clone());
        }
        prefixes.0.push((prefix.into(), Place(self.mounts.len())));
        self.mounts.push(mount);
        prefixes.0.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(())
    }

    /// Finds the mount for a host in lower case and a decoded path. A host's own mounts come before those of a
    /// wildcard, those before the ones of every host; within each, the longest prefix wins.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Found {
        let own = self.exact.get(host);
        let wild = host.split_once('.').and_then(|(_, parent)| self.parents.get(parent));
        own.into_iter()
            .chain(wild)
            .chain([&self.any])
            .find_map(|prefixes| prefixes.find(path))
            .unwrap_or(Found::Nothing)
    }

    /// The mount at a place that this router gave.
    #[must_use]
    pub fn mount(&self, place: Place) -> &Mount {
        &self.mounts[place.0]
    }
}

impl Prefixes {
    fn find(&self, path: &str) -> Option<Found> {
        self.0.iter().find_map(|&(ref prefix, mount)| {
            let rest = path.strip_prefix(&**prefix)?;
            match rest.as_bytes().first() {
                Some(b'/') => Some(Found::Mount(mount, prefix.len())),
                None if !prefix.is_empty() => Some(Found::Slash),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Reply, Request, Response};
    use crate::telemetry::Metrics;

    struct Nothing;
    impl Handler for Nothing {
        fn handle(&self, _request: Request) -> Reply<'_> {
            Reply::Now(Response::default())
        }
    }

    fn mount(name: &str) -> Mount {
        Mount {
            name: Arc::from(name),
            handler: Arc::new(Nothing),
            body_bytes: 0,
            limiter: None,
            headers: Vec::new(),
            metrics: Metrics::new().mount(name),
        }
    }

    fn router() -> Router {
        let mut router = Router::default();
        for (name, host, path) in [
            ("root", "", "/"),
            ("docs", "", "/docs"),
            ("deep", "", "/docs/api/"),
            ("own", "a.test", "/"),
            ("wild", "*.b.test", "/x"),
        ] {
            router.add(host, path, mount(name)).unwrap();
        }
        router
    }

    fn name(host: &str, path: &str) -> String {
        let router = router();
        match router.find(host, path) {
            Found::Mount(mount, taken) => format!("{}:{taken}", router.mount(mount).name),
            Found::Slash => "slash".into(),
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn the_host_comes_first_and_then_the_longest_prefix() {
        assert_eq!(name("z.test", "/"), "root:0");
        assert_eq!(name("z.test", "/docs/x"), "docs:5");
        assert_eq!(name("z.test", "/docs/api/x"), "deep:9");
        assert_eq!(name("z.test", "/docsx"), "root:0");
        assert_eq!(name("z.test", "/docs"), "slash");
        assert_eq!(name("a.test", "/docs/x"), "own:0");
        assert_eq!(name("q.b.test", "/x/y"), "wild:2");
        assert_eq!(name("q.b.test", "/y"), "root:0");
    }

    #[test]
    fn two_mounts_at_one_place_are_a_conflict() {
        assert_eq!(router().add("", "/docs/", mount("again")).unwrap_err().as_ref(), "docs");
    }
}
