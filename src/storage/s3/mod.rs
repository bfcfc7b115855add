//! An S3 bucket as a store, Amazon's or another server's.
//!
//! The crate `object_store` signs, names credentials and knows most requests; connections, errors, repetition and what
//! it has not are ours. It tries nothing again itself: each of our tries is signed anew.
//!
//! Traps: without the right s3:ListBucket a missing object is "refused". Servers that keep objects as files, such as
//! SeaweedFS, list by folders, so that "a-b" comes after "a/b", which is not the order of bytes. Whoever reads slowly
//! holds one of the connections all the while.

mod connector;
mod copy;
mod errors;
mod listing;
mod place;
mod reading;
mod request;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{HeaderMap, Method};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::multipart::{MultipartStore as _, PartId as CratePart};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{Attribute, GetOptions, ObjectMeta, ObjectStore as _, PutMultipartOptions, PutOptions, RetryConfig};

use self::connector::Connector;
use self::errors::{Asked, Fault};
use self::place::Place;
use self::reading::Reading;
use self::request::{Kept, Signed, again};
use super::store::{Backend, Later};
use super::{
    Action, Attributes, Config, Content, Encryption, Entry, Error, Key, Level, PartId, Range, Stored, Unfinished,
};
use crate::error::BoxError;

/// The longest life of a signed URL.
const LONGEST_LIFE: Duration = Duration::from_hours(7 * 24);
/// The header that asks for encryption.
const ENCRYPTION: &str = "x-amz-server-side-encryption";
/// The header that names the key for it.
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// A bucket. Clones share its connections.
#[derive(Clone, Debug)]
pub struct S3(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    crate_: AmazonS3,
    signed: Signed,
    bucket: String,
    prefix: String,
    /// How S3 is asked to encrypt, as headers.
    encryption: HeaderMap,
    /// For how long something may be begun again.
    patience: Duration,
}

impl S3 {
    /// The bucket of a configuration that was validated. Nothing is asked of it yet.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let wrong = |what: &str, source: BoxError| Error::Other { what: what.to_owned(), source };
        let place = Place::of(config)?;
        let connector = Connector::new(config.timeout, config.connections)
            .map_err(|error| wrong("TLS cannot be used", error.into()))?;
        let client = connector.client();
        let encryption = encryption(config)?;
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(connector)
            .with_bucket_name(&config.bucket)
            .with_region(&place.region)
            .with_endpoint(&place.url)
            // The URL has the bucket already, wherever it stands there.
            .with_virtual_hosted_style_request(true)
            .with_allow_http(true)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        for (name, header) in [("aws_server_side_encryption", ENCRYPTION), ("aws_sse_kms_key_id", KMS_KEY)] {
            if let Some(value) = encryption.get(header).and_then(|value| value.to_str().ok()) {
                let name = name.parse().map_err(|error: object_store::Error| wrong("no encryption", error.into()))?;
                builder = builder.with_config(name, value);
            }
        }
        if config.endpoint.is_empty() {
            // Other servers need not know it; what is sent is protected by its signature there too.
            builder = builder.with_checksum_algorithm(Checksum::SHA256);
        }
        if !config.access_key_id.is_empty() {
            builder = builder
                .with_access_key_id(&config.access_key_id)
                .with_secret_access_key(config.secret_access_key.expose());
            if !config.session_token.is_empty() {
                builder = builder.with_token(config.session_token.expose());
            }
        }
        let built = |builder: AmazonS3Builder| {
            builder.build().map_err(|error| wrong("the bucket cannot be used", error.into()))
        };
        let credentials = Arc::new(Kept::new(Arc::clone(built(builder.clone())?.credentials())));
        let crate_ = built(builder.with_credentials(Arc::clone(&credentials) as _))?;
        Ok(Self(Arc::new(Inner {
            crate_,
            signed: Signed { client, credentials, place },
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            encryption,
            patience: config.timeout * 2,
        })))
    }
}

/// The headers that ask S3 to encrypt.
fn encryption(config: &Config) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let kind = match config.encryption {
        Encryption::Bucket => None,
        Encryption::S3 => Some("AES256"),
        Encryption::Kms => Some("aws:kms"),
    };
    if let Some(kind) = kind {
        headers.insert(ENCRYPTION, http::HeaderValue::from_static(kind));
    }
    if !config.kms_key.is_empty() {
        let unusable = |source: BoxError| Error::Other { what: "storage.kms_key cannot be used".into(), source };
        let key = config.kms_key.parse().map_err(|error: http::header::InvalidHeaderValue| unusable(error.into()))?;
        headers.insert(KMS_KEY, key);
    }
    Ok(headers)
}

