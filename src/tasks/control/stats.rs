//! The answer to `celery inspect stats`, which Flower's pages are made of; and the broker's URL without its password.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::host;
use crate::secret::{MASK, Secret};
use crate::tasks::wire::now;
use crate::tasks::{Desk, Transport};

/// Everything about a worker. `broker` is what [`broker`] gave.
pub(super) fn all(desk: &dyn Desk, clock: u64, broker: &Value) -> Value {
    let pool = desk.pool();
    let totals = desk.totals();
    let begun: u64 = totals.values().sum();
    let limit = |seconds: Option<f64>| seconds.map_or_else(|| json!(0), |seconds| json!(seconds));
    let active = desk.active().len();
    let (hard, soft) = pool.timeouts;
    json!({
        "total": totals.iter().map(|(task, runs)| (task.to_string(), Value::from(*runs))).collect::<serde_json::Map<_, _>>(),
        "pid": std::process::id(),
        "clock": clock.to_string(),
        "uptime": (now() - desk.since()).max(0.0).round() as u64,
        "pool": {
            "implementation": "beacon",
            "max-concurrency": pool.places,
            "processes": pool.pids,
            "max-tasks-per-child": if pool.max_tasks == 0 { json!("N/A") } else { json!(pool.max_tasks) },
            "put-guarded-by-semaphore": true,
            // Celery gives the soft one first here.
            "timeouts": [limit(soft), limit(hard)],
            "writes": {
                "total": begun,
                "avg": format!("{:.2}", begun as f64 / pool.places.max(1) as f64),
                // Who got how many is not counted.
                "all": "",
                "raw": "",
                "strategy": "fair",
                "inqueues": {"total": pool.places, "active": active},
            },
        },
        "broker": broker,
        // No more is fetched than can begin.
        "prefetch_count": pool.places,
        "rusage": host::usage().unwrap_or_else(|| json!("N/A")),
    })
}

/// The parts of the broker's URL that may be shown, with the keys of kombu.
pub(super) fn broker(url: &Secret, transport: &Transport) -> Value {
    let parts = Parts::of(url.expose());
    let text = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    json!({
        "hostname": text(parts.host),
        "userid": (!parts.user.is_empty()).then(|| text(parts.user)),
        "virtual_host": parts.database(),
        "port": parts.port.parse::<u16>().unwrap_or(6379),
        "insist": false,
        "ssl": parts.scheme == "rediss",
        "transport": "redis",
        "connect_timeout": 5,
        "transport_options": options(transport),
        "login_method": null,
        "uri_prefix": null,
        "heartbeat": 0,
        "failover_strategy": "round-robin",
        "alternates": [],
        "credential_provider": null,
    })
}

/// The options of the transport that are not Celery's defaults.
pub(super) fn options(transport: &Transport) -> Value {
    let default = Transport::default();
    let mut all = serde_json::Map::new();
    if transport.global_keyprefix != default.global_keyprefix {
        all.insert("global_keyprefix".into(), transport.global_keyprefix.clone().into());
    }
    if transport.visibility_timeout != default.visibility_timeout {
        all.insert("visibility_timeout".into(), transport.visibility_timeout.as_secs().into());
    }
    if transport.priority_steps != default.priority_steps {
        all.insert("priority_steps".into(), transport.priority_steps.clone().into());
    }
    if transport.sep != default.sep {
        all.insert("sep".into(), transport.sep.clone().into());
    }
    Value::Object(all)
}

/// The URL with a mask in the password's place, and without parameters, which may hold one, too.
pub(super) fn masked(url: &Secret) -> String {
    let parts = Parts::of(url.expose());
    if parts.scheme.is_empty() {
        return String::new();
    }
    let login = match (parts.user, parts.protected) {
        (user, true) => format!("{user}:{MASK}@"),
        ("", false) => String::new(),
        (user, false) => format!("{user}@"),
    };
    let port = if parts.port.is_empty() { String::new() } else { format!(":{}", parts.port) };
    format!("{}://{login}{}{port}{}", parts.scheme, parts.host, parts.path)
}

/// A URL that the Redis client has accepted, cut at its marks.
struct Parts<'a> {
    scheme: &'a str,
    user: &'a str,
    protected: bool,
    host: &'a str,
    port: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (login, address) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = match address.rsplit_once(':') {
            // The colons of an IPv6 address are within brackets.
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (address, ""),
        };
        Self { scheme, user, protected: !password.is_empty() || query.contains("password="), host, port, path, query }
    }

    fn database(&self) -> String {
        let named = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let named = named.filter(|(key, _)| matches!(*key, "db" | "virtual_host")).map(|(_, value)| value).next_back();
        let of_path = self.path.trim_matches('/');
        match named {
            Some(value) => value.to_owned(),
            None if of_path.parse::<u32>().is_ok() => of_path.to_owned(),
            None => "0".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_url_shows_its_password() {
        for (url, shown, host, database) in [
            ("redis://", "redis://", "", "0"),
            ("redis://127.0.0.1:6380/3", "redis://127.0.0.1:6380/3", "127.0.0.1", "3"),
            ("redis://:hunter2@cache/2", "redis://:********@cache/2", "cache", "2"),
            ("rediss://me:hunter2@cache:1/0?ssl_ca_certs=/x", "rediss://me:********@cache:1/0", "cache", "0"),
            ("redis://cache?password=hunter2&db=7", "redis://:********@cache", "cache", "7"),
            ("unix:///run/redis.sock?virtual_host=5", "unix:///run/redis.sock", "", "5"),
            ("redis://:hunter2@[::1]:7000/1", "redis://:********@[::1]:7000/1", "[::1]", "1"),
            ("redis://[::1]", "redis://[::1]", "[::1]", "0"),
            ("hunter2", "", "", "0"),
        ] {
            let url = Secret::new(url);
            assert_eq!(masked(&url), shown);
            let broker = broker(&url, &Transport::default());
            assert_eq!((&broker["hostname"], &broker["virtual_host"]), (&json!(host), &json!(database)), "{shown}");
            assert!(!broker.to_string().contains("hunter2"));
        }
        let broker = broker(&Secret::new("rediss://me:hunter2@cache:1/0"), &Transport::default());
        assert_eq!((&broker["port"], &broker["userid"], &broker["ssl"]), (&json!(1), &json!("me"), &json!(true)));
    }
}
