//! Listings of objects and of uploads. Names that are no keys, as folders' markers that end in a slash, are left out.

use http::{HeaderMap, Method};

use super::request::{Asking, again};
use super::{Inner, xml::Node};
use crate::error::BoxError;
use crate::storage::{Action, Entry, Error, Key, Level, Unfinished};

/// The most that S3 lists at once.
const MOST: usize = 1_000;

impl Inner {
    /// Objects by prefix in the order of S3.
    pub(super) async fn list(&self, prefix: &str, after: Option<&str>, most: usize) -> Result<Vec<Entry>, Error> {
        let full = format!("{}{prefix}", self.prefix);
        let mut from = after.map(|after| format!("{}{after}", self.prefix));
        let mut found = Vec::new();
        loop {
            let number = (most - found.len()).min(MOST).to_string();
            let mut query = vec![("list-type", "2"), ("max-keys", number.as_str()), ("prefix", full.as_str())];
            if let Some(from) = &from {
                query.push(("start-after", from));
            }
            let page = self.page(Action::List, &query).await?;
            let mut last = None;
            for node in page.all("Contents") {
                found.extend(self.entry(node)?);
                last = node.text("Key").map(str::to_owned);
            }
            if found.len() >= most || page.text("IsTruncated") != Some("true") || last.is_none() || last == from {
                break;
            }
            from = last;
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// What lies directly below a folder.
    pub(super) async fn level(&self, folder: &str) -> Result<Level, Error> {
        let full = if folder.is_empty() { self.prefix.clone() } else { format!("{}{folder}/", self.prefix) };
        let mut level = Level::default();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("delimiter", "/"), ("list-type", "2"), ("prefix", full.as_str())];
            if let Some(token) = &token {
                query.push(("continuation-token", token));
            }
            let page = self.page(Action::List, &query).await?;
            for node in page.all("Contents") {
                level.objects.extend(self.entry(node)?);
            }
            for node in page.all("CommonPrefixes") {
                level.folders.extend(
                    node.text("Prefix").and_then(|name| self.key(name.strip_suffix('/')?)).map(|key| key.to_string()),
                );
            }
            match page.text("NextContinuationToken") {
                Some(next) if page.text("IsTruncated") == Some("true") => token = Some(next.to_owned()),
                _ => break,
            }
        }
        level.folders.sort_unstable();
        level.folders.dedup();
        level.objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(level)
    }

    /// Uploads that were begun and not ended.
    pub(super) async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, Error> {
        let full = format!("{}{prefix}", self.prefix);
        let mut found = Vec::new();
        let mut from: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("prefix", full.as_str())];
            if let Some((key, upload)) = &from {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", upload)]);
            }
            let page = self.page(Action::ListUploads, &query).await?;
            for node in page.all("Upload") {
                let whole = node.text("Key").unwrap_or_default();
                // Servers besides Amazon's may list more than was asked for.
                let Some(key) = self.key(whole).filter(|_| whole.starts_with(&full)) else { continue };
                let upload = self.need(Action::ListUploads, node, "UploadId")?.to_owned();
                let began = self.time(Action::ListUploads, node, "Initiated")?;
                found.push(Unfinished { key, upload, began });
            }
            let next = page.text("NextKeyMarker").zip(page.text("NextUploadIdMarker"));
            let next = next.map(|(key, upload)| (key.to_owned(), upload.to_owned()));
            if page.text("IsTruncated") != Some("true") || next.is_none() || next == from {
                return Ok(found);
            }
            from = next;
        }
    }

    async fn page(&self, action: Action, query: &[(&str, &str)]) -> Result<Node, Error> {
        let asked = self.asked(action, None);
        let asking = Asking { method: Method::GET, key: "", query, headers: HeaderMap::new() };
        again(self.patience, |_| async { self.signed.send(&asking).await.map_err(|error| asked.error(error)) }).await
    }

    /// The key of a name within the bucket, if it is below the prefix and one of ours.
    fn key(&self, whole: &str) -> Option<Key> {
        Key::new(whole.strip_prefix(&self.prefix)?).ok()
    }

    fn entry(&self, node: &Node) -> Result<Option<Entry>, Error> {
        let Some(key) = node.text("Key").and_then(|whole| self.key(whole)) else { return Ok(None) };
        let size = self.need(Action::List, node, "Size")?;
        let size = size.parse().map_err(|_| self.unclear(Action::List, "Size"))?;
        let etag = super::bare(node.text("ETag").unwrap_or_default());
        let modified = self.time(Action::List, node, "LastModified")?;
        Ok(Some(Entry { key, size, etag, modified, attributes: crate::storage::Attributes::default() }))
    }

    pub(super) fn need<'a>(&self, action: Action, node: &'a Node, name: &'static str) -> Result<&'a str, Error> {
        node.text(name).ok_or_else(|| self.unclear(action, name))
    }

    fn time(&self, action: Action, node: &Node, name: &'static str) -> Result<u64, Error> {
        let time: jiff::Timestamp = self.need(action, node, name)?.parse().map_err(|_| self.unclear(action, name))?;
        Ok(u64::try_from(time.as_second()).unwrap_or_default())
    }

    fn unclear(&self, action: Action, name: &str) -> Error {
        self.asked(action, None).other(BoxError::from(format!("the answer has no {name} that can be read")))
    }
}
