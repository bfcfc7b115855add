//! A local folder as a store: each object a file below it, which appears by a rename when its bytes are on the disk.
//!
//! A file is never written in place, so who reads one keeps its bytes, and a copy within the store is a second link. The
//! kernel keeps every look-up below the folder and follows no symbolic link. What is unfinished lies in `.beacon/`, a
//! segment that no key may begin with. Nothing here blocks the runtime's threads.

mod disk;
mod files;
#[cfg(test)]
mod tests;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::store::{Backend, Later};
use super::{Attributes, Content, Entry, Error, Key, Level, PartId, Range, Stored, Unfinished};
use disk::Disk;

/// A local folder as a store.
pub struct Local(Arc<Disk>);

impl Local {
    /// Over a folder, which is made when it is needed first.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(Arc::new(Disk::new(folder)))
    }

    /// Does what blocks on a thread for it.
    async fn off<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let disk = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&disk)).await;
        done.unwrap_or_else(|error| {
            Err(Error::Other { what: "work on the store's folder was broken off".into(), source: error.into() })
        })
    }
}

impl Backend for Local {
    fn describe(&self) -> String {
        format!("the folder {}", self.0.path().display())
    }

    fn takes_any_part(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, key: &'a Key, body: Bytes, _: &'a Attributes) -> Later<'a, Stored> {
        let key = key.clone();
        Box::pin(self.off(move |disk| disk.put(&key, &body)))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Later<'a, Entry> {
        let key = key.clone();
        Box::pin(self.off(move |disk| disk.open(&key).map(|(_, entry)| entry)))
    }

    fn get<'a>(&'a self, key: &'a Key, range: Option<Range>) -> Later<'a, (Entry, Content)> {
        let key = key.clone();
        Box::pin(self.off(move |disk| {
            let (file, entry) = disk.open(&key)?;
            let range = range.unwrap_or(0..entry.size);
            if range.start > range.end || range.end > entry.size {
                return Err(Error::Damaged("the object is shorter than the range asked for".into()));
            }
            Ok((entry, Content::File(Arc::new(file), range)))
        }))
    }

    fn copy<'a>(&'a self, from: &'a Key, to: &'a Key, _: Option<&'a Attributes>) -> Later<'a, Stored> {
        let (from, to) = (from.clone(), to.clone());
        Box::pin(self.off(move |disk| disk.copy(&from, &to)))
    }

    fn delete<'a>(&'a self, keys: &'a [Key]) -> Later<'a, Vec<(Key, Error)>> {
        let keys = keys.to_vec();
        Box::pin(self.off(move |disk| {
            let failed = keys.into_iter().filter_map(|key| disk.delete(&key).err().map(|error| (key, error)));
            Ok(failed.collect())
        }))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, most: usize) -> Later<'a, Vec<Entry>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(self.off(move |disk| disk.list(&prefix, after.as_deref(), most)))
    }

    fn level<'a>(&'a self, folder: &'a str) -> Later<'a, Level> {
        let folder = folder.trim_end_matches('/').to_owned();
        Box::pin(self.off(move |disk| disk.level(&folder)))
    }

    fn begin<'a>(&'a self, key: &'a Key, _: &'a Attributes) -> Later<'a, String> {
        let key = key.clone();
        Box::pin(self.off(move |disk| disk.begin(&key)))
    }

    fn part<'a>(&'a self, _: &'a Key, upload: &'a str, number: u32, offset: u64, body: Bytes) -> Later<'a, PartId> {
        let upload = upload.to_owned();
        Box::pin(self.off(move |disk| {
            disk.part(&upload, offset, &body)?;
            Ok(PartId(format!("{number}-{offset}-{}", body.len())))
        }))
    }

    fn complete<'a>(&'a self, key: &'a Key, upload: &'a str, _: &'a [PartId], size: u64) -> Later<'a, Stored> {
        let (key, upload) = (key.clone(), upload.to_owned());
        Box::pin(self.off(move |disk| disk.complete(&key, &upload, size)))
    }

    fn abort<'a>(&'a self, _: &'a Key, upload: &'a str) -> Later<'a, ()> {
        let upload = upload.to_owned();
        Box::pin(self.off(move |disk| disk.abort(&upload)))
    }

    fn unfinished<'a>(&'a self, prefix: &'a str) -> Later<'a, Vec<Unfinished>> {
        let prefix = prefix.to_owned();
        Box::pin(self.off(move |disk| disk.unfinished(&prefix)))
    }

    fn presign<'a>(&'a self, _: Method, _: &'a Key, _: Duration, _: &'a HeaderMap) -> Later<'a, Option<String>> {
        Box::pin(async { Ok(None) })
    }
}
