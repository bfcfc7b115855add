//! What answers a request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Body, Request};

/// A response with our body.
pub type Response = http::Response<Body>;

/// Who asked, for the access log: a handler that found out puts it into the response's extensions.
#[derive(Clone, Debug)]
pub struct User(pub Arc<str>);

/// A response that comes later.
pub type Later<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

/// The answer of a handler: at once, without an allocation, or later.
pub enum Reply<'a> {
    /// The response is there.
    Now(Response),
    /// The response is being made.
    Later(Later<'a>),
}

impl<'a> Reply<'a> {
    /// A response that comes from a future.
    pub fn later(future: impl Future<Output = Response> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

/// Answers requests. A handler wraps another to add something before or after it, so the list of what is done to a
/// mount's requests is the expression that builds it.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Every failure is a response too.
    fn handle(&self, request: Request) -> Reply<'_>;
}
