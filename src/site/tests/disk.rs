//! What the site makes of the disk: where paths may lead, and what it does when files change under it.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::BodyExt;

use super::super::{Config, Error, Site, Symlinks};
use super::{config, folder, get, get_raw, get_with, open, request, send, until, write};
use crate::http::Body;

#[tokio::test]
async fn no_path_leaves_the_folder() {
    let outer = folder(&[("secret.txt", b"secret"), ("www/index.html", b"ok"), ("www/.env", b"KEY"), ("www/d/f", b"")]);
    write(outer.path(), "www/.well-known/security.txt", b"contact");
    write(outer.path(), "www/.well-known/.hidden", b"KEY");
    let site = open(&outer.path().join("www"));
    for path in [
        "/../secret.txt",
        "/d/../../secret.txt",
        "/..",
        "/../",
        "/./index.html",
        "/..\\secret.txt",
        "/%2e%2e/secret.txt",
        "/%252e%252e/secret.txt",
        "/..%2fsecret.txt",
        "/....//secret.txt",
        "//etc/passwd",
        "/d//../../secret.txt",
        "/index.html\0.png",
        "/\0",
        "/.env",
        "/d/.git/config",
        "/.well-known/.hidden",
        "/proc/self/environ",
        "/..;/secret.txt",
        "/\u{2025}/secret.txt",
    ] {
        let got = get_raw(&site, path).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path:?}");
        assert!(!got.text().contains("secret") && !got.text().contains("KEY"), "{path:?}");
    }
    assert_eq!(get(&site, "/.well-known/security.txt").await.text(), "contact");
}

