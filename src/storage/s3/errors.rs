//! What S3 says when it does not do what was asked, as the store's errors.

use std::time::Duration;

use http::StatusCode;

use super::xml;
use crate::error::BoxError;
use crate::storage::{Action, Error, Key};

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{} {code}: {message}", .status.as_u16())]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    /// As in "NoSuchKey"; empty if the answer has none.
    pub(super) code: String,
    message: String,
    /// Whether the host said it that gives credentials to an instance.
    instance: bool,
}

/// No answer, or not all of it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Loss {
    what: String,
    #[source]
    source: Option<BoxError>,
    /// Whether an answer had begun, and ended too early.
    broken: bool,
    /// Whether nothing was asked, because all connections were in use.
    crowded: bool,
    instance: bool,
}

impl Fault {
    /// What is wrong, from the whole of an answer; nothing if it is a success.
    pub(super) fn read(status: StatusCode, body: &[u8]) -> Option<Self> {
        let error = xml::parse(body).ok().filter(|root| root.name == "Error");
        if status.is_success() && error.is_none() {
            return None;
        }
        let text = |name: &str| error.as_ref().and_then(|root| root.text(name)).unwrap_or_default().to_owned();
        Some(Self { status, code: text("Code"), message: text("Message"), instance: false })
    }

    /// One that is listed within an answer, as for each of many objects.
    pub(super) fn listed(code: &str, message: &str) -> Self {
        Self { status: StatusCode::OK, code: code.to_owned(), message: message.to_owned(), instance: false }
    }

    pub(super) fn of(self, instance: bool) -> Self {
        Self { instance, ..self }
    }

    /// As the store's error, for `what` on `key`, an upload or the bucket alone.
    #[expect(clippy::match_same_arms, reason = "a code counts before a status")]
    fn error(self, asked: &Asked<'_>) -> Error {
        if self.instance {
            return Error::Credentials(self.into());
        }
        let bucket = |fault: Self| Error::Bucket { bucket: asked.bucket.to_owned(), problem: fault.to_string() };
        match (self.code.as_str(), self.status.as_u16(), asked.key, asked.upload) {
            ("NoSuchUpload", ..) => Error::NoUpload(asked.upload.unwrap_or_default().to_owned()),
            (
                "NoSuchBucket"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
                | "InvalidBucketName",
                ..,
            ) => bucket(self),
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "RequestTimeTooSkewed"
                | "MissingSecurityHeader"
                | "MissingAuthenticationToken",
                ..,
            ) => Error::Credentials(self.into()),
            (
                "SlowDown"
                | "ServiceUnavailable"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded",
                ..,
            ) => Error::Busy(self.into()),
            ("InternalError" | "OperationAborted" | "RequestTimeout", ..) => Error::Unavailable(self.into()),
            (
                "BadDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody"
                | "PreconditionFailed",
                ..,
            ) => Error::Damaged(self.into()),
            ("QuotaExceeded" | "XMinioStorageFull", ..) => Error::Full(std::io::Error::other(self.to_string())),
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "InvalidObjectState", ..) => {
                Error::Refused { action: asked.action, source: self.into() }
            }
            ("NoSuchKey" | "NotFound" | "", 404, Some(_), Some(upload)) => Error::NoUpload(upload.to_owned()),
            ("NoSuchKey" | "NotFound" | "", 404, Some(key), None) => Error::Missing(key.clone()),
            (_, 301 | 302 | 307 | 308, ..) | ("" | "NotFound", 404, None, _) => bucket(self),
            (_, 401 | 403, ..) => Error::Refused { action: asked.action, source: self.into() },
            (_, 412, ..) => Error::Damaged(self.into()),
            (_, 429 | 503, ..) => Error::Busy(self.into()),
            (_, 408 | 500..=599, ..) => Error::Unavailable(self.into()),
            _ => asked.other(self.into()),
        }
    }
}

impl Loss {
    /// Nobody is there, or the connection ended before the answer.
    pub(super) fn unreachable(source: BoxError) -> Self {
        Self {
            what: "there is no connection".into(),
            source: Some(source),
            broken: false,
            crowded: false,
            instance: false,
        }
    }

    /// Nothing moved for too long.
    pub(super) fn silent(limit: Duration) -> Self {
        let what = format!("nothing came for {}", humantime::format_duration(limit));
        Self { what, source: None, broken: false, crowded: false, instance: false }
    }

