//! What the schema cache counts for Prometheus.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::catalog::Catalog;
use crate::telemetry::Metrics;

/// Upper bounds in seconds: from a handful of tables to tens of thousands far away.
const BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The counters. Clones share them.
#[derive(Clone, Debug)]
pub struct Figures {
    reloads: Family<[(&'static str, &'static str); 1], Counter>,
    duration: Histogram,
    relations: Gauge,
    functions: Gauge,
}

impl Default for Figures {
    /// Counters that are on no page.
    fn default() -> Self {
        Self {
            reloads: Family::default(),
            duration: Histogram::new(BUCKETS),
            relations: Gauge::default(),
            functions: Gauge::default(),
        }
    }
}

impl Figures {
    /// Counters on the page of `metrics`: to be registered once, and given to every cache after that.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        let figures = Self::default();
        for result in ["ok", "failed"] {
            // Shown from the start, so that the first failure is a change.
            drop(figures.reloads.get_or_create(&[("result", result)]));
        }
        metrics.register(|registry| {
            let reloads = figures.reloads.clone();
            registry.register("schema_reloads", "Readings of the database's schema, by result", reloads);
            let duration = figures.duration.clone();
            registry.register("schema_reload_duration_seconds", "How long readings that succeeded took", duration);
            registry.register("schema_relations", "Tables and views of the schema in force", figures.relations.clone());
            registry.register("schema_functions", "Functions of the schema in force", figures.functions.clone());
        });
        figures
    }

    pub(super) fn read(&self, catalog: &Catalog, took: Duration) {
        self.reloads.get_or_create(&[("result", "ok")]).inc();
        self.duration.observe(took.as_secs_f64());
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.relations.set(count(catalog.relations.len()));
        self.functions.set(count(catalog.functions.values().map(Vec::len).sum()));
    }

    pub(super) fn failed(&self) {
        self.reloads.get_or_create(&[("result", "failed")]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_counted_by_result() {
        let metrics = Metrics::new();
        let figures = Figures::register(&metrics);
        let page = metrics.render();
        assert!(page.contains("beacon_schema_reloads_total{result=\"failed\"} 0\n"), "{page}");
        figures.failed();
        figures.clone().read(&Catalog::default(), Duration::from_millis(20));
        figures.relations.set(7);
        let page = metrics.render();
        for line in [
            "beacon_schema_reloads_total{result=\"failed\"} 1\n",
            "beacon_schema_reloads_total{result=\"ok\"} 1\n",
            "beacon_schema_reload_duration_seconds_bucket{le=\"0.01\"} 0\n",
            "beacon_schema_reload_duration_seconds_bucket{le=\"0.025\"} 1\n",
            "beacon_schema_relations 7\n",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
    }
}
