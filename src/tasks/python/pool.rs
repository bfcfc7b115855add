//! The processes that run bodies: so many places, each with a process that is started, replaced when it is worn, and
//! started again when it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Error;
use super::body::{Body, Room, Wear};
use super::launch::Launch;
use super::link;

/// The first pause before a process is started again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The places; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    launch: Launch,
    wear: Wear,
    start_timeout: Duration,
    silence: Duration,
    places: Mutex<Vec<Place>>,
    room: Arc<Room>,
    /// Why no process could be started, while that is so.
    trouble: Mutex<Option<Arc<str>>>,
}

/// A place, and the process that is in it.
#[derive(Clone, Debug)]
struct Place {
    index: usize,
    body: Arc<Mutex<Option<Body>>>,
    /// It is given up.
    over: CancellationToken,
}

impl Place {
    fn body(&self) -> Option<Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, body: Option<Body>) {
        *self.body.lock().unwrap_or_else(PoisonError::into_inner) = body;
    }
}

impl Pool {
    pub(super) fn new(launch: Launch, wear: Wear, start_timeout: Duration, silence: Duration) -> Self {
        Self(Arc::new(Inner {
            launch,
            wear,
            start_timeout,
            silence,
            places: Mutex::default(),
            room: Arc::default(),
            trouble: Mutex::default(),
        }))
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places there are.
    pub(super) fn count(&self) -> usize {
        self.places().len()
    }

    /// The processes that are ready.
    pub(super) fn bodies(&self) -> Vec<Body> {
        self.places().iter().filter_map(Place::body).collect()
    }

    /// Completes when there may be more room than before.
    pub(super) async fn freed(&self) {
        self.0.room.fetcher.notified().await;
    }

    /// The same for a job that waits within; it may miss one.
    pub(super) async fn turn(&self) {
        self.0.room.jobs.notified().await;
    }

    /// Why there is no process, if none can be started.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes so many places more, or gives up so many.
    pub(super) fn resize(&self, by: isize) {
        let mut places = self.places();
        if by < 0 {
            for _ in 0..by.unsigned_abs() {
                if let Some(place) = places.pop() {
                    place.over.cancel();
                }
            }
        } else {
            for _ in 0..by.unsigned_abs() {
                let taken: Vec<usize> = places.iter().map(|place| place.index).collect();
                let index = (0..=taken.len()).find(|index| !taken.contains(index)).unwrap_or_default();
                let place = Place { index, body: Arc::default(), over: CancellationToken::new() };
                places.push(place.clone());
                tokio::spawn(self.clone().keep(place));
            }
        }
    }

    /// Replaces every process, each when its successor is ready.
    pub(super) fn renew(&self) {
        self.bodies().iter().for_each(Body::retire);
    }

    /// Gives up every place, and waits until the processes have ended.
    pub(super) async fn close(&self) {
        let places = std::mem::take(&mut *self.places());
        for place in &places {
            place.over.cancel();
        }
        for place in places {
            let body = place.body();
            if let Some(body) = body {
                body.retire();
                body.gone().await;
            }
        }
    }

    /// Sees to it that there is a process in the place.
    async fn keep(self, place: Place) {
        let mut next = None;
        while !place.over.is_cancelled() {
            let started = match next.take() {
                Some(started) => started,
                None => tokio::spawn(self.clone().begin(place.clone())),
            };
            let Ok(Some(body)) = started.await else { return };
            place.set(Some(body.clone()));
            self.0.room.tell();
            // How it goes on: until it has ended, or is worn and its successor is there.
            loop {
                let (worn, takes) = body.worn();
                if worn && next.is_none() {
                    next = Some(tokio::spawn(self.clone().begin(place.clone())));
                }
                let ready = next.as_ref().is_some_and(tokio::task::JoinHandle::is_finished);
                if body.is_gone() || (worn && ready && (!takes || self.0.wear.runs == 0)) {
                    break;
                }
                tokio::select! {
                    () = place.over.cancelled() => break,
                    () = body.gone() => {}
                    () = body.changed() => {}
                    () = tokio::time::sleep(Duration::from_millis(if worn { 50 } else { 1000 })) => {}
                }
            }
            // It ends by itself when it has nothing to do.
            body.retire();
            if !place.over.is_cancelled() {
                place.set(None);
            }
        }
        if let Some(next) = next
            && let Ok(Some(body)) = next.await
        {
            body.retire();
        }
    }

    /// Starts a process for a place, again and again until it can be used; `None` if the place is given up.
    async fn begin(self, place: Place) -> Option<Body> {
        let mut pause = SHORTEST_PAUSE;
        let mut told = String::new();
        loop {
            let starting = link::start(&self.0.launch, "child", place.index, self.0.start_timeout);
            match place.over.run_until_cancelled(starting).await? {
                Ok(link) => {
                    *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Some(Body::new(link, self.0.wear, self.0.room.clone(), self.0.silence));
                }
                Err(error) => {
                    let text = crate::error::chain(&error).to_string();
                    if text != told {
                        let trace = if let Error::Unusable { trace, .. } = &error { trace.as_deref() } else { None };
                        tracing::error!(trace, "{text}");
                        told.clone_from(&text);
                    }
                    *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
                }
            }
            place.over.run_until_cancelled(tokio::time::sleep(pause)).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
