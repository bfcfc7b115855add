//! Object storage: for now its configuration, the section `[storage]`, which existing settings name already.

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::secret::Secret;

/// Where uploads and static content are kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The S3 bucket; BUCKET_NAME sets it too.
    pub bucket: String,
    /// The bucket's region; AWS_REGION sets it too.
    pub region: String,
    /// The access key's identifier; AWS_ACCESS_ID and AWS_ACCESS_KEY_ID set it too. Empty: the host's IAM role.
    pub access_key_id: String,
    /// The access key; AWS_ACCESS_SECRET and AWS_SECRET_ACCESS_KEY set it too.
    pub secret_access_key: Secret,
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        if self.access_key_id.is_empty() == self.secret_access_key.is_empty() {
            return Vec::new();
        }
        let unset = if self.access_key_id.is_empty() { "access_key_id" } else { "secret_access_key" };
        vec![Fault::new(
            unset,
            "is not set although the other half of the key pair is",
            "Set both, or neither to use the host's IAM role.",
        )]
    }
}