/// An entity tag without its quotes.
fn bare(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// What is kept with an object, as headers: the names, and values that can stand in them.
fn headers(attributes: &Attributes) -> Result<Vec<(String, &str)>, Error> {
    let Attributes { content_type, cache_control, content_encoding, content_disposition, metadata } = attributes;
    let known = [
        ("content-type", content_type),
        ("cache-control", cache_control),
        ("content-encoding", content_encoding),
        ("content-disposition", content_disposition),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.as_deref()?)));
    let own = metadata.iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value.as_str()));
    let all: Vec<_> = known.chain(own).collect();
    for (name, value) in &all {
        // S3 would keep other bytes in a coding of its own, and leaves out blanks at the ends.
        let fits = value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == *value;
        let named = http::HeaderName::from_bytes(name.as_bytes()).is_ok_and(|read| read.as_str() == name);
        if !fits || !named {
            return Err(Error::Unsupported("keep attributes that cannot stand in a header of HTTP"));
        }
    }
    Ok(all)
}

fn crate_attributes(attributes: &Attributes) -> Result<object_store::Attributes, Error> {
    let pairs = headers(attributes)?.into_iter().map(|(name, value)| {
        let attribute = match name.as_str() {
            "content-type" => Attribute::ContentType,
            "cache-control" => Attribute::CacheControl,
            "content-encoding" => Attribute::ContentEncoding,
            "content-disposition" => Attribute::ContentDisposition,
            own => Attribute::Metadata(own.trim_start_matches("x-amz-meta-").to_owned().into()),
        };
        (attribute, value.to_owned())
    });
    Ok(pairs.collect())
}

fn our_attributes(found: &object_store::Attributes) -> Attributes {
    let mut ours = Attributes::default();
    for (attribute, value) in found {
        let value = value.to_string();
        match attribute {
            Attribute::ContentType => ours.content_type = Some(value),
            Attribute::CacheControl => ours.cache_control = Some(value),
            Attribute::ContentEncoding => ours.content_encoding = Some(value),
            Attribute::ContentDisposition => ours.content_disposition = Some(value),
            Attribute::Metadata(name) => {
                ours.metadata.insert(name.to_string(), value);
            }
            // Not ours to keep.
            _ => {}
        }
    }
    ours
}

impl Inner {
    fn asked<'a>(&'a self, action: Action, key: Option<&'a Key>) -> Asked<'a> {
        Asked { action, bucket: &self.bucket, key, upload: None }
    }

