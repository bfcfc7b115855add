//! The way to tasks for commands: the broker, the results, and a client that sends.

use std::time::Duration;

use super::{Error, managed, state};
use crate::config::Config;
use crate::managed::running;
use crate::redis;
use crate::secret::Secret;
use crate::tasks::broker::Broker;
use crate::tasks::results::Results;
use crate::tasks::{self, Client};

/// How long Redis may take to be there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// What commands about tasks work with. Connections last as long as the runtime.
#[derive(Clone)]
pub struct Tools {
    /// Queues, and what lies beside them.
    pub broker: Broker,
    /// What tasks ended with.
    pub results: Results,
    /// Sends.
    pub client: Client,
}

/// Where the broker and the results are: the configured ones, else the private Redis.
///
/// # Errors
/// Nothing is configured, and the private one does not run.
pub fn places(config: &Config) -> Result<(Secret, Secret), Error> {
    let given = |url: &Secret| Some(url.clone()).filter(|url| !url.is_empty());
    let own = || -> Result<Secret, Error> {
        if !managed::wanted(config).redis {
            return Err(Error::NoRedis);
        }
        let state = state::find(&config.server.state_dir, |name| std::env::var_os(name))?;
        running(&state).and_then(|record| record.redis_url()).ok_or(Error::NoPrivateRedis)
    };
    let broker = match given(&config.tasks.broker_url).or_else(|| given(&config.redis.url)) {
        Some(url) => url,
        None => own()?,
    };
    let results = given(&config.tasks.result_url).unwrap_or_else(|| broker.clone());
    Ok((broker, results))
}

/// Connects to the broker and the results that the configuration leads to.
///
/// # Errors
/// As [`places`]; a URL that cannot be used; Redis does not answer within five seconds.
pub async fn connect(config: &Config) -> Result<Tools, Error> {
    let (broker_url, results_url) = places(config)?;
    let tasks = &config.tasks;
    let broker = Broker::new(&broker_url, &tasks.transport).map_err(Error::Tasks)?;
    let results = Results::new(&results_url, &tasks.transport, tasks.result_expires).map_err(Error::Tasks)?;
    tokio::spawn(broker.clone().keep());
    tokio::spawn(results.clone().keep());
    let there = async {
        while !broker.is_connected() || !results.is_connected() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(PATIENCE, there).await.is_err() {
        let absent = if broker.is_connected() { results.client() } else { broker.client() };
        return Err(Error::Tasks(tasks::Error::Redis(redis::Error::Away(absent.place().to_owned()))));
    }
    let client = Client::new(broker.clone(), results.clone(), super::tasks::defaults(tasks));
    Ok(Tools { broker, results, client })
}
