//! Counters for Prometheus.
//!
//! The handles of a mount are plain atomics, indexed by status code, so that the hot path neither looks anything up
//! nor takes a lock (the histogram of prometheus-client takes one). The labels' values come from the configuration and
//! from Beacon itself, never from a client: their number is bounded.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::access::AccessLog;
use super::process_metrics::Process;

/// Upper bounds of the duration buckets in seconds: from a small file out of memory to an upload.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Statuses 100 to 599.
const CODES: usize = 500;
/// As many threads as count without meeting; 4 KiB each for a mount.
const SHARDS: usize = 8;

/// Everything that is counted. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    traffic: Arc<Traffic>,
    refused: Family<Vec<(&'static str, &'static str)>, Counter>,
    /// Registered by us and by other modules, below `beacon_`.
    registry: Mutex<Registry>,
    /// Names that are not ours to prefix.
    process: Registry,
}

/// Which listener a connection came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// Plain HTTP.
    Http,
    /// HTTPS.
    Https,
    /// The operations listener.
    Operations,
}

/// What requests and connections count.
#[derive(Default)]
struct Traffic {
    mounts: Mutex<Vec<MountMetrics>>,
    /// By [`Listener`].
    opened: [AtomicU64; 3],
    closed: [AtomicU64; 3],
    /// Full, resumed, failed.
    handshakes: [AtomicU64; 3],
    access: Mutex<AccessLosses>,
}

/// The losses of logs that were replaced, and the present one.
#[derive(Default)]
struct AccessLosses {
    before: u64,
    log: Option<AccessLog>,
}

/// The counters of one mount. Clones share them.
#[derive(Clone)]
pub struct MountMetrics {
    series: Arc<Series>,
}

struct Series {
    /// Escaped for the text format.
    mount: String,
    /// Each thread counts in one of these, and the page shows their sums: counters that all cores change at every
    /// request cost more than everything else that is done here.
    shards: Vec<Shard>,
}

/// Counters that mostly one core writes, on cache lines of their own.
#[repr(align(128))]
struct Shard {
    /// Requests that began less those that ended, in this shard: one that began in another leaves -1.
    in_flight: AtomicI64,
    requests: [AtomicU64; CODES],
    /// Each bucket alone; the last one is for what lasted longer than every bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    bytes: AtomicU64,
}

impl Shard {
    fn new() -> Self {
        Self {
            in_flight: AtomicI64::new(0),
            requests: [const { AtomicU64::new(0) }; CODES],
            buckets: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            micros: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Series {
    /// The calling thread's shard.
    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        &self.shards[PLACE.with(|place| *place)]
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| read(counter(shard))).sum()
    }

    fn in_flight(&self) -> i64 {
        self.shards.iter().map(|shard| shard.in_flight.load(Ordering::Relaxed)).sum::<i64>().max(0)
    }
}

impl Metrics {
    /// The Content-Type of what [`Metrics::render`] gives.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let traffic = Arc::new(Traffic::default());
        let refused = Family::default();
        let mut registry = Registry::with_prefix("beacon");
        registry.register_collector(Box::new(traffic.clone()));
        registry.register(
            "connections_refused",
            "Connections that were closed before their first request, by reason",
            refused.clone(),
        );
        let mut process = Registry::default();
        process.register_collector(Box::new(Process::new()));
        Self { inner: Arc::new(Inner { traffic, refused, registry: Mutex::new(registry), process }) }
    }

    /// The counters of the mount called `name`, made if it is new. To be looked up once and kept: a mount that a reload
    /// removes keeps its counters, as Prometheus expects.
    #[must_use]
    pub fn mount(&self, name: &str) -> MountMetrics {
        // prometheus-client writes label values as they are.
        let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut mounts = lock(&self.inner.traffic.mounts);
        if let Some(mount) = mounts.iter().find(|mount| mount.series.mount == name) {
            return mount.clone();
        }
        let mount = MountMetrics {
            series: Arc::new(Series { mount: name, shards: std::iter::repeat_with(Shard::new).take(SHARDS).collect() }),
        };
        mounts.push(mount.clone());
        mount
    }

