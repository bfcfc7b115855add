//! Tasks over HTTP, at /tasks/v1: sent, looked at, cancelled; dead letters, queues, schedules, workers, and what happens
//! as it happens.
//!
//! Who may send a task may do whatever tasks do, so secret keys and tokens of the service role alone are let in. `routes`
//! shows everything that is served; `look` is what the command line shows, too.

mod answer;
mod ask;
mod dead;
mod look;
mod order;
mod queues;
mod routes;
mod schedules;
mod stream;
mod tasks;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use look::{
    Cancelled, DEPTH, Found, Listing, Look, Place, QueueRow, Retried, Row, Wanted, WorkerRow, letter, moment,
};
pub use order::{duration, instant};
pub use stream::{Filter, Names};

use crate::auth::gateway::Gateway;
use crate::tasks::events::Feed;
use crate::tasks::schedule::Scheduler;
use crate::tasks::{Client, Desk};

/// Where the API is mounted.
pub const MOUNT: &str = "/tasks/v1";
/// The largest body of a request, in bytes.
pub const BODY: u64 = 64 * 1024 * 1024;

/// Requests that may wait for a task at once, and streams of events that may be open at once.
const WAITING: usize = 1_000;
const STREAMS: usize = 200;

/// What the API needs.
pub struct Needs {
    /// Knows who asks.
    pub gateway: Gateway,
    /// Sends tasks.
    pub client: Client,
    /// What happens, of this process and of others.
    pub feed: Feed,
    /// Tasks at set times, if this process sends them.
    pub schedules: Option<Scheduler>,
    /// The worker in this process, if there is one.
    pub desk: Option<Arc<dyn Desk>>,
    /// Cancelled when the server stops: streams end, and who waits is answered.
    pub ending: CancellationToken,
}

/// The API. Clones share it.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    gateway: Gateway,
    look: Look,
    feed: Feed,
    schedules: Option<Scheduler>,
    desk: Option<Arc<dyn Desk>>,
    ending: CancellationToken,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Tasks {
    /// The API over its needs.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        let Needs { gateway, client, feed, schedules, desk, ending } = needs;
        Self(Arc::new(Inner {
            gateway,
            look: Look::new(client),
            feed,
            schedules,
            desk,
            ending,
            waiting: Arc::new(Semaphore::new(WAITING)),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }))
    }
}
