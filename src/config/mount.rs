//! Configuration of the mounts: the section `[mounts]`, a host and a path prefix to what answers there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::{docs, http, site};

/// One entry of `[mounts]`: a host and a path prefix, and what answers there.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// The host name, or "" for every host. "*.example.org" is every name one label below.
    pub host: String,
    /// The path prefix, as in "/docs". The longest prefix that fits a request wins.
    pub path: String,
    /// Answers with the files of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<site::Config>,
    /// Answers with documentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<docs::Config>,
    /// Answers with a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Whether the auth wall stands before this mount, when it stands at all.
    pub wall: bool,
    /// The largest request body in bytes; 0 is http.limits.body_bytes.
    pub body_bytes: u64,
    /// The rate of requests from one client address to this mount.
    pub rate: http::Rate,
    /// Headers set on every response of this mount, as in { "content-security-policy" = "default-src 'self'" }.
    pub headers: BTreeMap<String, String>,
}

/// A redirect.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Redirect {
    /// Where to: an absolute URL or a path. "{path}" stands for the path below the mount with its query, "{host}" for
    /// the host asked for.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            host: String::new(),
            path: "/".into(),
            site: None,
            docs: None,
            redirect: None,
            wall: true,
            body_bytes: 0,
            rate: http::Rate::default(),
            headers: BTreeMap::new(),
        }
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self { to: String::new(), status: 308 }
    }
}

impl Mount {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !self.path.starts_with('/') || self.path.contains("//") || self.path.contains(['?', '#', '%']) {
            faults.push(Fault::new(
                "path",
                format!("\"{}\" is not a path prefix", self.path),
                "Use \"/\" or \"/name\", without encoding.",
            ));
        }
        let kinds =
            usize::from(self.site.is_some()) + usize::from(self.docs.is_some()) + usize::from(self.redirect.is_some());
        if kinds != 1 {
            faults.push(Fault::new(
                "site",
                format!("{kinds} of site, docs and redirect are set"),
                "A mount has exactly one of them: site.root = \"/srv/www\", docs.folder = \"\", or redirect.to = \"...\".",
            ));
        }
        if let Some(site) = &self.site {
            faults.extend(site.validate().into_iter().map(|fault| fault.within("site")));
        }
        if let Some(docs) = &self.docs {
            faults.extend(docs.validate().into_iter().map(|fault| fault.within("docs")));
        }
        if let Some(redirect) = &self.redirect {
            if ![301, 302, 303, 307, 308].contains(&redirect.status) {
                faults.push(Fault::new(
                    "redirect.status",
                    format!("{} is no redirect", redirect.status),
                    "Use 301, 302, 303, 307 or 308.",
                ));
            }
            if !redirect.to.starts_with('/') && !redirect.to.contains("://") {
                faults.push(Fault::new(
                    "redirect.to",
                    format!("\"{}\" is neither a path nor a URL", redirect.to),
                    "Use \"/new{path}\" or \"https://example.org{path}\".",
                ));
            }
        }
        for (name, value) in &self.headers {
            if ::http::HeaderName::try_from(name.as_str()).is_err() || ::http::HeaderValue::try_from(value).is_err() {
                faults.push(Fault::new(
                    format!("headers.{name}"),
                    "is not a header that can be sent",
                    "Use a header name, and visible ASCII characters as its value.",
                ));
            }
        }
        faults
    }
}