    fn whole(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn path(&self, key: &Key) -> Result<Path, Error> {
        Path::parse(self.whole(key)).map_err(|error| self.asked(Action::Read, Some(key)).other(error.into()))
    }

    fn found(key: &Key, meta: &ObjectMeta, attributes: &object_store::Attributes) -> Entry {
        Entry {
            key: key.clone(),
            size: meta.size,
            etag: bare(meta.e_tag.as_deref().unwrap_or_default()),
            modified: u64::try_from(meta.last_modified.timestamp()).unwrap_or_default(),
            attributes: our_attributes(attributes),
        }
    }

    async fn head(&self, key: &Key) -> Result<Entry, Error> {
        let path = self.path(key)?;
        let asked = self.asked(Action::Read, Some(key));
        let path = &path;
        again(self.patience, |_| async move {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let found = self.crate_.get_opts(path, options).await.map_err(|error| asked.error(error))?;
            Ok(Self::found(key, &found.meta, &found.attributes))
        })
        .await
    }

    async fn put(&self, key: &Key, body: Bytes, attributes: &Attributes) -> Result<Stored, Error> {
        let path = self.path(key)?;
        let asked = self.asked(Action::Write, Some(key));
        let size = body.len() as u64;
        let attributes = crate_attributes(attributes)?;
        let (path, body, attributes) = (&path, &body, &attributes);
        again(self.patience, |_| async move {
            let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
            let put = self.crate_.put_opts(path, body.clone().into(), options).await;
            let put = put.map_err(|error| asked.error(error))?;
            Ok(Stored { size, etag: bare(put.e_tag.as_deref().unwrap_or_default()) })
        })
        .await
    }

    async fn get(self: &Arc<Self>, key: &Key, range: Option<Range>) -> Result<(Entry, Content), Error> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok((self.head(key).await?, Content::Stream(stream::empty().boxed())));
        }
        let path = self.path(key)?;
        let result = again(self.patience, |_| self.open(key, &path, range.clone(), None)).await?;
        let entry = Self::found(key, &result.meta, &result.attributes);
        let reading = Reading {
            s3: Arc::clone(self),
            key: key.clone(),
            etag: result.meta.e_tag.clone(),
            range: result.range.clone(),
            body: reading::body(result.payload)?,
            path,
            resumes: 0,
        };
        Ok((entry, reading.content()))
    }

    async fn delete(&self, keys: &[Key]) -> Result<Vec<(Key, Error)>, Error> {
        let mut left = Vec::new();
        // As many as S3 takes at once.
        for keys in keys.chunks(1_000) {
            let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<_>, _>>()?;
            let paths = &paths;
            let results = again(self.patience, |_| async move {
                let paths = stream::iter(paths.clone().into_iter().map(Ok)).boxed();
                let results: Vec<_> = self.crate_.delete_stream(paths).collect().await;
                // One result for all is that of the request.
                match <[_; 1]>::try_from(results) {
                    Ok([Err(error)]) if listed(&error).is_none() => Err(self.asked(Action::Delete, None).error(error)),
                    Ok(one) => Ok(Vec::from(one)),
                    Err(many) => Ok(many),
                }
            })
            .await?;
            for (key, result) in keys.iter().zip(results) {
                if let Err(error) = result {
                    let asked = self.asked(Action::Delete, Some(key));
                    let error = match listed(&error) {
                        Some(fault) => asked.error(fault),
                        None => asked.error(error),
                    };
                    if !matches!(error, Error::Missing(_)) {
                        left.push((key.clone(), error));
                    }
                }
            }
        }
        Ok(left)
    }

    async fn begin(&self, key: &Key, attributes: &Attributes) -> Result<String, Error> {
        let path = self.path(key)?;
        let asked = self.asked(Action::Write, Some(key));
        let attributes = crate_attributes(attributes)?;
        let (path, attributes) = (&path, &attributes);
        again(self.patience, |_| async move {
            let options = PutMultipartOptions { attributes: attributes.clone(), ..PutMultipartOptions::default() };
            self.crate_.create_multipart_opts(path, options).await.map_err(|error| asked.error(error))
        })
        .await
    }

    async fn part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<PartId, Error> {
        let path = self.path(key)?;
        let asked = Asked { upload: Some(upload), ..self.asked(Action::Write, Some(key)) };
        let index = number.checked_sub(1).ok_or(Error::Unsupported("number parts from 0"))? as usize;
        let upload = upload.to_owned();
        let (path, upload, body) = (&path, &upload, &body);
        again(self.patience, |_| async move {
            let part = self.crate_.put_part(path, upload, index, body.clone().into()).await;
            Ok(PartId(part.map_err(|error| asked.error(error))?.content_id))
        })
        .await
    }

    async fn complete(&self, key: &Key, upload: &str, parts: &[PartId], size: u64) -> Result<Stored, Error> {
        let path = self.path(key)?;
        let asked = Asked { upload: Some(upload), ..self.asked(Action::Write, Some(key)) };
        let upload = upload.to_owned();
        let (path, upload) = (&path, &upload);
        again(self.patience, |number| async move {
            let parts: Vec<_> = parts.iter().map(|part| CratePart { content_id: part.0.clone() }).collect();
            let count = parts.len();
            let completed = self.crate_.complete_multipart(path, upload, parts).await;
            match completed.map_err(|error| asked.error(error)) {
                Ok(put) => Ok(Stored { size, etag: bare(put.e_tag.as_deref().unwrap_or_default()) }),
                // The answer of a try before may have been lost: then the object is there.
                Err(Error::NoUpload(upload)) if number > 0 => match self.head(key).await {
                    Ok(entry) if entry.size == size && entry.etag.ends_with(&format!("-{count}")) => {
                        Ok(Stored { size, etag: entry.etag })
                    }
                    _ => Err(Error::NoUpload(upload)),
                },
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn abort(&self, key: &Key, upload: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        let asked = Asked { upload: Some(upload), ..self.asked(Action::Abort, Some(key)) };
        let upload = upload.to_owned();
        let (path, upload) = (&path, &upload);
        let aborted = again(self.patience, |_| async move {
            self.crate_.abort_multipart(path, upload).await.map_err(|error| asked.error(error))
        });
        match aborted.await {
            Ok(()) | Err(Error::NoUpload(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn presign(
        &self,
        method: Method,
        key: &Key,
        lifetime: Duration,
        headers: &HeaderMap,
    ) -> Result<String, Error> {
        let action = match method {
            Method::GET => Action::Read,
            Method::PUT => Action::Write,
            _ => return Err(Error::Unsupported("sign URLs for other methods than GET and PUT")),
        };
        if lifetime > LONGEST_LIFE || lifetime < Duration::from_secs(1) {
            return Err(Error::Unsupported("sign URLs for less than a second or more than seven days"));
        }
        if method == Method::PUT && self.encryption.iter().any(|(name, value)| headers.get(name) != Some(value)) {
            return Err(Error::Unsupported(
                "sign an upload without the headers that ask for the encryption of this store",
            ));
        }
        if headers.values().any(|value| value.to_str().is_err()) {
            return Err(Error::Unsupported("sign headers that are not ASCII"));
        }
        let path = self.path(key)?;
        let mut options = SignedUrlOptions::default();
        options.signed_headers.clone_from(headers);
        let url = self.crate_.signed_url_opts(method, &path, lifetime, &options).await;
        Ok(url.map_err(|error| self.asked(action, Some(key)).error(error))?.into())
    }
}

/// What S3 says of one of many objects: the crate keeps it in a text alone, "... (code: AccessDenied)".
fn listed(error: &object_store::Error) -> Option<Fault> {
    let text = crate::error::chain(error).to_string();
    let (_, told) = text.split_once("DeleteObjects request failed for key ")?;
    let (message, code) = told.rsplit_once(" (code: ")?;
    Some(Fault::listed(code.split(')').next().unwrap_or_default(), message))
}

impl Backend for S3 {
    fn describe(&self) -> String {
        format!("the bucket {} at {}", self.0.bucket, self.0.signed.place.url)
    }

    fn put<'a>(&'a self, key: &'a Key, body: Bytes, attributes: &'a Attributes) -> Later<'a, Stored> {
        Box::pin(self.0.put(key, body, attributes))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Later<'a, Entry> {
        Box::pin(self.0.head(key))
    }

    fn get<'a>(&'a self, key: &'a Key, range: Option<Range>) -> Later<'a, (Entry, Content)> {
        Box::pin(self.0.get(key, range))
    }

    fn copy<'a>(&'a self, from: &'a Key, to: &'a Key, attributes: Option<&'a Attributes>) -> Later<'a, Stored> {
        Box::pin(self.0.copy(from, to, attributes))
    }

    fn delete<'a>(&'a self, keys: &'a [Key]) -> Later<'a, Vec<(Key, Error)>> {
        Box::pin(self.0.delete(keys))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, most: usize) -> Later<'a, Vec<Entry>> {
        Box::pin(self.0.list(prefix, after, most))
    }

    fn level<'a>(&'a self, folder: &'a str) -> Later<'a, Level> {
        Box::pin(self.0.level(folder))
    }

    fn begin<'a>(&'a self, key: &'a Key, attributes: &'a Attributes) -> Later<'a, String> {
        Box::pin(self.0.begin(key, attributes))
    }

    fn part<'a>(&'a self, key: &'a Key, upload: &'a str, number: u32, _: u64, body: Bytes) -> Later<'a, PartId> {
        Box::pin(self.0.part(key, upload, number, body))
    }

    fn complete<'a>(&'a self, key: &'a Key, upload: &'a str, parts: &'a [PartId], size: u64) -> Later<'a, Stored> {
        Box::pin(self.0.complete(key, upload, parts, size))
    }

    fn abort<'a>(&'a self, key: &'a Key, upload: &'a str) -> Later<'a, ()> {
        Box::pin(self.0.abort(key, upload))
    }

    fn unfinished<'a>(&'a self, prefix: &'a str) -> Later<'a, Vec<Unfinished>> {
        Box::pin(self.0.unfinished(prefix))
    }

    fn presign<'a>(
        &'a self,
        method: Method,
        key: &'a Key,
        lifetime: Duration,
        headers: &'a HeaderMap,
    ) -> Later<'a, Option<String>> {
        Box::pin(async move { self.0.presign(method, key, lifetime, headers).await.map(Some) })
    }
}
