//! Configuration of logs: the section `[log]`.

use serde::{Deserialize, Serialize};

use crate::error::Fault;

use super::error::Error;
use super::log::filter;

/// What is logged, how and where.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The least severe level that is logged: "error", "warn", "info", "debug" or "trace". A filter by module is
    /// possible too, as in "info,beacon::tls=debug".
    pub level: String,
    /// "auto" (the journal's own protocol under systemd, "pretty" on a terminal, "json" elsewhere), "pretty", "json"
    /// or "journald".
    pub format: Format,
    /// The access log: one line for each request that has ended.
    pub access: Access,
}

/// The access log. The values of query parameters with secret names (token, password, code, signature ...) are written
/// as "***".
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// "stdout", "journald", "off", or the path of a file. A file that was moved or deleted (logrotate) is opened anew
    /// within a second and on SIGHUP.
    pub output: String,
    /// "auto" ("combined" on a terminal, "json" elsewhere), "json" or "combined" (NGINX's and Apache's format). The
    /// journal gets fields instead: STATUS, CLIENT_IP, REQUEST_ID, DURATION_US, MOUNT ...
    pub format: AccessFormat,
}

/// How log messages look.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Chosen from where standard error goes.
    #[default]
    Auto,
    /// For people, with colour on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
    /// Fields to systemd's journal.
    Journald,
}

/// How access lines look.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// Chosen from where the lines go.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// NGINX's and Apache's "combined".
    Combined,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Auto, access: Access::default() }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self { output: "stdout".into(), format: AccessFormat::Auto }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(Error::Level { problem, .. }) = filter(&self.level) {
            faults.push(Fault::new(
                "level",
                problem,
                "Use error, warn, info, debug or trace, or \"info,beacon::tls=debug\" for one module.",
            ));
        }
        let output = self.access.output.as_str();
        if !matches!(output, "stdout" | "journald" | "off") && !output.starts_with('/') {
            faults.push(Fault::new(
                "access.output",
                format!("\"{output}\" is neither a known place nor an absolute path"),
                "Use \"stdout\", \"journald\", \"off\" or the absolute path of a file.",
            ));
        }
        faults
    }
}
