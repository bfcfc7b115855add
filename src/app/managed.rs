//! The private servers within the whole: whether they are wanted, how they show in health checks, and the process that
//! does nothing but keep them (`beacon managed`).

use std::time::Duration;

use super::{Error, state};
use crate::config::{Config, Loaded};
use crate::lifecycle::{Signal, Signals};
use crate::managed::{Managed, Mode, Wanted, Watch};
use crate::process::Condition;
use crate::systemd;
use crate::telemetry::{self, Component, Health, State};

/// How long the unit waits for its servers before it says that it has started: what comes after it at boot (the edge)
/// then finds them ready as a rule, and does not wait for a first start or a long recovery.
const AT_BOOT: Duration = Duration::from_secs(5);

/// Which private servers a configuration asks for.
#[must_use]
pub fn wanted(config: &Config) -> Wanted {
    Wanted {
        postgres: config.database.url.is_empty() && config.managed.postgres != Mode::Off,
        redis: config.redis.url.is_empty() && config.managed.redis != Mode::Off,
    }
}

/// Shows the servers in health checks, as long as the process lives.
pub(super) fn show(managed: &Managed, config: &Config, health: &Health) {
    for (name, watch, mode) in [
        ("managed.postgres", managed.postgres(), config.managed.postgres),
        ("managed.redis", managed.redis(), config.managed.redis),
    ] {
        if let Some(watch) = watch {
            tokio::spawn(mirror(watch, health.component(name), mode));
        }
    }
}

async fn mirror(mut watch: Watch, component: Component, mode: Mode) {
    let mut now = watch.now();
    loop {
        // Who has not asked for a private server does not lose the rest for the lack of one.
        let bad = if mode == Mode::On { State::Failed } else { State::Degraded };
        match &now {
            Condition::Starting => component.mirror(State::Starting, "it is being started"),
            Condition::Ready => component.mirror(State::Ok, ""),
            Condition::Down(reason) => component.mirror(bad, &**reason),
        }
        now = watch.changed().await;
    }
}

/// Keeps the private servers, and does nothing else, until it is asked to stop.
///
/// # Errors
/// The state folder cannot be used, or the process cannot be set up.
pub fn keep_servers(loaded: &Loaded) -> Result<(), Error> {
    let config = &loaded.config;
    telemetry::init(&config.log).map_err(Error::Log)?;
    let wanted = wanted(config);
    if wanted == Wanted::default() {
        tracing::info!(
            "no private servers are asked for: other ones are named (database.url, redis.url), or they are off"
        );
        systemd::notify_ready("Nothing to keep");
        return Ok(());
    }
    let path = state::find(&config.server.state_dir, |name| std::env::var_os(name))?;
    state::prepare(&path)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().worker_threads(1).thread_name("beacon").build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(Error::Runtime)?;
        let managed = Managed::start(&config.managed, &path, wanted);
        let watches: Vec<(&str, Watch)> = [("PostgreSQL", managed.postgres()), ("Redis", managed.redis())]
            .into_iter()
            .filter_map(|(name, watch)| Some((name, watch?)))
            .collect();
        let all = async {
            for (_, watch) in &watches {
                watch.clone().settled().await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(AT_BOOT, all) => {}
            () = stopped(&mut signals) => {
                managed.stop().await;
                return Ok(());
            }
        }
        systemd::notify_ready(&status(&watches));
        let telling = tokio::spawn(tell(watches));
        stopped(&mut signals).await;
        telling.abort();
        systemd::notify_stopping();
        managed.stop().await;
        Ok(())
    })
}

async fn stopped(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {
        tracing::info!("the private servers take over a new configuration when they are restarted");
    }
}

fn status(watches: &[(&str, Watch)]) -> String {
    let one = |(name, watch): &(&str, Watch)| match watch.trouble() {
        None => format!("{name} is ready"),
        Some(trouble) => format!("{name}: {trouble}"),
    };
    watches.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Keeps systemd's status line true.
async fn tell(watches: Vec<(&'static str, Watch)>) {
    let mut said = String::new();
    loop {
        let now = status(&watches);
        if now != said {
            systemd::status(&now);
            said = now;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