    /// All connections were in use for too long.
    pub(super) fn crowded(limit: Duration) -> Self {
        let what = format!("all connections to it were in use for {}", humantime::format_duration(limit));
        Self { what, source: None, broken: false, crowded: true, instance: false }
    }

    /// An answer that ended early.
    pub(super) fn broken(source: BoxError) -> Self {
        Self {
            what: "the answer ended early".into(),
            source: Some(source),
            broken: true,
            crowded: false,
            instance: false,
        }
    }

    pub(super) fn of(self, instance: bool) -> Self {
        Self { instance, ..self }
    }

    fn error(self) -> Error {
        match self {
            Self { crowded: true, .. } => Error::Busy(self.into()),
            Self { instance: true, .. } => Error::Credentials(self.into()),
            Self { broken: true, .. } => Error::Damaged(self.into()),
            Self { .. } => Error::Unavailable(self.into()),
        }
    }
}

/// What was asked of S3, for the words of an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) action: Action,
    pub(super) bucket: &'a str,
    pub(super) key: Option<&'a Key>,
    pub(super) upload: Option<&'a str>,
}

impl Asked<'_> {
    /// What came instead of a result.
    pub(super) fn error(&self, source: impl Into<BoxError>) -> Error {
        let source = source.into();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*source);
        while let Some(error) = cause {
            // The chain cannot be taken apart, so what is found there is made again.
            if let Some(fault) = error.downcast_ref::<Fault>() {
                let Fault { status, code, message, instance } = fault;
                let (status, instance) = (*status, *instance);
                return Fault { status, code: code.clone(), message: message.clone(), instance }.error(self);
            }
            if let Some(loss) = error.downcast_ref::<Loss>() {
                let Loss { what, source, broken, crowded, instance } = loss;
                let crowded = *crowded;
                let source = source.as_deref().map(|error| crate::error::chain(error).to_string().into());
                return Loss { what: what.clone(), source, broken: *broken, crowded, instance: *instance }.error();
            }
            cause = error.source();
        }
        self.other(source)
    }

    /// An answer that cannot be understood.
    pub(super) fn other(&self, source: BoxError) -> Error {
        Error::Other { what: format!("{} in the bucket {} failed", self.action.iam(), self.bucket), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str, key: Option<&Key>, upload: Option<&str>) -> Error {
        let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>m &amp; n</Message></Error>");
        let fault = Fault::read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap();
        Asked { action: Action::Read, bucket: "b", key, upload }.error(fault)
    }

    #[test]
    fn codes_become_errors_that_say_what_to_do() {
        let key = Key::new("a").unwrap();
        assert!(matches!(error(404, "NoSuchKey", Some(&key), None), Error::Missing(missing) if missing == key));
        assert!(matches!(error(404, "", Some(&key), None), Error::Missing(_)));
        assert!(matches!(error(404, "NoSuchUpload", Some(&key), Some("u")), Error::NoUpload(upload) if upload == "u"));
        assert!(matches!(error(404, "NoSuchBucket", Some(&key), None), Error::Bucket { problem, .. }
            if problem == "404 NoSuchBucket: m & n"));
        assert!(matches!(error(404, "", None, None), Error::Bucket { .. }));
        assert!(matches!(error(301, "", Some(&key), None), Error::Bucket { .. }));
        assert!(matches!(error(403, "", Some(&key), None), Error::Refused { action: Action::Read, .. }));
        assert!(matches!(error(403, "SignatureDoesNotMatch", Some(&key), None), Error::Credentials(_)));
        assert!(matches!(error(400, "ExpiredToken", Some(&key), None), Error::Credentials(_)));
        assert!(matches!(error(503, "SlowDown", Some(&key), None), Error::Busy(_)));
        assert!(matches!(error(429, "", Some(&key), None), Error::Busy(_)));
        assert!(matches!(error(500, "", Some(&key), None), Error::Unavailable(_)));
        assert!(matches!(error(200, "InternalError", Some(&key), None), Error::Unavailable(_)));
        assert!(matches!(error(400, "BadDigest", Some(&key), None), Error::Damaged(_)));
        assert!(matches!(error(418, "Teapot", Some(&key), None), Error::Other { .. }));
    }

    #[test]
    fn a_success_is_no_fault_unless_its_body_says_so() {
        assert!(Fault::read(StatusCode::OK, b"<CopyObjectResult/>").is_none());
        assert!(Fault::read(StatusCode::OK, b"").is_none());
        assert!(Fault::read(StatusCode::OK, b"<Error><Code>SlowDown</Code></Error>").is_some());
    }
}
