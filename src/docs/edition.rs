//! One state of a documentation site: a tree of pages, and each page rendered once.
//!
//! Pages are rendered in the background; one that somebody is waiting for comes first. An edition is never changed:
//! when files change, the next one takes over what is still right of this one and replaces it whole.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::StatusCode;
use tokio::sync::SetOnce;

use super::encoded::{Encoded, REVALIDATE};
use super::files::Files;
use super::highlight::Highlighter;
use super::markdown::{self, Content};
use super::source::{Entry, MAX_PAGE, Source};
use super::tree::Tree;
use super::view::View;
use super::{Error, matter, search};

const HTML: &str = "text/html; charset=utf-8";

/// A rendered page, and what the whole site needs of it.
pub struct Rendered {
    /// The response.
    pub page: Encoded,
    search: Box<str>,
    anchors: Vec<Box<str>>,
    links: Vec<(usize, String)>,
    broken: Vec<String>,
}

/// One state of a site.
pub struct Edition {
    /// The pages.
    pub tree: Tree,
    /// The other files.
    pub files: Files,
    /// What was in the folder.
    pub entries: Vec<Entry>,
    source: Source,
    base: String,
    title: String,
    slots: Vec<Slot>,
    missing: SetOnce<Encoded>,
    search: SetOnce<Encoded>,
    /// Links that lead nowhere: the file, and the link.
    lost: OnceLock<HashSet<(String, String)>>,
    wanted: Mutex<VecDeque<usize>>,
    next: AtomicUsize,
}

#[derive(Default)]
struct Slot {
    rendered: SetOnce<Arc<Rendered>>,
    claimed: AtomicBool,
    asked: AtomicBool,
}

impl Edition {
    /// Reads the titles of all pages; renders nothing yet.
    pub fn new(source: Source, base: String, title: &str, entries: Vec<Entry>) -> Result<Self, Error> {
        let tree = Tree::read(&source, entries.clone());
        if tree.pages.iter().all(|page| page.file.is_empty()) {
            return Err(Error::Empty { path: source.name() });
        }
        let title = if title.is_empty() { tree.pages[0].title.clone() } else { title.to_owned() };
        Ok(Self {
            slots: tree.pages.iter().map(|_| Slot::default()).collect(),
            files: Files::new(&source, &tree),
            tree,
            entries,
            source,
            base,
            title,
            missing: SetOnce::new(),
            search: SetOnce::new(),
            lost: OnceLock::new(),
            wanted: Mutex::default(),
            next: AtomicUsize::new(0),
        })
    }

    /// A page, if it has been rendered.
    pub fn page(&self, at: usize) -> Option<&Arc<Rendered>> {
        self.slots[at].rendered.get()
    }

    /// Waits for a page, and has it rendered before those that nobody waits for.
    pub async fn wait_for(&self, at: usize) -> &Arc<Rendered> {
        let slot = &self.slots[at];
        // Asked for once however many wait, so that the queue is never longer than the site.
        if !slot.asked.swap(true, Ordering::Relaxed) {
            self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push_back(at);
        }
        slot.rendered.wait().await
    }

    /// The page for addresses with nothing at them.
    pub fn missing(&self) -> &SetOnce<Encoded> {
        &self.missing
    }

    /// The search index; there once all pages are.
    pub fn search(&self) -> &SetOnce<Encoded> {
        &self.search
    }

    /// Takes over the pages of `old` that would come out the same.
    pub fn inherit(&self, old: &Self) {
        if self.tree.signature != old.tree.signature || self.title != old.title {
            return;
        }
        for (at, (mine, theirs)) in self.slots.iter().zip(&old.slots).enumerate() {
            let same = self.tree.pages[at].stamp == old.tree.pages[at].stamp;
            if let (true, Some(rendered)) = (same, theirs.rendered.get()) {
                mine.claimed.store(true, Ordering::Relaxed);
                let _ = mine.rendered.set(Arc::clone(rendered));
            }
        }
    }

    /// Renders pages until none is left or `stopped` says so. Several threads may do this at once.
    pub fn work(&self, highlighter: &Highlighter, stopped: impl Fn() -> bool) {
        if self.missing.get().is_none() {
            let _ = self.missing.set(self.encode(StatusCode::NOT_FOUND, self.view().missing()));
        }
        while !stopped() {
            let Some(at) = self.claim() else { return };
            // A panic in a grammar or in the parser costs one page, not the site.
            let rendered = catch_unwind(AssertUnwindSafe(|| self.render(at, highlighter)))
                .unwrap_or_else(|_| self.failed(at, "it cannot be rendered (this is a fault of Beacon)"));
            let _ = self.slots[at].rendered.set(Arc::new(rendered));
        }
    }

