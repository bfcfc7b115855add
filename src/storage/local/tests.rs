//! The folder as a store: what every store does, and what only a disk can do wrong.

use std::os::unix::fs::symlink;

use super::*;
use crate::storage::Store;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(Local::new(folder.path().join("store")));
    (folder, store)
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn put(store: &Store, name: &str, body: &str) -> Stored {
    store.put(&key(name), Bytes::copy_from_slice(body.as_bytes()), &Attributes::default()).await.unwrap()
}

async fn read(store: &Store, name: &str) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;

    let (_, content) = store.get(&key(name), None).await.unwrap();
    let Content::File(file, range) = content else { panic!("a folder has files") };
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start).unwrap();
    bytes
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

#[tokio::test]
async fn an_object_is_there_whole_or_not_at_all() {
    let (_folder, store) = store();
    assert!(matches!(store.head(&key("a/b")).await, Err(Error::Missing(_))));
    let first = put(&store, "a/b", "one").await;
    let entry = store.head(&key("a/b")).await.unwrap();
    assert_eq!((entry.size, &entry.etag), (3, &first.etag));
    // Who reads the old bytes keeps them.
    let (_, Content::File(old, _)) = store.get(&key("a/b"), None).await.unwrap() else { panic!("a file") };
    let second = put(&store, "a/b", "second").await;
    assert_ne!(first.etag, second.etag);
    assert_eq!(std::io::read_to_string(&*old).unwrap(), "one");
    assert_eq!(read(&store, "a/b").await, b"second");
    assert_eq!(put(&store, "a/c", "second").await.etag, second.etag, "the same bytes have the same tag");
    let (_, Content::File(_, range)) = store.get(&key("a/b"), Some(2..4)).await.unwrap() else { panic!("a file") };
    assert_eq!(range, 2..4);
    assert!(matches!(store.get(&key("a/b"), Some(2..7)).await, Err(Error::Damaged(_))));
    assert!(store.delete(&[key("a/b"), key("a/b"), key("never")]).await.unwrap().is_empty());
    assert!(matches!(store.head(&key("a/b")).await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn listings_are_in_the_order_of_bytes_and_go_on_where_they_ended() {
    let (_folder, store) = store();
    let all = ["a", "b-", "b/a", "b/b/c", "b/é", "b0", "c d", "ü"];
    for name in all.iter().rev() {
        put(&store, name, name).await;
    }
    assert_eq!(names(&store.list("", None, 100).await.unwrap()), all);
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list("", after.as_deref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.to_string());
        paged.extend(page.iter().map(|entry| entry.key.to_string()));
    }
    assert_eq!(paged, all);
    assert_eq!(names(&store.list("b/", None, 100).await.unwrap()), ["b/a", "b/b/c", "b/é"]);
    assert_eq!(names(&store.list("b", None, 100).await.unwrap()), ["b-", "b/a", "b/b/c", "b/é", "b0"]);
    assert_eq!(names(&store.list("b/b/", Some("b/a"), 100).await.unwrap()), ["b/b/c"]);
    assert!(store.list("nothing/", None, 100).await.unwrap().is_empty());
    let level = store.level("").await.unwrap();
    assert_eq!((level.folders, names(&level.objects)), (vec!["b".to_owned()], vec!["a", "b-", "b0", "c d", "ü"]));
    let level = store.level("b/").await.unwrap();
    assert_eq!((level.folders, names(&level.objects)), (vec!["b/b".to_owned()], vec!["b/a", "b/é"]));
    // Empty folders do not stay.
    assert!(store.delete(&[key("b/b/c"), key("b/a"), key("b/é")]).await.unwrap().is_empty());
    assert!(store.level("").await.unwrap().folders.is_empty());
}

#[tokio::test]
async fn uploads_in_parts_outlive_who_began_them() {
    let (folder, store) = store();
    let upload = store.begin(&key("big/x"), &Attributes::default()).await.unwrap();
    // Another process goes on.
    let store = Store::new(Local::new(folder.path().join("store")));
    store.part(&key("big/x"), &upload, 1, 3, Bytes::from_static(b"defg")).await.unwrap();
    assert!(matches!(store.head(&key("big/x")).await, Err(Error::Missing(_))));
    store.part(&key("big/x"), &upload, 1, 0, Bytes::from_static(b"abc")).await.unwrap();
    let begun = store.unfinished("big/").await.unwrap();
    assert_eq!((begun.len(), &begun[0].upload, begun[0].key.as_str()), (1, &upload, "big/x"));
    assert!(store.unfinished("other/").await.unwrap().is_empty());
    assert!(matches!(store.complete(&key("big/x"), &upload, &[], 8).await, Err(Error::Damaged(_))));
    let stored = store.complete(&key("big/x"), &upload, &[], 6).await.unwrap();
    assert_eq!((stored.size, read(&store, "big/x").await.as_slice()), (6, &b"abcdef"[..]));
    assert_eq!(store.head(&key("big/x")).await.unwrap().etag, stored.etag);
    assert!(matches!(store.complete(&key("big/x"), &upload, &[], 6).await, Err(Error::NoUpload(_))));
    let upload = store.begin(&key("big/y"), &Attributes::default()).await.unwrap();
    store.abort(&key("big/y"), &upload).await.unwrap();
    store.abort(&key("big/y"), &upload).await.unwrap();
    assert!(store.unfinished("").await.unwrap().is_empty());
    for odd in ["../../x", "", "zz", "put-1"] {
        assert!(matches!(store.part(&key("big/y"), odd, 1, 0, Bytes::new()).await, Err(Error::NoUpload(_))), "{odd}");
    }
}

#[tokio::test]
async fn an_upload_of_unknown_size_is_one_object() {
    let (_folder, store) = store();
    for size in [0_usize, 1, 1 << 20, (20 << 20) + 7] {
        let bytes: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
        let mut upload = store.upload(&key("u"), &Attributes::default(), None);
        for piece in bytes.chunks(100_000) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(upload.written(), size as u64);
        assert_eq!(upload.finish().await.unwrap().size, size as u64);
        assert!(read(&store, "u").await == bytes, "{size}");
    }
    let mut given_up = store.upload(&key("v"), &Attributes::default(), None);
    given_up.write(Bytes::from(vec![1; 20 << 20])).await.unwrap();
    drop(given_up);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !store.unfinished("").await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < end, "what was given up is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(store.head(&key("v")).await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn copies_share_their_bytes_and_not_their_fate() {
    let (_folder, store) = store();
    let stored = put(&store, "from", "bytes").await;
    for _ in 0..2 {
        assert_eq!(store.copy(&key("from"), &key("to/x"), None).await.unwrap(), stored);
    }
    put(&store, "from", "other").await;
    assert_eq!(read(&store, "to/x").await, b"bytes");
    assert!(store.delete(&[key("from")]).await.unwrap().is_empty());
    assert_eq!(read(&store, "to/x").await, b"bytes");
    assert!(matches!(store.copy(&key("from"), &key("y"), None).await, Err(Error::Missing(_))));
    assert_eq!(names(&store.list("", None, 9).await.unwrap()), ["to/x"]);
}

#[tokio::test]
async fn no_key_leads_out_of_the_folder() {
    let (folder, store) = store();
    put(&store, "in/side", "x").await;
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    symlink(folder.path(), folder.path().join("store/link")).unwrap();
    symlink(folder.path().join("secret"), folder.path().join("store/in/file")).unwrap();
    for name in ["link/secret", "in/file"] {
        assert!(store.get(&key(name), None).await.is_err(), "{name}");
    }
    assert!(store.put(&key("link/new"), Bytes::from_static(b"x"), &Attributes::default()).await.is_err());
    assert!(!folder.path().join("new").exists());
    assert_eq!(names(&store.list("", None, 9).await.unwrap()), ["in/side"]);
    for name in [".beacon/x", ".beacon"] {
        assert!(store.put(&key(name), Bytes::new(), &Attributes::default()).await.is_err(), "{name}");
    }
    // An object and a folder exclude each other, and it is said.
    let clash = store.put(&key("in/side/below"), Bytes::new(), &Attributes::default()).await.unwrap_err();
    assert!(clash.to_string().contains("exclude each other"), "{clash}");
    let long = store.put(&key(&"x".repeat(300)), Bytes::new(), &Attributes::default()).await.unwrap_err();
    assert!(long.to_string().contains("255 bytes"), "{long}");
}

#[tokio::test]
async fn writers_and_deleters_of_one_folder_do_not_lose_each_others_objects() {
    let (_folder, store) = store();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for turn in 0..40 {
                    let name = format!("deep/er/{task}");
                    put(&store, &name, "x").await;
                    if turn < 39 {
                        assert!(store.delete(&[key(&name)]).await.unwrap().is_empty());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.list("", None, 100).await.unwrap().len(), 8);
}
