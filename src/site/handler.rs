//! The site as a handler: from memory at once when it can, from the disk otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::sync::{Mutex, Semaphore};

use super::cache::{Absence, Cache, Look};
use super::cache_control::CacheControl;
use super::content_type::ContentTypes;
use super::entry::{Entry, Form};
use super::error::Failure;
use super::listing;
use super::load::{Large, Loaded, Loader};
use super::path::is_servable;
use super::root::Root;
use super::{Config, Error};
use crate::clock;
use crate::http::{
    AcceptEncoding, Body, Context, Encoding, Handler, Problem, Reply, Representation, Request, Response, Source, answer,
};

/// The largest file kept in memory, in bytes, whatever the size of the cache.
const LARGEST_KEPT: u64 = 1 << 20;
/// How many chunks of large files are read at a time.
const READERS: usize = 64;
/// How many look-ups on the disk go on at a time: names share these by their hash, and those of one name wait for one.
const STRIPES: usize = 64;
/// Milliseconds between two log lines on the same kind of trouble.
const LOG_EVERY: u64 = 10_000;

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Characters of a path that a Location has to encode.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A folder as a web site.
pub struct Site {
    loader: Arc<Loader>,
    stripes: Box<[Arc<Mutex<()>>]>,
    readers: Arc<Semaphore>,
    /// Permits for what takes a core for long: compressing, listing.
    heavy: Arc<Semaphore>,
    fallback: Option<String>,
    error_pages: Vec<(StatusCode, String)>,
    logged: [AtomicU64; 3],
}

