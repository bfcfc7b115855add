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
    /// What the keys of all objects begin with, as in "prod/": a part of the bucket or folder for this Beacon.
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
    /// Memory for uploads that are on their way to S3, in bytes; beyond it, uploads wait.
    pub upload_memory_bytes: u64,
    /// Disk space for copies of what lies in S3, in bytes; 0 keeps none.
    pub cache_bytes: u64,
    /// The folder of these copies. Empty: `storage-cache` in the state folder.
    pub cache_folder: PathBuf,
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
            upload_memory_bytes: 256 * 1024 * 1024,
            cache_bytes: 1024 * 1024 * 1024,
            cache_folder: PathBuf::new(),
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
        faults
    }
}
