//! The tree of pages: which file is at which address, under which title, in which order.
//!
//! A page's address is its path without `.md` (`guide/tls.md` is at `guide/tls`), and a folder's ends in a slash
//! (`guide/index.md` or `guide/README.md` is at `guide/`). So relative addresses in raw HTML mean the same on the web
//! as in the folder. `guide.md` beside a folder `guide` without an index of its own stands for the folder.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::matter::{self, Matter};
use super::source::{Entry, MAX_FILE, MAX_PAGE, Source};
use super::title::{heading, humanise, natural};

/// One page: a Markdown file, or the contents of a folder that has no index.
#[derive(Debug)]
pub struct Page {
    /// The file below the source; "" for a page made from a folder.
    pub file: String,
    /// The folder that its relative links start from, without a slash at the end.
    pub folder: String,
    /// The address below the mount.
    pub route: String,
    /// The title in navigation, as text.
    pub title: String,
    /// One sentence, or "".
    pub description: String,
    /// The section it belongs to; none for the front page.
    pub parent: Option<usize>,
    /// The pages of this section, in order, hidden ones left out.
    pub children: Vec<usize>,
    /// Why it cannot be shown.
    pub fault: Option<String>,
    /// Neither in navigation nor in search.
    pub hidden: bool,
    /// Changes when the file does.
    pub stamp: Option<Entry>,
    order: i64,
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A page, by its index.
    Page(usize),
    /// Another file, by its index.
    File(usize),
}

/// All pages and files of a site.
#[derive(Debug)]
pub struct Tree {
    /// The pages; the first is the front page.
    pub pages: Vec<Page>,
    /// The other files.
    pub files: Vec<Entry>,
    /// Hidden pages left out, the order in which a reader turns the pages.
    pub sequence: Vec<usize>,
    /// Equal trees give every page the same navigation and the same links.
    pub signature: u64,
    places: HashMap<String, Place>,
    position: HashMap<usize, usize>,
}

impl Tree {
    /// Reads titles and places of all pages. Costs one read of each Markdown file.
    pub fn read(source: &Source, entries: Vec<Entry>) -> Self {
        let mut tree = Self {
            pages: vec![Page::of_folder(String::new(), None)],
            files: Vec::new(),
            sequence: Vec::new(),
            signature: 0,
            places: HashMap::new(),
            position: HashMap::new(),
        };
        let paths: HashSet<String> = entries.iter().map(|entry| entry.path.clone()).collect();
        let sections: HashSet<String> =
            paths.iter().filter(|path| is_page(path)).flat_map(|path| above(path)).map(str::to_owned).collect();
        let mut folders = HashMap::from([(String::new(), 0)]);
        let mut pages = Vec::new();
        for entry in entries {
            if !is_page(&entry.path) {
                tree.add_file(entry);
            } else if let Some(page) = load(source, entry) {
                pages.push(page);
            }
        }
        // Indexes first, so that a section exists before its pages; README.md only where there is no index.md.
        for (file, page) in &mut pages {
            let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
            let stem = stem(name);
            if stem == "index" || (stem == "README" && !paths.contains(&join(folder, "index.md"))) {
                let at = tree.folder(&mut folders, folder);
                tree.pages[at].fill(std::mem::take(page));
            }
        }
        pages.retain(|(_, page)| !page.route.is_empty());
        pages.sort_by_key(|(file, _)| file.matches('/').count());
        for (file, page) in pages {
            let (folder, name) = file.rsplit_once('/').unwrap_or(("", &file));
            let own = join(folder, stem(name));
            if let Some(&at) = folders.get(&own) {
                // A section without an index, made by a deeper index: this page becomes its index.
                if tree.pages[at].file.is_empty() {
                    tree.pages[at].fill(Page { route: own.clone(), ..page });
                    continue;
                }
            }
            let parent = tree.folder(&mut folders, folder);
            let at = tree.pages.len();
            if sections.contains(&own) {
                folders.entry(own).or_insert(at);
            }
            tree.pages.push(Page { parent: Some(parent), ..page });
        }
        tree.arrange();
        tree
    }

    /// What is at `route`.
    pub fn find(&self, route: &str) -> Option<Place> {
        self.places.get(route).copied()
    }

