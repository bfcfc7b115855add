//! Configuration of the store: the section `[storage]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::secret::Secret;

/// Where uploads and static content are kept.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The S3 bucket; BUCKET_NAME sets it too. Empty: a local folder.
    pub bucket: String,
    /// The bucket's region; AWS_REGION sets it too.
    pub region: String,
    /// The access key's identifier; AWS_ACCESS_ID and AWS_ACCESS_KEY_ID set it too. Empty: the host's IAM role.
    pub access_key_id: String,
    /// The access key; AWS_ACCESS_SECRET and AWS_SECRET_ACCESS_KEY set it too.
    pub secret_access_key: Secret,
    /// The token of temporary keys.
    pub session_token: Secret,
    /// Another S3 server, as in `https://minio.example.org:9000`.
    /// Empty: Amazon's.
    pub endpoint: String,
    /// Whether the bucket stands in the path of URLs and not in the host's name; most servers besides Amazon's want it.
    pub path_style: bool,
    /// What the keys of all objects in the bucket begin with, as in "prod/": a part of it for this Beacon.
    pub prefix: String,
    /// The local folder. Empty: `storage` in the state folder.
    pub folder: PathBuf,
    /// How S3 is asked to encrypt what it keeps.
    pub encryption: Encryption,
    /// The KMS key for encryption = "kms"; empty: the account's default one.
    pub kms_key: String,
    /// How long a request to S3 may take to be answered.
    #[serde(with = "crate::clock::duration")]
    pub timeout: Duration,
    /// Connections to S3 at once, 1 to 1,000.
    pub connections: u32,
}

/// Encryption of objects by S3.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// The bucket's own setting.
    #[default]
    Bucket,
    /// AES256 with S3's own keys (SSE-S3).
    S3,
    /// With a key of KMS (SSE-KMS).
    Kms,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            region: String::new(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            endpoint: String::new(),
            path_style: false,
            prefix: String::new(),
            folder: PathBuf::new(),
            encryption: Encryption::Bucket,
            kms_key: String::new(),
            timeout: Duration::from_secs(30),
            connections: 64,
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.access_key_id.is_empty() != self.secret_access_key.is_empty() {
            let unset = if self.access_key_id.is_empty() { "access_key_id" } else { "secret_access_key" };
            faults.push(Fault::new(
                unset,
                "is not set although the other half of the key pair is",
                "Set both, or neither to use the host's IAM role.",
            ));
        }
        if !self.session_token.is_empty() && self.access_key_id.is_empty() {
            faults.push(Fault::new("session_token", "is set without keys", "Set the key pair that came with it."));
        }
        if !self.bucket.is_empty() && !is_bucket(&self.bucket) {
            faults.push(Fault::new(
                "bucket",
                format!("\"{}\" is not the name of a bucket", self.bucket),
                "Use 3 to 63 lower-case letters, digits, dots and hyphens: the name alone, without s3:// and a path.",
            ));
        }
        for (key, set) in [
            ("prefix", !self.prefix.is_empty()),
            ("endpoint", !self.endpoint.is_empty()),
            ("encryption", self.encryption != Encryption::Bucket),
        ] {
            if set && self.bucket.is_empty() {
                faults.push(Fault::new(
                    key,
                    "is set, and a folder has none of it",
                    "Set storage.bucket, or remove it; storage.folder names another folder.",
                ));
            }
        }
        if !self.endpoint.is_empty() {
            match endpoint_host(&self.endpoint) {
                None => faults.push(Fault::new(
                    "endpoint",
                    format!("\"{}\" is not the address of a server", self.endpoint),
                    "Use \"https://host\" or \"https://host:port\", without a path.",
                )),
                Some(host) if !self.path_style && (host.parse::<std::net::IpAddr>().is_ok() || host == "localhost") => {
                    faults.push(Fault::new(
                        "path_style",
                        format!("is off, and \"{}\" cannot have the bucket in front of it", self.endpoint),
                        "Set storage.path_style = true.",
                    ));
                }
                Some(_) => {}
            }
        }
        if !self.prefix.is_empty() && super::Key::new(&format!("{}x", self.prefix)).is_err() {
            faults.push(Fault::new(
                "prefix",
                format!("\"{}\" cannot begin a key", self.prefix),
                "Use names between single slashes, as in \"prod/\".",
            ));
        }
        if !self.kms_key.is_empty() && self.encryption != Encryption::Kms {
            let problem = "is set, and encryption is not \"kms\"";
            faults.push(Fault::new("kms_key", problem, "Set storage.encryption = \"kms\", or remove the key."));
        }
        if !(1..=1_000).contains(&self.connections) {
            faults.push(Fault::new("connections", format!("{} is out of range", self.connections), "Use 1 to 1000."));
        }
        if self.timeout.is_zero() {
            faults.push(Fault::new("timeout", "is zero", "Use a duration such as \"30s\"."));
        }
        faults
    }
}

/// Whether a text can be a bucket's name (the S3 User Guide, "Bucket naming rules").
fn is_bucket(name: &str) -> bool {
    let own = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| own(byte) || matches!(byte, b'-' | b'.'))
        && name.bytes().next().is_some_and(own)
        && name.bytes().next_back().is_some_and(own)
        && !name.contains("..")
}

/// The host of a server's address, without brackets; `None` if it is no such address.
fn endpoint_host(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https")) && matches!(uri.path(), "" | "/");
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    (plain && uri.query().is_none() && !host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_could_be_asked_with_is_refused() {
        let good = Config { bucket: "media".into(), endpoint: "https://s3.example.org".into(), ..Config::default() };
        assert!(Config::default().validate().is_empty());
        assert!(good.validate().is_empty());
        let path = Config { endpoint: "http://127.0.0.1:9000".into(), path_style: true, ..good.clone() };
        assert!(path.validate().is_empty());
        for (key, bad) in [
            ("secret_access_key", Config { access_key_id: "a".into(), ..good.clone() }),
            ("session_token", Config { session_token: Secret::new("x"), ..good.clone() }),
            ("bucket", Config { bucket: "s3://media".into(), ..good.clone() }),
            ("bucket", Config { bucket: "Media".into(), ..good.clone() }),
            ("bucket", Config { bucket: "a..b".into(), ..good.clone() }),
            ("endpoint", Config { endpoint: "s3.example.org".into(), ..good.clone() }),
            ("endpoint", Config { endpoint: "https://s3.example.org/media".into(), ..good.clone() }),
            ("endpoint", Config { endpoint: "ftp://s3.example.org".into(), ..good.clone() }),
            ("path_style", Config { endpoint: "http://127.0.0.1:9000".into(), ..good.clone() }),
            ("path_style", Config { endpoint: "http://[::1]:9000".into(), ..good.clone() }),
            ("prefix", Config { prefix: "prod/".into(), ..Config::default() }),
            ("encryption", Config { encryption: Encryption::S3, ..Config::default() }),
            ("prefix", Config { prefix: "prod//".into(), ..good.clone() }),
            ("prefix", Config { prefix: "/prod".into(), ..good.clone() }),
            ("prefix", Config { prefix: "../x".into(), ..good.clone() }),
            ("kms_key", Config { kms_key: "k".into(), ..good.clone() }),
            ("connections", Config { connections: 0, ..good.clone() }),
            ("timeout", Config { timeout: Duration::ZERO, ..good.clone() }),
        ] {
            let faults = bad.validate();
            assert_eq!(faults.iter().map(|fault| fault.key.as_str()).collect::<Vec<_>>(), [key], "{faults:?}");
        }
    }
}
