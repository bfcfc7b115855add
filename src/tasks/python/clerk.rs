//! The application's clerk: one process that answers questions about it and runs no bodies. It is started again when it
//! ends; a question that it was asked then fails.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::frame::{self, Answer, Said};
use super::launch::Launch;
use super::link::{self, Link, Writer};
use super::{Error, Exported};
use crate::clock;
use crate::process::{Child, Signal};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What it began in the last moment is told of within this.
const SLACK: Duration = Duration::from_millis(500);
/// Who is more patient than this waits until it is there again.
const RESTART: Duration = Duration::from_secs(20);
/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The clerk; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Clerk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: watch::Sender<Option<Writer>>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    /// Records that it has begun.
    begun: Mutex<HashSet<u64>>,
    next: AtomicU64,
    wishes: mpsc::UnboundedSender<Value>,
}

impl Clerk {
    /// Starts it; gives it with what it tells of the application, and what commands will ask of the worker.
    pub(super) async fn start(
        launch: Launch,
        timeout: Duration,
        stop: CancellationToken,
    ) -> Result<(Self, Exported, mpsc::UnboundedReceiver<Value>), Error> {
        let link = link::start(&launch, "clerk", 0, timeout).await?;
        let exported = serde_json::from_slice(&link.export).map_err(|error| Error::Garbled(error.to_string()))?;
        let (wishes, asked) = mpsc::unbounded_channel();
        let inner = Inner {
            line: watch::Sender::new(Some(link.writer.clone())),
            waiting: Mutex::default(),
            begun: Mutex::default(),
            next: AtomicU64::new(1),
            wishes,
        };
        let clerk = Self(Arc::new(inner));
        tokio::spawn(clerk.clone().keep(link, launch, timeout, stop));
        Ok((clerk, exported, asked))
    }

    async fn keep(self, mut link: Link, launch: Launch, timeout: Duration, stop: CancellationToken) {
        let mut pause = Duration::from_millis(200);
        loop {
            let status = tokio::select! {
                () = stop.cancelled() => {
                    self.0.line.send_replace(None);
                    end(&mut link.child, &link.writer).await;
                    self.forget();
                    return;
                }
                () = self.read(&mut link) => link.child.stop(&[(Signal::TERM, Duration::from_millis(100))]).await,
            };
            self.0.line.send_replace(None);
            self.forget();
            let status = status.map_or_else(|error| error.to_string(), |(status, _)| status.to_string());
            tracing::error!(
                last = link.lines.last().join(" / "),
                "the application's clerk ended ({status}); it is started again"
            );
            link = loop {
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                match link::start(&launch, "clerk", 0, timeout).await {
                    Ok(link) => break link,
                    Err(error) => tracing::error!("{}", crate::error::chain(&error)),
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            };
            pause = Duration::from_millis(200);
            self.0.line.send_replace(Some(link.writer.clone()));
        }
    }

    /// Takes its answers, until its end.
    async fn read(&self, link: &mut Link) {
        while let Ok(Some((said, _))) = link.reader.next().await {
            let Said::Answer(answer) = said else { continue };
            if answer.begun {
                self.lock_begun().insert(answer.n);
                continue;
            }
            for wish in &answer.wishes {
                let _ = self.0.wishes.send(wish.clone());
            }
            let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&answer.n);
            if let Some(waiting) = waiting {
                let _ = waiting.send(*answer);
            }
        }
    }

    fn lock_begun(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.lock_begun().clear();
    }

    /// Has it record an end. False if it has not: what it does not begin within the patience it never does, so that
    /// another one can do it then. It is not waited for while it is being started again, unless the patience is long.
    pub(super) async fn record(
        &self,
        request: &str,
        mut head: Map<String, Value>,
        body: &[u8],
        patience: Duration,
    ) -> bool {
        if self.0.line.borrow().is_none() && patience < RESTART {
            return false;
        }
        // Its clock is ours.
        let until = clock::millis() + u64::try_from(patience.as_millis()).unwrap_or_default();
        head.insert("until".into(), until.into());
        self.ask_for(request, head, body, patience + SLACK).await.is_some()
    }

    /// Asks it. `None` if it does not answer, or the request failed there, which is logged there.
    pub(super) async fn ask(&self, request: &str, head: Map<String, Value>, body: &[u8]) -> Option<Answer> {
        self.ask_for(request, head, body, PATIENCE).await
    }

    async fn ask_for(
        &self,
        request: &str,
        mut head: Map<String, Value>,
        body: &[u8],
        patience: Duration,
    ) -> Option<Answer> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let asked = async {
            let mut line = self.0.line.subscribe();
            let writer = line.wait_for(Option::is_some).await.ok()?.clone()?;
            let (sender, answer) = oneshot::channel();
            self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
            head.insert("t".into(), request.into());
            head.insert("n".into(), number.into());
            writer.tell(frame::encode(&head, body));
            answer.await.ok()
        };
        tokio::pin!(asked);
        let mut answered = tokio::time::timeout(patience, &mut asked).await;
        if answered.is_err() && self.lock_begun().contains(&number) {
            answered = tokio::time::timeout(PATIENCE, asked).await;
        }
        self.lock_begun().remove(&number);
        match answered {
            Ok(Some(answer)) if answer.failed.is_none() => Some(answer),
            Ok(Some(answer)) => {
                tracing::error!(request, error = answer.failed.as_deref(), "the application's clerk could not do it");
                None
            }
            Ok(None) => {
                tracing::error!(request, "the application's clerk ended before it answered");
                None
            }
            Err(_) => {
                tracing::error!(request, "the application's clerk does not answer");
                None
            }
        }
    }
}

/// Asks a process to end, and ends it if it does not.
pub(super) async fn end(child: &mut Child, writer: &Writer) {
    writer.tell(frame::encode(&serde_json::json!({"t": "exit"}), b""));
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.stop(&[(Signal::TERM, Duration::from_secs(1))]).await;
    }
}
