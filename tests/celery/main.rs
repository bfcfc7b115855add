//! Celery's clients, tools and workers beside `beacon worker`, over a Redis of their own.
//!
//! The clients are the packages of the index, unmodified, and the application in python/proj knows nothing of Beacon. The
//! same tests run with `celery worker` in Beacon's place when CELERY_TEST_WORKER=stock: that is how they were shown to ask
//! for what Celery does. Cases that a stock worker is known to fail are left out then.
//!
//! suite/run runs Celery's own integration tests, which takes too long for here.

#![cfg(test)]

mod clients;
mod django;
mod flags;
mod journey;
mod loss;
mod mixed;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/python.rs"]
mod python;
mod rig;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the harness has more than these tests need")]
mod support;
