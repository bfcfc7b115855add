//! Proves on the real store what Beacon needs of it, step by step, on objects of its own.

use bytes::Bytes;
use uuid::Uuid;

use super::{Action, Attributes, Error, Key, Store};

/// Below which keys the check writes.
const FOLDER: &str = "beacon-check";
/// The least size of a part that is not the last, in bytes.
const PART: usize = 5 * 1024 * 1024;

/// One thing that was tried.
#[derive(Debug)]
pub struct Step {
    /// What, as in "create an object".
    pub what: &'static str,
    /// The right that S3 asks for.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a step ended.
#[derive(Debug)]
pub enum Outcome {
    /// As it should.
    Works,
    /// It failed.
    Fails(Error),
    /// It was not tried, because a step before it failed or it was not wanted.
    Left(&'static str),
}

/// Tries to list, create, read, update, send in parts, give up parts, and, if it is wanted, delete. What was created is
/// removed where deleting is allowed; else two small objects stay, which the next check uses again.
pub async fn check(store: &Store, delete: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let (Ok(small), Ok(parted)) = (Key::new(&format!("{FOLDER}/small")), Key::new(&format!("{FOLDER}/parts"))) else {
        return steps;
    };
    let mut add = |what, action, outcome| steps.push(Step { what, action, outcome });
    let listed = store.list(&format!("{FOLDER}/"), None, 10).await.map(drop);
    add("list objects", Action::List, listed.into());
    let (first, second) = (content(), content());
    let created = put(store, &small, &first).await;
    let went = created.is_ok();
    add("create an object", Action::Write, created.into());
    if went {
        let read = read_back(store, &small, &first).await;
        add("read it back", Action::Read, read.into());
        let updated = match put(store, &small, &second).await {
            Ok(()) => read_back(store, &small, &second).await,
            Err(error) => Err(error),
        };
        add("update it", Action::Write, updated.into());
    } else {
        add("read it back", Action::Read, Outcome::Left("nothing could be created"));
        add("update it", Action::Write, Outcome::Left("nothing could be created"));
    }
    let sent = parts(store, &parted).await;
    let went = sent.is_ok();
    add("create one in parts", Action::Write, sent.into());
    let given_up = if went { give_up(store, &parted).await.into() } else { Outcome::Left("no part could be sent") };
    add("give up an upload in parts", Action::Abort, given_up);
    let deleted = if delete {
        let mut failed = store.delete(&[small, parted]).await;
        if let Ok(list) = &mut failed
            && let Some((_, error)) = list.pop()
        {
            failed = Err(error);
        }
        failed.map(drop).into()
    } else {
        Outcome::Left("it was not asked for")
    };
    add("delete objects", Action::Delete, deleted);
    steps
}

impl From<Result<(), Error>> for Outcome {
    fn from(result: Result<(), Error>) -> Self {
        result.map_or_else(Self::Fails, |()| Self::Works)
    }
}

/// Bytes that nobody has written before.
fn content() -> Bytes {
    format!("This object proves that Beacon can write here: {}\n", Uuid::new_v4()).into()
}

async fn put(store: &Store, key: &Key, body: &Bytes) -> Result<(), Error> {
    let attributes = Attributes { content_type: Some("text/plain; charset=utf-8".into()), ..Attributes::default() };
    store.put(key, body.clone(), &attributes).await.map(drop)
}

async fn read_back(store: &Store, key: &Key, expected: &Bytes) -> Result<(), Error> {
    let (_, content) = store.get(key, None).await?;
    if content.collect(expected.len() + 1).await? == expected {
        Ok(())
    } else {
        Err(Error::Damaged("the object has other bytes than were written".into()))
    }
}

async fn parts(store: &Store, key: &Key) -> Result<(), Error> {
    let upload = store.begin(key, &Attributes::default()).await?;
    let body = Bytes::from(vec![b'b'; PART]);
    let rest = Bytes::from_static(b"eacon");
    let sent = async {
        let first = store.part(key, &upload, 1, 0, body.clone()).await?;
        let second = store.part(key, &upload, 2, PART as u64, rest.clone()).await?;
        let size = (PART + rest.len()) as u64;
        let stored = store.complete(key, &upload, &[first, second], size).await?;
        if stored.size == size { Ok(()) } else { Err(Error::Damaged("parts were lost".into())) }
    };
    let sent = sent.await;
    if sent.is_err() {
        // The first error is the one to tell.
        let _ = store.abort(key, &upload).await;
    }
    sent
}

async fn give_up(store: &Store, key: &Key) -> Result<(), Error> {
    let upload = store.begin(key, &Attributes::default()).await?;
    store.abort(key, &upload).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::local::Local;

    #[tokio::test]
    async fn a_folder_does_all_that_is_asked_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(Local::new(folder.path().join("store")));
        for _ in 0..2 {
            let steps = check(&store, true).await;
            assert_eq!(steps.len(), 7);
            assert!(steps.iter().all(|step| matches!(step.outcome, Outcome::Works)), "{steps:?}");
        }
        assert!(store.list("", None, 10).await.unwrap().is_empty());
        let kept = check(&store, false).await;
        assert!(matches!(kept[6].outcome, Outcome::Left(_)));
        assert_eq!(store.list("", None, 10).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let store = Store::new(Local::new(folder.path().join("file/store")));
        let steps = check(&store, true).await;
        assert!(matches!(steps[1].outcome, Outcome::Fails(_)), "{steps:?}");
        assert!(matches!(steps[2].outcome, Outcome::Left(_)), "{steps:?}");
    }
}