    /// The address that `route` is another form of: with or without `.md`, `.html`, `index` or a slash at the end.
    pub fn canonical(&self, route: &str) -> Option<&str> {
        let bare = route.strip_suffix('/').unwrap_or(route);
        let bare = [".md", ".markdown", ".html"].iter().find_map(|suffix| bare.strip_suffix(suffix)).unwrap_or(bare);
        let (folder, name) = bare.rsplit_once('/').unwrap_or(("", bare));
        let bare = if name == "index" || name == "README" { folder } else { bare };
        let slashed = if bare.is_empty() { String::new() } else { format!("{bare}/") };
        [bare, slashed.as_str()].into_iter().find_map(|form| {
            let (key, place) = self.places.get_key_value(form)?;
            (matches!(place, Place::Page(_)) && key != route).then_some(key.as_str())
        })
    }

    /// The pages before and after `page`.
    pub fn neighbours(&self, page: usize) -> (Option<usize>, Option<usize>) {
        let Some(&at) = self.position.get(&page) else { return (None, None) };
        (at.checked_sub(1).map(|before| self.sequence[before]), self.sequence.get(at + 1).copied())
    }

    /// The sections that `page` is in, from the front page down, without itself.
    pub fn ancestors(&self, page: usize) -> Vec<usize> {
        let mut line: Vec<usize> =
            std::iter::successors(self.pages[page].parent, |&at| self.pages[at].parent).collect();
        line.reverse();
        line
    }

    fn add_file(&mut self, entry: Entry) {
        if entry.size > MAX_FILE {
            tracing::error!(
                file = entry.path,
                size = entry.size,
                "documentation file left out: larger than 256 MiB; serve it from a site mount"
            );
            return;
        }
        self.places.insert(entry.path.clone(), Place::File(self.files.len()));
        self.files.push(entry);
    }

    /// The page of a folder, made with those above it if need be.
    fn folder(&mut self, folders: &mut HashMap<String, usize>, path: &str) -> usize {
        if let Some(&at) = folders.get(path) {
            return at;
        }
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        let parent = self.folder(folders, above);
        let at = self.pages.len();
        self.pages.push(Page::of_folder(path.to_owned(), Some(parent)));
        folders.insert(path.to_owned(), at);
        at
    }

    fn arrange(&mut self) {
        for at in 1..self.pages.len() {
            if let (false, Some(parent)) = (self.pages[at].hidden, self.pages[at].parent) {
                self.pages[parent].children.push(at);
            }
        }
        for at in 0..self.pages.len() {
            let mut children = std::mem::take(&mut self.pages[at].children);
            children.sort_by(|&left, &right| self.pages[left].compare(&self.pages[right]));
            self.pages[at].children = children;
        }
        let mut stack = vec![0];
        while let Some(at) = stack.pop() {
            self.position.insert(at, self.sequence.len());
            self.sequence.push(at);
            stack.extend(self.pages[at].children.iter().rev());
        }
        let mut hasher = DefaultHasher::new();
        for (at, page) in self.pages.iter().enumerate() {
            self.places.insert(page.route.clone(), Place::Page(at));
            (&page.route, &page.title, &page.description, page.parent, &page.children, page.hidden).hash(&mut hasher);
        }
        for file in &self.files {
            file.path.hash(&mut hasher);
        }
        self.signature = hasher.finish();
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::of_folder(String::new(), None)
    }
}

impl Page {
    fn of_folder(path: String, parent: Option<usize>) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        Self {
            file: String::new(),
            route: if path.is_empty() { String::new() } else { format!("{path}/") },
            title: if name.is_empty() { "Documentation".into() } else { humanise(name) },
            description: String::new(),
            parent,
            children: Vec::new(),
            fault: None,
            hidden: false,
            stamp: None,
            order: i64::MAX,
            folder: path,
        }
    }

    /// Makes a folder's page out of its index.
    fn fill(&mut self, index: Page) {
        let route = if stem_is_index(&index.file) { std::mem::take(&mut self.route) } else { index.route };
        let title = if index.title.is_empty() { std::mem::take(&mut self.title) } else { index.title };
        *self = Self { route, title, parent: self.parent, children: std::mem::take(&mut self.children), ..index };
    }

    /// By `order`, then by name as people sort: numbers by value.
    fn compare(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order).then_with(|| natural(&self.route, &other.route))
    }
}

/// Whether a file is a Markdown page.
pub fn is_page(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case("md") || end.eq_ignore_ascii_case("markdown"))
}

