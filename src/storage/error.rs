//! What stores fail with.

use std::io;

use super::Key;
use crate::error::BoxError;

/// What is done with a store, as IAM names it (the S3 User Guide, "Actions for Amazon S3").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// s3:ListBucket
    List,
    /// s3:GetObject
    Read,
    /// s3:PutObject
    Write,
    /// s3:DeleteObject
    Delete,
    /// s3:AbortMultipartUpload
    Abort,
    /// s3:ListBucketMultipartUploads
    ListUploads,
    /// s3:ListMultipartUploadParts
    ListParts,
}

impl Action {
    /// The name in a policy.
    #[must_use]
    pub fn iam(self) -> &'static str {
        match self {
            Self::List => "s3:ListBucket",
            Self::Read => "s3:GetObject",
            Self::Write => "s3:PutObject",
            Self::Delete => "s3:DeleteObject",
            Self::Abort => "s3:AbortMultipartUpload",
            Self::ListUploads => "s3:ListBucketMultipartUploads",
            Self::ListParts => "s3:ListMultipartUploadParts",
        }
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("there is no object {0}")]
    Missing(Key),
    /// There is no such upload: it was completed, aborted, or never begun.
    #[error("there is no upload {0}")]
    NoUpload(String),
    /// The bucket does not exist, or is in another region.
    #[error("the bucket {bucket} cannot be used: {problem}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// What the server says.
        problem: String,
    },
    /// The store refuses: the credentials are not good, or lack a right.
    #[error("the store refuses {}", .action.iam())]
    Refused {
        /// What was asked.
        action: Action,
        /// What the server says.
        #[source]
        source: BoxError,
    },
    /// There are no credentials, or they cannot be had.
    #[error("there are no credentials for the store")]
    Credentials(#[source] BoxError),
    /// The disk is full, or the quota is used up.
    #[error("the store is full")]
    Full(#[source] io::Error),
    /// The store is asked too much at once; later is better.
    #[error("the store asks for patience")]
    Busy(#[source] BoxError),
    /// The store does not answer, or not in time.
    #[error("the store does not answer")]
    Unavailable(#[source] BoxError),
    /// What came is not what the store has: it ended early, or its checksum differs.
    #[error("what the store sent is damaged")]
    Damaged(#[source] BoxError),
    /// The store cannot do this.
    #[error("this store cannot {0}")]
    Unsupported(&'static str),
    /// The local folder, or anything else.
    #[error("{what}")]
    Other {
        /// What was tried, as in "the folder /srv/x cannot be read".
        what: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
}

impl Error {
    /// Whether the same may succeed later, without anything being changed by a person.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_) | Self::Damaged(_))
    }
}