    /// What can be done only when all pages are rendered: the search index and the check of links. Gives the number of
    /// links that lead nowhere; those that `old` had too are not logged again.
    pub fn finish(&self, old: Option<&Self>) -> usize {
        let rendered: Vec<Option<&Arc<Rendered>>> = self.slots.iter().map(|slot| slot.rendered.get()).collect();
        let index = search::index(rendered.iter().flatten().map(|page| &*page.search));
        let kind = "application/json";
        let _ = self.search.set(Encoded::new(StatusCode::OK, kind, REVALIDATE, index, self.quality()));
        let mut lost = HashSet::new();
        for (at, page) in rendered.iter().enumerate().filter_map(|(at, page)| Some((at, (*page)?))) {
            let known = |target: usize, anchor: &str| {
                let page = rendered[target];
                page.is_none_or(|page| page.anchors.binary_search_by(|known| (**known).cmp(anchor)).is_ok())
            };
            let anchors = page.links.iter().filter(|(target, anchor)| !known(*target, anchor));
            let anchors = anchors.map(|(target, anchor)| format!("{}#{anchor}", self.tree.pages[*target].route));
            lost.extend(
                page.broken.iter().cloned().chain(anchors).map(|link| (self.tree.pages[at].file.clone(), link)),
            );
        }
        let before = old.and_then(|old| old.lost.get());
        for (file, link) in lost.iter().filter(|link| before.is_none_or(|before| !before.contains(*link))) {
            tracing::warn!(file, link, "documentation link leads nowhere");
        }
        let count = lost.len();
        let _ = self.lost.set(lost);
        count
    }

    fn claim(&self) -> Option<usize> {
        let free = |at: usize| !self.slots[at].claimed.swap(true, Ordering::Relaxed);
        loop {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let at = match wanted {
                Some(at) => at,
                None => Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < self.slots.len())?,
            };
            if free(at) {
                return Some(at);
            }
        }
    }

    fn render(&self, at: usize, highlighter: &Highlighter) -> Rendered {
        let page = &self.tree.pages[at];
        if let Some(problem) = &page.fault {
            return self.failed(at, problem);
        }
        let content = if page.file.is_empty() {
            Content::default()
        } else {
            let text = self.source.read(&page.file, MAX_PAGE).map_err(|error| error.to_string());
            match text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())) {
                Ok(text) => markdown::render(&self.tree, &self.base, at, matter::split(&text).1, highlighter),
                Err(problem) => {
                    tracing::error!(file = page.file, problem, "documentation page cannot be shown");
                    return self.failed(at, &problem);
                }
            }
        };
        let search =
            if page.hidden || page.file.is_empty() { String::new() } else { search::entry(&self.tree, at, &content) };
        let page = self.encode(StatusCode::OK, self.view().page(at, &content));
        let mut anchors: Vec<Box<str>> = content.anchors.into_iter().map(String::into_boxed_str).collect();
        anchors.sort_unstable();
        Rendered { page, search: search.into_boxed_str(), anchors, links: content.links, broken: content.broken }
    }

    fn failed(&self, at: usize, problem: &str) -> Rendered {
        let page = self.encode(StatusCode::INTERNAL_SERVER_ERROR, self.view().fault(at, problem));
        Rendered { page, search: Box::default(), anchors: Vec::new(), links: Vec::new(), broken: Vec::new() }
    }

    fn view(&self) -> View<'_> {
        View { tree: &self.tree, base: &self.base, title: &self.title }
    }

    fn encode(&self, status: StatusCode, mut html: String) -> Encoded {
        html.shrink_to_fit();
        let page = Encoded::new(status, HTML, REVALIDATE, html, self.quality());
        if self.is_large() { page.compact() } else { page }
    }

    /// Brotli's quality: the last percent costs ten times as long, which is for small sites.
    fn quality(&self) -> u32 {
        if self.is_large() { 4 } else { 9 }
    }

    fn is_large(&self) -> bool {
        self.slots.len() > 500
    }
}
