//! Tasks at set times: of the configuration, of the database, and of a Celery application. Every time is sent at most once,
//! however many Beacons run.

mod config;
mod cron;
mod plan;
mod store;
mod timing;

pub use config::Entry;
pub use cron::{BadPattern, Pattern};
pub use plan::{Exported, Plan, Source, Unusable, When};
pub use store::{Store, StoreError};
pub use timing::{Due, Timing};