#[tokio::test]
async fn links_are_followed_inside_only_and_only_when_asked_for() {
    let outer = folder(&[("secret.txt", b"secret"), ("www/real.txt", b"real"), ("www/sub/x.txt", b"x")]);
    let www = outer.path().join("www");
    symlink("real.txt", www.join("inside.txt")).unwrap();
    symlink("../real.txt", www.join("sub/up.txt")).unwrap();
    symlink("sub", www.join("folder")).unwrap();
    symlink("../secret.txt", www.join("out.txt")).unwrap();
    symlink("/etc/passwd", www.join("absolute.txt")).unwrap();
    symlink("/proc/self/root", www.join("magic")).unwrap();
    symlink("loop", www.join("loop")).unwrap();
    let never = open(&www);
    let inside = Site::open(&Config { symlinks: Symlinks::Inside, ..config(&www) }).unwrap();
    for path in ["/inside.txt", "/sub/up.txt", "/folder/x.txt"] {
        assert_eq!(get(&never, path).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(get(&inside, path).await.status, StatusCode::OK, "{path}");
    }
    for path in ["/out.txt", "/absolute.txt", "/magic/etc/passwd", "/loop"] {
        assert_eq!(get(&never, path).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(get(&inside, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn fifos_and_sockets_are_missing_and_nobody_waits_for_them() {
    let folder = folder(&[]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let site = open(folder.path());
    for path in ["/fifo", "/socket"] {
        let got = tokio::time::timeout(Duration::from_secs(5), get(&site, path)).await.expect(path);
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn changes_on_disk_show_within_about_a_second() {
    let folder = folder(&[("a.txt", b"one"), ("gone.txt", b"here")]);
    let site = open(folder.path());
    let tag = get(&site, "/a.txt").await.header("etag").to_owned();
    assert_eq!(get(&site, "/new.txt").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&site, "/gone.txt").await.status, StatusCode::OK);
    let start = Instant::now();
    write(folder.path(), "a.txt", b"two");
    write(folder.path(), "new.txt", b"new");
    fs::remove_file(folder.path().join("gone.txt")).unwrap();
    let changed = until(&site, "/a.txt", |got| got.text() == "two").await;
    assert_ne!(changed.header("etag"), tag);
    until(&site, "/new.txt", |got| got.text() == "new").await;
    until(&site, "/gone.txt", |got| got.status == StatusCode::NOT_FOUND).await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    // The same contents again have the same tag, whatever the times say.
    write(folder.path(), "a.txt", b"one");
    let back = until(&site, "/a.txt", |got| got.text() == "one").await;
    assert_eq!(back.header("etag"), tag);
}

#[tokio::test]
async fn a_swapped_root_is_picked_up_and_a_lost_one_comes_back() {
    let outer = folder(&[("releases/1/index.html", b"one"), ("releases/2/index.html", b"two")]);
    write(outer.path(), "releases/1/old.txt", b"old");
    let current = outer.path().join("current");
    symlink("releases/1", &current).unwrap();
    let site = open(&current);
    assert_eq!(get(&site, "/").await.text(), "one");
    assert_eq!(get(&site, "/old.txt").await.text(), "old");
    symlink("releases/2", outer.path().join("next")).unwrap();
    fs::rename(outer.path().join("next"), &current).unwrap();
    until(&site, "/", |got| got.text() == "two").await;
    // Once the swap is seen, nothing of the old release is served from memory.
    assert_eq!(get(&site, "/old.txt").await.status, StatusCode::NOT_FOUND);
    fs::remove_file(&current).unwrap();
    let lost = until(&site, "/", |got| got.status == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(lost.header("retry-after"), "5");
    symlink("releases/1", &current).unwrap();
    until(&site, "/", |got| got.text() == "one").await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_opened_is_named_with_its_key() {
    let folder = folder(&[("file", b"")]);
    for path in [folder.path().join("missing"), folder.path().join("file")] {
        let error = Site::open(&config(&path)).err().unwrap();
        assert!(matches!(error, Error::Root { .. }));
        let text = error.to_string();
        assert!(text.contains("site.root") && text.contains(path.to_str().unwrap()), "{text}");
    }
    let error = Site::open(&Config { fallback: "../x".into(), ..config(folder.path()) }).err().unwrap().to_string();
    assert!(error.starts_with("site.fallback:"), "{error}");
}

#[tokio::test]
async fn a_new_neighbour_is_noticed() {
    let folder = folder(&[("a.js", b"the original text")]);
    let site = open(folder.path());
    let all = [("accept-encoding", "br")];
    assert_eq!(get_with(&site, "/a.js", &all).await.header("content-encoding"), "");
    write(folder.path(), "a.js.br", b"BR");
    let end = Instant::now() + Duration::from_secs(10);
    while get_with(&site, "/a.js", &all).await.text() != "BR" {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn unreadable_files_are_forbidden() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder(&[("a.txt", b"a")]);
    fs::set_permissions(folder.path().join("a.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    let got = get(&open(folder.path()), "/a.txt").await;
    // Root may read everything.
    let expected = if rustix::process::geteuid().is_root() { StatusCode::OK } else { StatusCode::FORBIDDEN };
    assert_eq!(got.status, expected);
}

#[tokio::test]
async fn a_flood_of_missing_names_evicts_nothing_and_one_of_files_stays_in_bounds() {
    let folder = folder(&[("hot.txt", b"hot")]);
    for number in 0..300 {
        write(folder.path(), &format!("f/{number}.bin"), &vec![7; 30_000]);
    }
    let site = Site::open(&Config { cache_bytes: 2_097_152, ..config(folder.path()) }).unwrap();
    let held = || site.loader().cache.bytes();
    get(&site, "/hot.txt").await;
    let before = held();
    for number in 0..20_000 {
        let got = get(&site, &format!("/missing/{number}")).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(held(), before);
    for number in 0..300 {
        assert_eq!(get(&site, &format!("/f/{number}.bin")).await.body.len(), 30_000);
        // Asked for all the time, so the clock passes it by.
        get(&site, "/hot.txt").await;
        assert!(held() <= 2_097_152, "{}", held());
    }
    assert!(held() > 1_000_000);
    assert!(site.loader().cache.entry("hot.txt").is_some());
    assert!(site.loader().cache.entry("f/0.bin").is_none());
}

#[tokio::test]
async fn a_large_file_that_is_cut_while_it_is_served_ends_with_an_error() {
    let content = vec![1; 8_000_000];
    let folder = folder(&[("large.bin", &content)]);
    let site = open(folder.path());
    let response = send(&site, request(&Method::GET, "/large.bin", &[])).await;
    let mut body: Body = response.into_body();
    body.frame().await.unwrap().unwrap();
    fs::File::options().write(true).open(folder.path().join("large.bin")).unwrap().set_len(1_000).unwrap();
    assert!(body.collect().await.err().unwrap().to_string().contains("shorter"));
}
