//! Runs the streams of an HTTP/2 connection within the connection's own task.
//!
//! hyper hands each stream to an executor. A task of its own for each costs an allocation, a place in another thread's
//! queue and a wake-up, and its answer is written by itself; here streams are polled right after the connection, and
//! what they answer goes out in one write. A handler that computes for long keeps its connection's other streams
//! waiting, and belongs on a blocking thread anyway.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::rt::Executor;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes new streams from hyper.
#[derive(Clone, Default)]
pub struct Newborn(Arc<Mutex<Vec<Task>>>);

/// The streams of one connection.
pub struct Streams {
    newborn: Newborn,
    /// Kept for its room.
    batch: Vec<Task>,
    running: FuturesUnordered<Task>,
}

impl<F> Executor<F> for Newborn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

impl Streams {
    /// Runs what `newborn` takes.
    pub fn new(newborn: Newborn) -> Self {
        Self { newborn, batch: Vec::new(), running: FuturesUnordered::new() }
    }

    /// Polls new streams, and those that were woken. Gives whether the connection may have something to write for it.
    pub fn run(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        std::mem::swap(&mut self.batch, &mut *self.newborn.0.lock().unwrap_or_else(PoisonError::into_inner));
        for mut stream in self.batch.drain(..) {
            moved = true;
            // Most are done at once, and need no place among the others.
            if stream.as_mut().poll(cx).is_pending() {
                self.running.push(stream);
            }
        }
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {
            moved = true;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_run_at_once_or_when_woken() {
        let newborn = Newborn::default();
        let mut streams = Streams::new(newborn.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let done = Arc::new(Mutex::new(Vec::new()));
        let (first, second) = (done.clone(), done.clone());
        newborn.execute(async move {
            let _ = receiver.await;
            first.lock().unwrap().push("woken");
        });
        newborn.execute(async move { second.lock().unwrap().push("at once") });
        std::future::poll_fn(|cx| {
            assert!(streams.run(cx));
            Poll::Ready(())
        })
        .await;
        assert_eq!(*done.lock().unwrap(), ["at once"]);
        sender.send(()).unwrap();
        std::future::poll_fn(|cx| if streams.run(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert_eq!(*done.lock().unwrap(), ["at once", "woken"]);
    }
}
