//! `beacon tasks top`

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::picture::{Snapshot, Tasks, picture};
use super::screen::Screen;
use super::{Context, print_json};
use crate::cli::{Failure, output};
use crate::jobs::api::{Place, Wanted};
use crate::tasks::{self, wire};

/// Shows queues, workers, what runs and what is slow, on one screen that is drawn again each second
///
/// q ends it. Without a terminal it prints one picture.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks top
  beacon tasks top --once
  beacon tasks top --once --json | jq '.tasks.rate'")]
pub(super) struct Top {
    /// Prints one picture
    #[arg(long)]
    once: bool,
    /// Prints JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// How often it is drawn, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
}

/// Tasks that run, and tasks that have ended, that are looked at.
const RUNNING: usize = 500;
const ENDED: usize = 2_000;
/// The height of a picture that nobody scrolls.
const TALL: usize = 200;
const CTRL_C: u8 = 3;

impl Top {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            let snapshot = Box::pin(snapshot(context)).await?;
            if self.json {
                return print_json(&snapshot);
            }
            let lines = picture(&snapshot, usize::MAX, TALL);
            return Ok(output::print(&format!("{}\n", lines.join("\n")))?);
        }
        let (mut terminate, mut resized) = (signal(SignalKind::terminate())?, signal(SignalKind::window_change())?);
        let mut screen = Screen::take()?;
        let mut tick = interval(Duration::from_secs(self.every.into()));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Snapshot::default();
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                key = screen.key() => if matches!(key, b'q' | b'Q' | CTRL_C) { return Ok(()) },
                _ = resized.recv() => draw(&last, None)?,
                // Keys count while Redis is asked.
                new = async { tick.tick().await; Box::pin(snapshot(context)).await } => match new {
                    Ok(new) => {
                        draw(&new, None)?;
                        last = new;
                    }
                    Err(error) => draw(&last, Some(&error))?,
                },
            }
        }
    }
}

fn draw(snapshot: &Snapshot, error: Option<&tasks::Error>) -> io::Result<()> {
    let (width, height) = Screen::size();
    let mut lines = picture(snapshot, width, height.saturating_sub(1));
    let last = error.map_or_else(|| "q quits".to_owned(), |error| format!("{error}; what is shown is old"));
    let last: String = last.chars().map(|ch| if ch.is_control() { '\u{fffd}' } else { ch }).take(width).collect();
    lines.resize(height.saturating_sub(1), String::new());
    lines.push(last);
    Screen::show(&lines)
}

async fn snapshot(context: &Context) -> Result<Snapshot, tasks::Error> {
    let (look, broker) = (&context.look, &context.tools.broker);
    let running = Wanted { place: Some(Place::Running), limit: RUNNING, ..Wanted::default() };
    let (queues, workers, running, scheduled, dead, ended) = tokio::try_join!(
        look.queues(),
        look.workers(),
        look.list(&running),
        broker.parked_count(),
        broker.dead_count(),
        broker.recent(0, ENDED),
    )?;
    let at = wire::now();
    let redis = broker.client().place().to_owned();
    Ok(Snapshot { at, redis, queues, workers, running: running.rows, scheduled, dead, tasks: Tasks::of(&ended, at) })
}
