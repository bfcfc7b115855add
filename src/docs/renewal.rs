//! The task that renders a documentation site and watches its folder.
//!
//! A folder is watched by listing it every [`POLL`], which works on every file system (inotify does not on network
//! ones) and costs one `lstat` a file; a large folder is listed less often, so that this takes 2 % of a core at most.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Error;
use super::edition::Edition;
use super::highlight::Highlighter;
use super::site::{Docs, Inner};
use super::source::Source;
use super::theme::Theme;
use crate::error::chain;

/// How often a folder is looked at.
pub const POLL: Duration = Duration::from_secs(2);

impl Docs {
    /// Renders all pages, then watches the folder and renders what changes, until `stop`. Without this task no page is
    /// ever shown.
    pub async fn run(self, stop: CancellationToken) {
        let _halted = self.0.halted.clone().drop_guard();
        let _ = tokio::task::spawn_blocking(|| Theme::get().warm()).await;
        self.render(self.0.edition.load_full(), &stop).await;
        if matches!(self.0.source, Source::Embedded(_)) {
            stop.cancelled().await;
            return;
        }
        let mut pause = self.0.poll;
        let mut complaint = String::new();
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let began = Instant::now();
            let inner = Arc::clone(&self.0);
            let next = tokio::task::spawn_blocking(move || inner.next());
            match next.await {
                Ok(Ok(next)) => {
                    if !complaint.is_empty() {
                        complaint.clear();
                        tracing::info!(folder = %self.0.source.name().display(), "documentation folder can be read again");
                    }
                    pause = self.0.poll.max(began.elapsed() * 50);
                    if let Some(next) = next {
                        self.replace(Arc::new(next), &stop).await;
                    }
                }
                Ok(Err(error)) => {
                    let text = chain(&error).to_string();
                    if text != complaint {
                        tracing::error!(problem = text, "documentation cannot be renewed; its last state is served");
                        complaint = text;
                    }
                }
                Err(error) => tracing::error!(problem = %error, "documentation folder could not be examined"),
            }
        }
    }

    /// Renders `next` whole before anybody sees it.
    async fn replace(&self, next: Arc<Edition>, stop: &CancellationToken) {
        let pages = next.tree.pages.len();
        let began = Instant::now();
        self.render(Arc::clone(&next), stop).await;
        if !stop.is_cancelled() {
            self.0.edition.store(next);
            tracing::info!(pages, millis = began.elapsed().as_millis() as u64, "documentation renewed");
        }
    }

    /// Half of the cores at most: others are being served meanwhile.
    async fn render(&self, edition: Arc<Edition>, stop: &CancellationToken) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let highlighter = Arc::new(Highlighter::new());
        let workers: Vec<_> = (0..(cores / 2).clamp(1, 4))
            .map(|_| {
                let (edition, highlighter, stop) = (Arc::clone(&edition), Arc::clone(&highlighter), stop.clone());
                tokio::task::spawn_blocking(move || edition.work(&highlighter, || stop.is_cancelled()))
            })
            .collect();
        for worker in workers {
            if let Err(error) = worker.await {
                tracing::error!(problem = %error, "rendering documentation was broken off");
            }
        }
        drop(highlighter);
        let old = self.0.edition.load_full();
        if !stop.is_cancelled()
            && let Ok(broken) = tokio::task::spawn_blocking(move || edition.finish(Some(&old))).await
        {
            self.0.broken.store(broken, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// The edition of what is in the folder now; none if nothing has changed.
    fn next(&self) -> Result<Option<Edition>, Error> {
        let old = self.edition.load();
        let entries = self.source.scan()?;
        if entries == old.entries {
            return Ok(None);
        }
        let next = Edition::new(self.source.clone(), self.base.clone(), &self.title, entries)?;
        next.inherit(&old);
        Ok(Some(next))
    }
}