/// The folders that a file is in, the innermost first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/'), |(folder, _)| folder.rsplit_once('/')).map(|(folder, _)| folder)
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn stem_is_index(file: &str) -> bool {
    matches!(stem(file.rsplit('/').next().unwrap_or_default()), "index" | "README")
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Reads one page's front matter and title; none for a draft. A page that cannot be read keeps its place, with a fault.
fn load(source: &Source, entry: Entry) -> Option<(String, Page)> {
    let file = entry.path.clone();
    let read = if entry.size > MAX_PAGE {
        Err(format!("it has {} KiB; a page may have {} KiB: split it", entry.size >> 10, MAX_PAGE >> 10))
    } else {
        source.read(&file, MAX_PAGE).map_err(|error| error.to_string()).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| {
                format!("it is not UTF-8 (at byte {}); save it as UTF-8", error.utf8_error().valid_up_to())
            })
        })
    };
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", &file));
    let (matter, heading, fault) = match &read {
        Ok(text) => {
            let (matter, body) = matter::split(text);
            (matter, heading(body), None)
        }
        Err(fault) => {
            tracing::error!(file, problem = %fault, "documentation page cannot be shown");
            (Matter::default(), None, Some(fault.clone()))
        }
    };
    for problem in &matter.faults {
        tracing::warn!(file, problem = %problem, "documentation page has front matter that cannot be used");
    }
    if matter.draft {
        return None;
    }
    let title = matter
        .title
        .or(heading)
        .unwrap_or_else(|| if stem_is_index(&file) { String::new() } else { humanise(stem(name)) });
    let page = Page {
        folder: folder.to_owned(),
        route: join(folder, stem(name)),
        title,
        description: matter.description.unwrap_or_default(),
        parent: None,
        children: Vec::new(),
        fault,
        hidden: matter.hidden,
        order: matter.order.unwrap_or(i64::MAX),
        stamp: Some(entry),
        file: file.clone(),
    };
    Some((file, page))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let source = Source::Folder(dir.path().to_path_buf());
        let entries = source.scan().unwrap();
        Tree::read(&source, entries)
    }

    fn sequence(tree: &Tree) -> Vec<(&str, &str)> {
        tree.sequence.iter().map(|&at| (tree.pages[at].route.as_str(), tree.pages[at].title.as_str())).collect()
    }

    #[test]
    fn order_then_name_with_numbers_by_value() {
        let tree = tree(&[
            ("index.md", "# Front"),
            ("10-ten.md", ""),
            ("9-nine.md", ""),
            ("zoo.md", "---\norder: 1\n---\n# Zoo"),
            ("guide/index.md", "---\norder: 2\n---\n# The `guide`"),
            ("guide/a.md", "```\n# no\n```\n# [Link](x.md) *yes*"),
            ("hidden.md", "---\nhidden: true\n---\n# H"),
            ("draft.md", "---\ndraft: true\n---\n# D"),
            ("img/x.png", ""),
        ]);
        assert_eq!(
            sequence(&tree),
            [
                ("", "Front"),
                ("zoo", "Zoo"),
                ("guide/", "The guide"),
                ("guide/a", "Link yes"),
                ("9-nine", "Nine"),
                ("10-ten", "Ten"),
            ]
        );
        assert!(matches!(tree.find("hidden"), Some(Place::Page(_))));
        assert_eq!((tree.find("draft"), tree.find("img/")), (None, None));
        assert_eq!(tree.find("img/x.png"), Some(Place::File(0)));
    }

    #[test]
    fn a_folder_without_an_index_has_a_page_and_a_readme_is_an_index() {
        let tree = tree(&[("a/deep/x.md", "# X"), ("b/README.md", "# Read me"), ("c.md", "# See"), ("c/d.md", "# D")]);
        assert_eq!(
            sequence(&tree),
            [
                ("", "Documentation"),
                ("a/", "A"),
                ("a/deep/", "Deep"),
                ("a/deep/x", "X"),
                ("b/", "Read me"),
                ("c", "See"),
                ("c/d", "D")
            ]
        );
        assert_eq!(tree.canonical("c/"), Some("c"));
        assert_eq!(tree.canonical("b/README.md"), Some("b/"));
        assert_eq!(tree.canonical("a"), Some("a/"));
        assert_eq!((tree.canonical("a/"), tree.canonical("nothing"), tree.canonical("")), (None, None, None));
    }

    #[test]
    fn neighbours_follow_the_reading_order() {
        let tree = tree(&[("index.md", "# F"), ("a.md", "# A"), ("b/c.md", "# C")]);
        let Some(Place::Page(a)) = tree.find("a") else { panic!() };
        let Some(Place::Page(b)) = tree.find("b/") else { panic!() };
        assert_eq!(tree.neighbours(a), (Some(0), Some(b)));
        assert_eq!(tree.neighbours(0).0, None);
    }
}