impl Site {
    /// Opens the folder of `config`.
    ///
    /// # Errors
    /// The folder cannot be opened, the kernel cannot keep paths below it, or a value cannot be used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        if let Some(fault) = config.validate().into_iter().next() {
            return Err(Error::Value { key: fault.key, problem: fault.problem, fix: fault.fix });
        }
        let loader = Loader {
            root: Root::open(&config.root, config.symlinks)?,
            cache: Cache::new(config.cache_bytes),
            types: ContentTypes::new(&config.types),
            cache_control: CacheControl::new(&config.cache_control),
            index: config.index.clone(),
            precompressed: config.precompressed,
            listing: config.listing,
            largest_kept: LARGEST_KEPT.min(config.cache_bytes as u64 / 64),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            loader: Arc::new(loader),
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            readers: Arc::new(Semaphore::new(READERS)),
            heavy: Arc::new(Semaphore::new(cores)),
            fallback: Some(config.fallback.clone()).filter(|path| !path.is_empty()),
            error_pages: config
                .error_pages
                .iter()
                .filter_map(|(status, path)| Some((status.parse().ok()?, path.clone())))
                .collect(),
            logged: Default::default(),
        })
    }

    /// What the disk is read with.
    #[cfg(test)]
    pub(super) fn loader(&self) -> &Loader {
        &self.loader
    }

    async fn answer_entry(&self, entry: &Arc<Entry>, parts: &Parts) -> Response {
        match ready(entry, parts) {
            Ok(response) => response,
            Err(encoding) => {
                let made = |bytes| self.loader.cache.grow(entry, bytes);
                let form = entry.make(encoding, &self.heavy, made).await.unwrap_or(&entry.identity);
                answer_form(form, entry, parts)
            }
        }
    }

    fn answer_large(&self, large: &Large, parts: &Parts) -> Response {
        answer(
            parts,
            &Representation {
                head: &large.head,
                etag: &large.etag,
                modified: large.modified,
                source: Source::File(&large.file, large.size, &self.readers),
            },
        )
    }

    /// Looks on the disk. `claimed`: this caller has taken it on to compare an entry with the disk.
    async fn load(&self, key: &str, accept: AcceptEncoding, claimed: bool) -> Result<Loaded, Failure> {
        let cache = &self.loader.cache;
        let stripe = Arc::clone(&self.stripes[cache.hash(key) as usize % STRIPES]).lock_owned().await;
        if !claimed {
            // Somebody may have looked while we waited.
            match cache.look(key, self.loader.root.generation(), clock::millis()) {
                Look::Fresh(entry) => return Ok(Loaded::Entry(entry)),
                Look::Absent(Absence::Missing) => return Err(Failure::Missing),
                Look::Absent(Absence::Folder) => return Ok(Loaded::Folder),
                Look::Claimed | Look::Unknown => {}
            }
        }
        let (loader, key) = (Arc::clone(&self.loader), key.to_owned());
        let work = move || {
            // Held by the work, not by the request: a client that leaves does not let another begin the same.
            let _stripe = stripe;
            loader.load(&key, accept)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(loaded) => loaded,
            Err(error) => Err(Failure::Disk(std::io::Error::other(error))),
        }
    }

    async fn fetch(&self, parts: Parts, context: Context, claimed: bool) -> Response {
        let accept = accepted(&parts);
        match self.load(context.rest(), accept, claimed).await {
            Ok(Loaded::Entry(entry)) => self.answer_entry(&entry, &parts).await,
            Ok(Loaded::Large(large)) => self.answer_large(&large, &parts),
            Ok(Loaded::Folder) => redirect(&parts, &context),
            Ok(Loaded::Listing(root, folder)) => {
                let (seen, loader) = (context.clone(), Arc::clone(&self.loader));
                let json = listing::prefers_json(&parts.headers);
                // A long listing is the dearest answer there is: as many at a time as there are cores.
                let permit = Arc::clone(&self.heavy).acquire_owned().await;
                let work = move || {
                    let _permit = permit;
                    listing::render(&loader.root, &root, folder, &seen.path, seen.rest(), json)
                };
                match tokio::task::spawn_blocking(work).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(failure)) => self.fail(failure, &parts, &context).await,
                    Err(error) => self.fail(Failure::Disk(std::io::Error::other(error)), &parts, &context).await,
                }
            }
            Err(Failure::Missing) => self.missing(&parts, &context).await,
            Err(failure) => self.fail(failure, &parts, &context).await,
        }
    }

    /// Nothing has this name: the fallback page if it applies, else 404.
    async fn missing(&self, parts: &Parts, context: &Context) -> Response {
        if let Some(fallback) = &self.fallback
            && self.falls_back(parts, context.rest())
        {
            match self.load(fallback, accepted(parts), false).await {
                Ok(Loaded::Entry(entry)) => return self.answer_entry(&entry, parts).await,
                Ok(Loaded::Large(large)) => return self.answer_large(&large, parts),
                Err(Failure::Missing) | Ok(_) => {}
                Err(failure) => return self.fail(failure, parts, context).await,
            }
        }
        self.fail(Failure::Missing, parts, context).await
    }

    /// A page of the application is meant: the client takes pages, and the name is not that of a script, an image or
    /// the like, which would only hide that it is missing. Hidden names are missing, whatever the client takes.
    fn falls_back(&self, parts: &Parts, rest: &str) -> bool {
        let mut accept = parts.headers.get_all(ACCEPT).iter().peekable();
        let takes_pages = accept.peek().is_none()
            || accept.any(|value| {
                let value = value.as_bytes();
                [&b"text/html"[..], b"text/*", b"*/*"].iter().any(|kind| memchr::memmem::find(value, kind).is_some())
            });
        takes_pages && is_servable(rest) && !self.loader.types.is_asset(rest)
    }

    async fn fail(&self, failure: Failure, parts: &Parts, context: &Context) -> Response {
        let problem = self.problem(&failure, context);
        self.with_page(problem, parts, context).await
    }

    /// The problem as the client sees it; logs what the operator has to know.
    fn problem(&self, failure: &Failure, context: &Context) -> Problem {
        let root = self.loader.root.path().display();
        let path = &*context.path;
        let unavailable = "This cannot be served at the moment.";
        let again = "Try again in a few seconds.";
        match failure {
            Failure::Missing => Problem::not_found(),
            Failure::Forbidden => {
                if self.may_log(0) {
                    tracing::warn!(%root, path, "a file may not be read by Beacon's user; answered 403");
                }
                Problem::new(StatusCode::FORBIDDEN, "forbidden", "This may not be read.", "")
            }
            Failure::Exhausted(error) => {
                if self.may_log(1) {
                    tracing::error!(%root, path, %error, "no file descriptor or memory is left to open a file; raise \
                        LimitNOFILE, or lower the connection limit");
                }
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", unavailable, again)
            }
            // The root says itself when it goes and when it is back.
            Failure::RootGone => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "site_unavailable", unavailable, again),
            Failure::Disk(error) => {
                if self.may_log(2) {
                    tracing::error!(%root, path, %error, "a file cannot be read");
                }
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", "This cannot be read.", again)
            }
        }
    }

    /// Whether a line about this kind of trouble is due.
    fn may_log(&self, kind: usize) -> bool {
        let (now, last) = (clock::millis(), self.logged[kind].load(Ordering::Relaxed));
        (last == 0 || now - last >= LOG_EVERY)
            && self.logged[kind].compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The site's own page for the problem's status, else the built-in one.
    async fn with_page(&self, problem: Problem, parts: &Parts, context: &Context) -> Response {
        let mut response = match self.page(problem.status).await {
            Some(entry) => {
                let mut response = Response::new(Body::from(entry.identity.bytes.clone()));
                *response.status_mut() = problem.status;
                response.headers_mut().insert(CONTENT_TYPE, entry.meta.content_type.clone());
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            None => problem.response(&parts.headers, &context.id),
        };
        if problem.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }

    async fn page(&self, status: StatusCode) -> Option<Arc<Entry>> {
        let (_, path) = self.error_pages.iter().find(|(own, _)| *own == status)?;
        match self.load(path, AcceptEncoding::default(), false).await {
            Ok(Loaded::Entry(entry)) => Some(entry),
            _ => None,
        }
    }
}

impl Handler for Site {
    fn handle(&self, request: Request) -> Reply<'_> {
        let Request { parts, context, .. } = request;
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Reply::Now(other_method(&parts, &context));
        }
        let rest = context.rest();
        if !is_servable(rest) {
            return Reply::later(async move { self.fail(Failure::Missing, &parts, &context).await });
        }
        match self.loader.cache.look(rest, self.loader.root.generation(), clock::millis()) {
            Look::Fresh(entry) => match ready(&entry, &parts) {
                Ok(response) => Reply::Now(response),
                Err(_) => Reply::later(async move { self.answer_entry(&entry, &parts).await }),
            },
            Look::Absent(Absence::Folder) => Reply::Now(redirect(&parts, &context)),
            Look::Absent(Absence::Missing) if self.fallback.is_none() && self.error_pages.is_empty() => {
                Reply::Now(Problem::not_found().response(&parts.headers, &context.id))
            }
            Look::Absent(Absence::Missing) => Reply::later(async move { self.missing(&parts, &context).await }),
            Look::Claimed => Reply::later(self.fetch(parts, context, true)),
            Look::Unknown => Reply::later(self.fetch(parts, context, false)),
        }
    }
}