    /// A connection was accepted.
    pub fn connection_opened(&self, listener: Listener) {
        add(&self.inner.traffic.opened[listener as usize], 1);
    }

    /// A connection that was accepted is closed.
    pub fn connection_closed(&self, listener: Listener) {
        add(&self.inner.traffic.closed[listener as usize], 1);
    }

    /// Connections that are open now, on all listeners.
    #[must_use]
    pub fn connections(&self) -> u64 {
        let traffic = &self.inner.traffic;
        (0..3).map(|index| read(&traffic.opened[index]).saturating_sub(read(&traffic.closed[index]))).sum()
    }

    /// A connection was refused. The reason is one of a few fixed words, as in "limit", "proxy_protocol".
    pub fn connection_refused(&self, reason: &'static str) {
        self.inner.refused.get_or_create(&vec![("reason", reason)]).inc();
    }

    /// A TLS handshake succeeded.
    pub fn handshake_done(&self, resumed: bool) {
        add(&self.inner.traffic.handshakes[usize::from(resumed)], 1);
    }

    /// A TLS handshake failed or took too long.
    pub fn handshake_failed(&self) {
        add(&self.inner.traffic.handshakes[2], 1);
    }

    /// Counts the lines that `log` drops, from now on; the log before it is let go.
    pub fn access_log(&self, log: &AccessLog) {
        let mut losses = lock(&self.inner.traffic.access);
        if let Some(old) = losses.log.replace(log.clone()) {
            losses.before += old.dropped();
        }
    }

