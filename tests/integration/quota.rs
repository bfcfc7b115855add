//! Limits that several Beacons share over a real Redis, and what happens when Redis stalls, dies and comes back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use beacon::auth::Caller;
use beacon::auth::quota::{Allowance, Config, Quota};
use beacon::redis::{self, Client};
use beacon::secret::Secret;
use tokio_util::task::AbortOnDropHandle;

use crate::support::Redis;

/// A Beacon that counts in Redis.
struct Host {
    client: Client,
    quota: Quota,
    keeping: AbortOnDropHandle<()>,
}

fn client(url: &str) -> Client {
    Client::new(&redis::Config { url: Secret::new(url) }).unwrap()
}

/// So many at once, and then one a minute: none comes back within a test.
fn limit(burst: u32) -> Config {
    let allowance = Allowance { per_minute: 1, burst };
    Config { key: allowance, user: allowance, anonymous: allowance }
}

async fn host(url: &str, config: &Config) -> Host {
    let client = client(url);
    let keeping = AbortOnDropHandle::new(tokio::spawn(client.clone().keep()));
    wait_for("a connection", || client.is_connected()).await;
    let quota = Quota::new(config, Some(client.clone())).unwrap();
    Host { client, quota, keeping }
}

impl Host {
    /// Whether a request of this user passes.
    async fn passes(&self, user: &str) -> bool {
        !self.quota.take(&caller(user), here()).await.unwrap().is_over()
    }

    async fn passing(&self, user: &str, requests: usize) -> usize {
        let mut passed = 0;
        for _ in 0..requests {
            passed += usize::from(self.passes(user).await);
        }
        passed
    }
}

fn caller(user: &str) -> Caller {
    Caller { subject: Some(user.into()), authenticated: true, ..Caller::anonymous("authenticated") }
}

fn here() -> IpAddr {
    "198.51.100.77".parse().unwrap()
}

/// Waits for a state, at most twenty seconds.
async fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_redis_leads_to_one_count() {
    let server = Redis::start();
    let tls = format!("{}?ssl_ca_certs={}", server.tls_url(), server.authority().display());
    let (mut hosts, config) = (Vec::new(), limit(7));
    for url in [server.url(), server.socket_url(), tls] {
        hosts.push(host(&url, &config).await);
    }
    for host in &hosts {
        host.client.ping(Duration::from_secs(5)).await.unwrap();
    }
    let mut passed = Vec::new();
    for turn in 0..9 {
        passed.push(hosts[turn % 3].passes("ann").await);
    }
    assert_eq!(passed, [true, true, true, true, true, true, true, false, false]);
    assert!(hosts[0].passes("bob").await);
    // An address is nowhere in Redis, and nothing stays for ever.
    assert!(!hosts[0].quota.take(&Caller::anonymous("anon"), here()).await.unwrap().is_over());
    let keys = server.ask(&["KEYS", "*"]);
    assert_eq!(keys.lines().count(), 3, "{keys}");
    for key in keys.lines() {
        assert!(key.starts_with("beacon:quota:") && !key.contains("ann") && !key.contains("198."), "{key}");
        let left: i64 = server.ask(&["PTTL", key]).parse().unwrap();
        assert!((1..=7 * 60_000).contains(&left), "{left}");
    }
    hosts[0].client.close().await;
    wait_for("the task ends after close", || hosts[0].keeping.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_get_exactly_the_burst_and_both_ways_count_alike() {
    let server = Redis::start();
    let config = limit(20);
    let (one, two) = (host(&server.url(), &config).await, host(&server.url(), &config).await);
    let tasks = (0..100).map(|number| {
        let quota = if number % 2 == 0 { one.quota.clone() } else { two.quota.clone() };
        tokio::spawn(async move { !quota.take(&caller("ann"), here()).await.unwrap().is_over() })
    });
    let passed = futures_util::future::join_all(tasks).await.into_iter().filter(|passed| *passed.as_ref().unwrap());
    assert_eq!(passed.count(), 20);

    let alone = Quota::new(&config, None).unwrap();
    for turn in 0..22 {
        let mut told = Vec::new();
        for quota in [&one.quota, &alone] {
            let standing = quota.take(&caller("bob"), here()).await.unwrap();
            let mut headers = http::HeaderMap::new();
            standing.mark(&mut headers);
            let remaining = headers["ratelimit"].to_str().unwrap().split(";t=").next().unwrap().to_owned();
            told.push((standing.is_over(), remaining, headers["ratelimit-policy"].clone()));
        }
        assert_eq!(told[0], told[1], "{turn}");
        assert_eq!(told[0].0, turn >= 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_gives_requests_back() {
    let server = Redis::start();
    let allowance = Allowance { per_minute: 600, burst: 2 };
    let host = host(&server.url(), &Config { user: allowance, ..Config::default() }).await;
    let begin = Instant::now();
    let mut passed = 0;
    while passed < 8 {
        passed += u32::from(host.passes("ann").await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Two at once, six more at one in 100 ms each.
    assert!(begin.elapsed() >= Duration::from_millis(590), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_each_counts_alone_and_nothing_waits() {
    let mut server = Redis::start();
    let config = limit(3);
    let (one, two) = (host(&server.url(), &config).await, host(&server.url(), &config).await);
    assert_eq!(one.passing("ann", 5).await, 3);
    assert_eq!(two.passing("ann", 5).await, 0);

    server.stall(true);
    let begin = Instant::now();
    assert_eq!(one.passing("bob", 50).await, 3, "its own count");
    assert_eq!(two.passing("bob", 50).await, 3, "and the other's");
    assert!(begin.elapsed() < Duration::from_secs(1), "one wait each at most: {:?}", begin.elapsed());
    server.stall(false);
    wait_for("the connections are there", || one.client.is_connected() && two.client.is_connected()).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(one.passing("eve", 2).await + two.passing("eve", 5).await, 3, "together again");

    server.stop();
    let begin = Instant::now();
    assert_eq!(one.passing("joe", 50).await, 3);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    wait_for("it is known to be away", || !one.client.is_connected()).await;
    let error = one.client.ping(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.is_unavailable() && !error.to_string().contains("p@ss"), "{error}");
    server.start_again();
    wait_for("the connections are there", || one.client.is_connected() && two.client.is_connected()).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // The new server does not know the script, nor who asked before.
    assert_eq!(one.passing("ann", 2).await + two.passing("ann", 5).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_yet_is_found_later_and_a_wrong_one_never() {
    let mut server = Redis::start();
    server.stop();
    let early = client(&server.url());
    let _keeping = AbortOnDropHandle::new(tokio::spawn(early.clone().keep()));
    let wrong = client(&server.url().replace("word", "w0rd"));
    let _wrong = AbortOnDropHandle::new(tokio::spawn(wrong.clone().keep()));
    let stranger = client(&server.tls_url());
    let _stranger = AbortOnDropHandle::new(tokio::spawn(stranger.clone().keep()));
    let begin = Instant::now();
    assert!(early.ping(Duration::from_secs(5)).await.is_err());
    assert!(begin.elapsed() < Duration::from_secs(1));
    server.start_again();
    wait_for("the early one is connected", || early.is_connected()).await;
    early.ping(Duration::from_secs(5)).await.unwrap();
    for (client, why) in [(&wrong, "the password is wrong"), (&stranger, "nobody knows the authority")] {
        assert!(client.ping(Duration::from_secs(1)).await.is_err(), "{why}");
    }
}
