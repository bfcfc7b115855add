//! Tasks at set times: of the configuration, of the database, and of a Celery application. Every time is sent at most once,
//! however many Beacons run.

mod config;

pub use config::Entry;