    /// Registers the metrics of another module. Names get the prefix `beacon_`, counters the suffix `_total`. To be
    /// called once for each name: a second one would make the page invalid.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut lock(&self.inner.registry));
    }

    /// Everything in the text format of OpenMetrics, which Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &lock(&self.inner.registry));
        let _ = encode_registry(&mut text, &self.inner.process);
        let _ = encode_eof(&mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl MountMetrics {
    /// A request has begun.
    pub fn started(&self) {
        self.series.shard().in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was [`started`](Self::started) has ended. Statuses outside of 100 to 599 count as 500.
    pub fn ended(&self, status: u16, duration: Duration, bytes: u64) {
        let shard = self.series.shard();
        shard.in_flight.fetch_sub(1, Ordering::Relaxed);
        let code = usize::from(status).checked_sub(100).filter(|code| *code < CODES).unwrap_or(400);
        add(&shard.requests[code], 1);
        let seconds = duration.as_secs_f64();
        add(&shard.buckets[BUCKETS.partition_point(|bound| *bound < seconds)], 1);
        add(&shard.micros, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        add(&shard.bytes, bytes);
    }
}

impl Collector for Traffic {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let mounts = lock(&self.mounts).clone();
        let mut family =
            out.encode_descriptor("http_requests", "Requests that have ended.", None, MetricType::Counter)?;
        for MountMetrics { series } in &mounts {
            for index in 0..CODES {
                let count = series.sum(|shard| &shard.requests[index]);
                if count > 0 {
                    let status = (index + 100).to_string();
                    family
                        .encode_family(&[("mount", series.mount.as_str()), ("status", &status)])?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut family = out.encode_descriptor(
            "http_request_duration_seconds",
            "From a request's first byte to the last of its answer.",
            None,
            MetricType::Histogram,
        )?;
        for MountMetrics { series } in &mounts {
            // The count is the sum of the very buckets that are shown, so that they always agree.
            let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> =
                bounds.enumerate().map(|(at, bound)| (bound, series.sum(|shard| &shard.buckets[at]))).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            family.encode_family(&[("mount", series.mount.as_str())])?.encode_histogram::<NoLabelSet>(
                series.sum(|shard| &shard.micros) as f64 / 1e6,
                count,
                &buckets,
                None,
            )?;
        }
        let mut family =
            out.encode_descriptor("http_response_bytes", "Bytes of bodies that were sent.", None, MetricType::Counter)?;
        for MountMetrics { series } in &mounts {
            family
                .encode_family(&[("mount", series.mount.as_str())])?
                .encode_counter::<NoLabelSet, _, u64>(&series.sum(|shard| &shard.bytes), None)?;
        }
        let mut family =
            out.encode_descriptor("http_requests_in_flight", "Requests being answered.", None, MetricType::Gauge)?;
        for MountMetrics { series } in &mounts {
            family.encode_family(&[("mount", series.mount.as_str())])?.encode_gauge(&series.in_flight())?;
        }
        self.encode_connections(&mut out)
    }
}

impl Traffic {
    fn encode_connections(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        const LISTENERS: [&str; 3] = ["http", "https", "operations"];
        // One name is the other's with _total, which OpenMetrics forbids within one type: hence "accepted".
        let mut family =
            out.encode_descriptor("connections_accepted", "Connections accepted.", None, MetricType::Counter)?;
        for (listener, opened) in LISTENERS.iter().zip(&self.opened) {
            family
                .encode_family(&[("listener", *listener)])?
                .encode_counter::<NoLabelSet, _, u64>(&read(opened), None)?;
        }
        let mut family = out.encode_descriptor("connections", "Connections open now.", None, MetricType::Gauge)?;
        for (index, listener) in LISTENERS.iter().enumerate() {
            // Closed first: a connection that ends in between is then counted as open, never as minus one.
            let closed = read(&self.closed[index]);
            let open = read(&self.opened[index]).saturating_sub(closed);
            family.encode_family(&[("listener", *listener)])?.encode_gauge(&open)?;
        }
        let mut family = out.encode_descriptor("tls_handshakes", "TLS handshakes.", None, MetricType::Counter)?;
        for (result, count) in ["full", "resumed", "failed"].iter().zip(&self.handshakes) {
            family.encode_family(&[("result", *result)])?.encode_counter::<NoLabelSet, _, u64>(&read(count), None)?;
        }
        let losses = lock(&self.access);
        let dropped = losses.before + losses.log.as_ref().map_or(0, AccessLog::dropped);
        drop(losses);
        out.encode_descriptor("access_log_dropped", "Access lines that were dropped.", None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&dropped, None)?;
        out.encode_descriptor("build", "The version that runs.", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Traffic")
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "counts are whole numbers, which floats hold exactly")]
    use super::*;
    use prometheus_client::metrics::gauge::Gauge;
    use std::collections::{HashMap, HashSet};

    /// Reads a page strictly: every sample belongs to a described family, no sample comes twice, it ends with EOF.
    fn parse(page: &str) -> HashMap<String, f64> {
        let body = page.strip_suffix("# EOF\n").expect("ends with EOF");
        let mut families = HashSet::new();
        let mut samples = HashMap::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(families.insert(name.to_owned()), "{name} is described twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let bare = name.split('{').next().unwrap();
                let known = ["", "_total", "_bucket", "_sum", "_count", "_info"]
                    .iter()
                    .any(|suffix| bare.strip_suffix(suffix).is_some_and(|bare| families.contains(bare)));
                assert!(known, "{name} has no family");
                assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} comes twice");
            }
        }
        samples
    }

    #[test]
    fn requests_are_counted_by_mount_and_status() {
        let metrics = Metrics::new();
        let docs = metrics.mount("/docs");
        for status in [200, 200, 404, 999] {
            docs.started();
            docs.ended(status, Duration::from_millis(1), 10);
        }
        metrics.mount("/docs").started();
        let page = parse(&metrics.render());
        assert_eq!(page["beacon_http_requests_total{mount=\"/docs\",status=\"200\"}"], 2.0);
        assert_eq!(page["beacon_http_requests_total{mount=\"/docs\",status=\"404\"}"], 1.0);
        assert_eq!(page["beacon_http_requests_total{mount=\"/docs\",status=\"500\"}"], 1.0);
        assert_eq!(page["beacon_http_response_bytes_total{mount=\"/docs\"}"], 40.0);
        assert_eq!(page["beacon_http_requests_in_flight{mount=\"/docs\"}"], 1.0);
    }

    #[test]
    fn durations_fall_into_the_right_buckets() {
        let metrics = Metrics::new();
        let mount = metrics.mount("/");
        // On a bound, just above it, and beyond all.
        for micros in [500, 501, 1_000, 250_000, 120_000_000] {
            mount.started();
            mount.ended(200, Duration::from_micros(micros), 0);
        }
        let page = parse(&metrics.render());
        let bucket =
            |le: &str| page[&format!("beacon_http_request_duration_seconds_bucket{{le=\"{le}\",mount=\"/\"}}")];
        assert_eq!(bucket("0.0005"), 1.0);
        assert_eq!(bucket("0.001"), 3.0);
        assert_eq!(bucket("0.1"), 3.0);
        assert_eq!(bucket("0.25"), 4.0);
        assert_eq!(bucket("60.0"), 4.0);
        assert_eq!(bucket("+Inf"), 5.0);
        assert_eq!(page["beacon_http_request_duration_seconds_count{mount=\"/\"}"], 5.0);
        let sum = page["beacon_http_request_duration_seconds_sum{mount=\"/\"}"];
        assert!((sum - 120.252_001).abs() < 1e-6, "{sum}");
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn connections_and_handshakes_are_counted() {
        let metrics = Metrics::new();
        metrics.connection_opened(Listener::Https);
        metrics.connection_opened(Listener::Https);
        metrics.connection_opened(Listener::Operations);
        metrics.connection_closed(Listener::Https);
        metrics.connection_refused("limit");
        metrics.connection_refused("limit");
        metrics.handshake_done(false);
        metrics.handshake_done(true);
        metrics.handshake_failed();
        let page = parse(&metrics.render());
        assert_eq!(metrics.connections(), 2);
        assert_eq!(page["beacon_connections{listener=\"https\"}"], 1.0);
        assert_eq!(page["beacon_connections{listener=\"http\"}"], 0.0);
        assert_eq!(page["beacon_connections_accepted_total{listener=\"https\"}"], 2.0);
        assert_eq!(page["beacon_connections_refused_total{reason=\"limit\"}"], 2.0);
        for result in ["full", "resumed", "failed"] {
            assert_eq!(page[&format!("beacon_tls_handshakes_total{{result=\"{result}\"}}")], 1.0);
        }
        assert_eq!(page[&format!("beacon_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))], 1.0);
        assert_eq!(page["beacon_access_log_dropped_total"], 0.0);
    }

    #[test]
    fn other_modules_register_theirs_and_names_are_escaped() {
        let metrics = Metrics::new();
        let depth = Gauge::<i64>::default();
        metrics.register(|registry| registry.register("queue_depth", "Messages that wait", depth.clone()));
        depth.set(7);
        let _ = metrics.mount("a\"b\\c\nd");
        let page = parse(&metrics.render());
        assert_eq!(page["beacon_queue_depth"], 7.0);
        assert!(page.contains_key("beacon_http_response_bytes_total{mount=\"a\\\"b\\\\c\\nd\"}"), "{page:?}");
    }

    #[test]
    fn the_process_shows_itself() {
        let page = parse(&Metrics::new().render());
        assert!(page["process_resident_memory_bytes"] > 100_000.0);
        assert!(page["process_open_fds"] >= 3.0);
        assert!(page["process_max_fds"] >= page["process_open_fds"]);
        assert!(page["process_start_time_seconds"] > 1.7e9);
        assert!(page["process_cpu_seconds_total"] >= 0.0);
        assert!(page["process_threads"] >= 1.0);
    }
}
