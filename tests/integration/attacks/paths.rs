//! Paths that would leave the root: a secret stands right beside it and never comes.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Beacon, Event, Http2, Launch, SECRET, request_block};

/// Ways to write a path out of the root.
const TRAVERSALS: [&str; 34] = [
    "/../secret.txt",
    "/sub/../../secret.txt",
    "/./../secret.txt",
    "//../secret.txt",
    "/..//secret.txt",
    "/%2e%2e/secret.txt",
    "/%2E%2E/secret.txt",
    "/.%2e/secret.txt",
    "/%2e./secret.txt",
    "/..%2fsecret.txt",
    "/..%2Fsecret.txt",
    "/%2e%2e%2fsecret.txt",
    "/%252e%252e/secret.txt",
    "/%252e%252e%252fsecret.txt",
    "/..%252fsecret.txt",
    "/%25252e%25252e/secret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/%5c..%5csecret.txt",
    "/..%00/secret.txt",
    "/%00/../secret.txt",
    "/sub%00/../../secret.txt",
    "/small.txt%00",
    "/%c0%ae%c0%ae/secret.txt",
    "/%c0%ae%c0%ae%c0%afsecret.txt",
    "/%e0%80%ae%e0%80%ae/secret.txt",
    "/%u002e%u002e/secret.txt",
    "/..;/secret.txt",
    "/.../secret.txt",
    "/....//secret.txt",
    "/sub/%2e%2e/%2e%2e/secret.txt",
    "/..?/secret.txt",
    "/%ef%bc%8e%ef%bc%8e/secret.txt",
    "/sub/..",
];

#[test]
fn no_encoding_of_a_traversal_serves_the_secret() {
    let beacon = Beacon::with("");
    for secure in [false, true] {
        for path in TRAVERSALS {
            let mut client = if secure { beacon.secure() } else { beacon.plain() };
            let answer = client.get(path);
            assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
            assert!(!answer.text().contains(SECRET), "{path}");
        }
    }
    beacon.is_unharmed();
}

#[test]
fn no_encoding_of_a_traversal_serves_the_secret_over_http_2() {
    let beacon = Beacon::with("");
    for path in TRAVERSALS {
        let mut client = Http2::new(&beacon, 65_535);
        match client.get(path) {
            Event::Answer(400 | 404, body) => assert!(!String::from_utf8_lossy(&body).contains(SECRET), "{path}"),
            // The library refuses what is no path at all.
            Event::Reset(1) => {}
            other => panic!("{path}: {other:?}"),
        }
    }
    beacon.is_unharmed();
}

#[test]
fn no_absolute_address_serves_the_secret() {
    let launch = Launch::new();
    let secret = launch.path().join("secret.txt");
    let secret = secret.to_str().unwrap();
    let targets = [
        secret.to_owned(),
        format!("/{secret}"),
        format!("file://{secret}"),
        format!("http://localhost/{secret}"),
        format!("/%2f{}", &secret[1..]),
        "http://localhost/../secret.txt".to_owned(),
        "http://localhost/%2e%2e/secret.txt".to_owned(),
    ];
    let beacon = launch.start();
    for target in targets {
        let answer = beacon.plain().get(&target);
        assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
        assert!(!answer.text().contains(SECRET), "{target}");
    }
    beacon.is_unharmed();
}

/// Links out of the root, of every kind, and one that stays inside.
fn with_links(symlinks: &str) -> Beacon {
    let launch = Launch::new().with(&format!("mounts.site.site.symlinks = \"{symlinks}\""));
    let www = launch.path().join("www");
    fs::create_dir(launch.path().join("beside")).unwrap();
    fs::write(launch.path().join("beside/secret.txt"), SECRET).unwrap();
    symlink("../secret.txt", www.join("relative.txt")).unwrap();
    symlink(launch.path().join("secret.txt"), www.join("absolute.txt")).unwrap();
    symlink("../beside", www.join("folder")).unwrap();
    symlink("relative.txt", www.join("twice.txt")).unwrap();
    symlink("sub/../../secret.txt", www.join("through.txt")).unwrap();
    symlink("/proc/self/environ", www.join("proc.txt")).unwrap();
    symlink("loop.txt", www.join("loop.txt")).unwrap();
    symlink("small.txt", www.join("inside.txt")).unwrap();
    launch.start()
}

