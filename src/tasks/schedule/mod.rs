//! Tasks at set times: of the configuration, of the database, and of a Celery application. Every time is sent at most once,
//! however many Beacons run.

mod config;
mod cron;
mod ledger;
mod plan;
mod scheduler;
mod status;
mod store;
mod timing;

pub use config::Entry;
pub use cron::{BadPattern, Pattern};
pub use plan::{Plan, Source, Unusable};
pub use scheduler::{Scheduler, Sources};
pub use status::{Error, Status};
pub use store::{Store, StoreError};
pub use timing::{Due, Timing};