/// The response from an entry, if its best form is there.
fn ready(entry: &Entry, parts: &Parts) -> Result<Response, Encoding> {
    let form = match choose(entry, parts) {
        None => &entry.identity,
        Some(encoding) => entry.form(encoding).ok_or(encoding)?,
    };
    Ok(answer_form(form, entry, parts))
}

fn answer_form(form: &Form, entry: &Entry, parts: &Parts) -> Response {
    answer(
        parts,
        &Representation {
            head: &form.head,
            etag: &form.etag,
            modified: entry.meta.modified,
            source: Source::Memory(&form.bytes),
        },
    )
}

/// The codings to choose from; a range is one of the file as it is.
fn accepted(parts: &Parts) -> AcceptEncoding {
    if parts.headers.contains_key(RANGE) { AcceptEncoding::default() } else { AcceptEncoding::of(&parts.headers) }
}

fn choose(entry: &Entry, parts: &Parts) -> Option<Encoding> {
    if !entry.meta.negotiable {
        return None;
    }
    accepted(parts).best(|encoding| entry.has(encoding))
}

fn other_method(parts: &Parts, context: &Context) -> Response {
    let mut response = if parts.method == Method::OPTIONS {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This address can only be read.",
            "Use GET or HEAD.",
        );
        problem.response(&parts.headers, &context.id)
    };
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

/// To the same address with a slash, so that links relative to the folder work. The path, not the whole address:
/// the client knows the host it asked better than we do.
fn redirect(parts: &Parts, context: &Context) -> Response {
    // One slash in front: two would name another host.
    let mut location = String::from("/");
    location.extend(utf8_percent_encode(context.path.trim_start_matches('/'), ENCODED));
    location.push('/');
    if let Some(query) = parts.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers: &mut HeaderMap = response.headers_mut();
    match HeaderValue::try_from(location) {
        Ok(location) => headers.insert(LOCATION, location),
        Err(_) => return Problem::not_found().response(&parts.headers, &context.id),
    };
    // A folder may become a file one day, and browsers remember a 308 for good.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