const OUTSIDE: [&str; 7] =
    ["/relative.txt", "/absolute.txt", "/folder/secret.txt", "/twice.txt", "/through.txt", "/proc.txt", "/loop.txt"];

#[test]
fn symbolic_links_are_not_followed_by_default() {
    let beacon = with_links("never");
    for path in OUTSIDE.iter().chain(&["/inside.txt"]) {
        let answer = beacon.plain().get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!answer.text().contains(SECRET));
    }
    beacon.is_unharmed();
}

#[test]
fn symbolic_links_that_are_allowed_still_stay_inside() {
    let beacon = with_links("inside");
    assert_eq!(beacon.plain().get("/inside.txt").text(), "0123456789");
    for path in OUTSIDE {
        let answer = beacon.plain().get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!answer.text().contains(SECRET));
    }
    beacon.is_unharmed();
}

#[test]
fn a_folder_swapped_for_a_link_while_serving_does_not_leak() {
    let beacon = Beacon::with("mounts.site.site.symlinks = \"inside\"");
    fs::create_dir(beacon.path().join("beside")).unwrap();
    fs::write(beacon.path().join("beside/page.html"), SECRET).unwrap();
    let (folder, aside) = (beacon.www().join("sub"), beacon.www().join("aside"));
    let mut client = beacon.plain();
    for round in 0..200 {
        if round % 2 == 0 {
            fs::rename(&folder, &aside).unwrap();
            symlink("../beside", &folder).unwrap();
        } else {
            fs::remove_file(&folder).unwrap();
            fs::rename(&aside, &folder).unwrap();
        }
        let answer = client.get("/sub/page.html");
        assert!(!answer.text().contains(SECRET), "{answer:?}");
    }
    beacon.is_unharmed();
}

#[test]
fn hidden_files_and_special_files_are_not_served() {
    let launch = Launch::new();
    let www = launch.path().join("www");
    fs::write(www.join(".env"), SECRET).unwrap();
    fs::create_dir(www.join(".git")).unwrap();
    fs::write(www.join(".git/config"), SECRET).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(www.join("socket")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(www.join("pipe")).status().unwrap().success());
    let beacon = launch.start();
    for path in ["/.env", "/%2eenv", "/.git/config", "/%2egit/config", "/sub/../.env", "/socket", "/pipe"] {
        let answer = beacon.plain().get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.text().contains(SECRET));
    }
    beacon.is_unharmed();
}

#[test]
fn a_traversal_out_of_a_mount_does_not_reach_the_next() {
    let launch = Launch::new();
    let root = launch.path().join("private");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("index.html"), SECRET).unwrap();
    let config = format!(
        "wall = {{ username = \"u\", password = \"p\" }}\nmounts.site.wall = false\n\
         [mounts.private]\npath = \"/private\"\nsite.root = {root:?}\n"
    );
    let beacon = launch.with(&config).start();
    for path in [
        "/private/",
        "//private/",
        "/private//",
        "/sub/../private/",
        "/%70rivate/",
        "/private/index.html",
        "/sub/%2e%2e/private/",
        "/./private/",
        "/private/%2e/",
        "/private%2findex.html",
        "/private;x/index.html",
        "/PRIVATE/",
    ] {
        let answer = beacon.plain().get(path);
        assert!(matches!(answer.status, 400 | 401 | 404), "{path}: {answer:?}");
        assert!(!answer.text().contains(SECRET), "{path}");
        let mut client = Http2::new(&beacon, 65_535);
        let stream = client.request(&request_block("localhost", path, &[]));
        if let Event::Answer(status, body) = client.outcome(stream) {
            assert!(matches!(status, 400 | 401 | 404), "{path}: {status}");
            assert!(!String::from_utf8_lossy(&body).contains(SECRET), "{path}");
        }
    }
    assert_eq!(beacon.plain().get("/").status, 200);
}
