//! Requests that the crate has not: signed here, over the same connections. And how often anything is tried again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Limited};
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{CredentialProvider, HttpClient, HttpRequestBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::place::Place;
use super::xml::{self, Node};
use crate::error::BoxError;
use crate::storage::Error;

/// How often the same is tried before it counts as failed.
const TRIES: u32 = 4;
/// The wait before the second try; each further one is three times longer.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest answer in bytes: 1,000 keys of 1,024 bytes, each of which XML may write as six.
const LONGEST: usize = 16 * 1024 * 1024;

/// What is not escaped in a query (RFC 3986, section 2.3).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// What signs requests and sends them.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) client: HttpClient,
    pub(super) credentials: AwsCredentialProvider,
    pub(super) place: Place,
}

/// One request.
pub(super) struct Asking<'a> {
    pub(super) method: Method,
    /// The whole key; "" is the bucket.
    pub(super) key: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
}

impl Signed {
    /// Sends it, once, and reads the answer.
    pub(super) async fn send(&self, asking: &Asking<'_>) -> Result<Node, BoxError> {
        let mut url = self.place.url.clone();
        url.push('/');
        url.extend(utf8_percent_encode(asking.key, PATH));
        for (position, (name, value)) in asking.query.iter().enumerate() {
            url.push(if position == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, QUERY));
        }
        let mut request = Request::new(HttpRequestBody::empty());
        *request.method_mut() = asking.method.clone();
        *request.uri_mut() = url.parse()?;
        *request.headers_mut() = asking.headers.clone();
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.place.region).try_authorize(&mut request, None)?;
        let answer = self.client.execute(request).await?;
        let body: Bytes = Limited::new(answer.into_body(), LONGEST).collect().await?.to_bytes();
        xml::parse(&body)
    }
}

/// A key as it stands in `x-amz-copy-source`.
pub(super) fn source(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}", utf8_percent_encode(key, PATH))
}

/// Tries again what failed for a time, with longer and longer waits. `step` gets the number of the try, from 0.
pub(super) async fn again<T, F: Future<Output = Result<T, Error>>>(
    limit: Duration,
    mut step: impl FnMut(u32) -> F,
) -> Result<T, Error> {
    let began = Instant::now();
    let mut number = 0;
    loop {
        match step(number).await {
            Err(error) if error.is_temporary() && number + 1 < TRIES && began.elapsed() < limit => {
                tracing::debug!(error = %crate::error::chain(&error), number, "S3 is asked again");
            }
            result => return result,
        }
        pause(number).await;
        number += 1;
    }
}

/// Waits before the try after `number`, not at the same time as everybody else.
pub(super) async fn pause(number: u32) {
    let longest = PAUSE * 3_u32.saturating_pow(number);
    let random = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 1_000);
    tokio::time::sleep(longest / 2 + longest * random / 2_000).await;
}

/// Credentials that are kept while new ones cannot be had: those of an instance are renewed minutes before they end.
#[derive(Debug)]
pub(super) struct Kept {
    from: AwsCredentialProvider,
    last: arc_swap::ArcSwapOption<AwsCredential>,
}

impl Kept {
    pub(super) fn new(from: AwsCredentialProvider) -> Self {
        Self { from, last: arc_swap::ArcSwapOption::empty() }
    }

    async fn get(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.from.get_credential().await {
            Ok(new) => {
                self.last.store(Some(Arc::clone(&new)));
                Ok(new)
            }
            Err(error) => match self.last.load_full() {
                Some(last) => {
                    tracing::warn!(error = %crate::error::chain(&error), "new credentials for S3 cannot be had; the last ones are used");
                    Ok(last)
                }
                None => Err(error),
            },
        }
    }
}

impl CredentialProvider for Kept {
    type Credential = AwsCredential;

    fn get_credential<'life0, 'async_trait>(
        &'life0 self,
    ) -> futures_util::future::BoxFuture<'async_trait, object_store::Result<Arc<AwsCredential>>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.get())
    }
}
