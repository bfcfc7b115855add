//! What `beacon tasks top` shows, as lines that fit a screen.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::queues::state;
use super::span;
use crate::cli::table::table;
use crate::jobs::api::{QueueRow, Row, WorkerRow, instant};

/// How far back rates and slow tasks are looked for, in seconds.
const WINDOW: f64 = 60.0;

/// How everything stands at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Snapshot {
    /// Seconds since 1970.
    pub(super) at: f64,
    /// Which Redis.
    pub(super) redis: String,
    pub(super) queues: Vec<QueueRow>,
    pub(super) workers: Vec<WorkerRow>,
    pub(super) running: Vec<Row>,
    pub(super) scheduled: usize,
    pub(super) dead: usize,
    pub(super) tasks: Tasks,
}

/// Tasks that have ended in the last minute.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tasks {
    /// How many ended a second.
    pub(super) rate: f64,
    /// How many of them failed.
    pub(super) failed: usize,
    /// By name, the slowest first.
    pub(super) slowest: Vec<Kind>,
}

/// Tasks of one name.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kind {
    pub(super) task: String,
    pub(super) runs: usize,
    pub(super) failed: usize,
    /// Seconds.
    pub(super) mean: f64,
    /// Seconds.
    pub(super) longest: f64,
}

impl Tasks {
    /// From what workers told of tasks that ended, the latest first. When there are more than could be read, the rate is
    /// that of the time that they cover.
    pub(super) fn of(told: &[Value], now: f64) -> Self {
        let at = |one: &Value| one.get("at").and_then(Value::as_f64).unwrap_or_default();
        let recent: Vec<&Value> = told.iter().filter(|one| now - at(one) <= WINDOW).collect();
        let all = recent.len() == told.len();
        let covered = match recent.last() {
            Some(oldest) if all => (now - at(oldest)).clamp(1.0, WINDOW),
            _ => WINDOW,
        };
        let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
        for one in &recent {
            let task = one.get("task").and_then(Value::as_str).unwrap_or("-");
            let kind = kinds.entry(task).or_insert_with(|| Kind {
                task: task.to_owned(),
                runs: 0,
                failed: 0,
                mean: 0.0,
                longest: 0.0,
            });
            let runtime = one.get("runtime").and_then(Value::as_f64).unwrap_or_default();
            kind.runs += 1;
            kind.failed += usize::from(one.get("state").and_then(Value::as_str) == Some("FAILURE"));
            kind.mean += (runtime - kind.mean) / kind.runs as f64;
            kind.longest = kind.longest.max(runtime);
        }
        let failed = kinds.values().map(|kind| kind.failed).sum();
        let mut slowest: Vec<Kind> = kinds.into_values().collect();
        slowest.sort_by(|one, other| other.longest.total_cmp(&one.longest));
        Self { rate: recent.len() as f64 / covered, failed, slowest }
    }
}

/// The lines of a screen of this size; the last row is left free for who shows it.
pub(super) fn picture(snapshot: &Snapshot, width: usize, height: usize) -> Vec<String> {
    let waiting: usize = snapshot.queues.iter().map(|queue| queue.waiting).sum();
    let clock = crate::jobs::api::moment(snapshot.at);
    let mut lines = vec![
        format!("beacon tasks  {}  {} UTC", snapshot.redis, clock.get(11..19).unwrap_or_default()),
        format!(
            "waiting {waiting}   scheduled {}   running {}   dead {}   ended {:.1}/s   failed {} in a minute",
            snapshot.scheduled,
            snapshot.running.len(),
            snapshot.dead,
            snapshot.tasks.rate,
            snapshot.tasks.failed
        ),
    ];
    let sections = [queues(snapshot), workers(snapshot), running(snapshot), slowest(snapshot)];
    // Each gets its share; what one does not need is for the others.
    let mut left = height.saturating_sub(lines.len() + sections.len());
    for (at, section) in sections.iter().enumerate() {
        let share = left / (sections.len() - at);
        let needed = section.len();
        let after: usize = sections[at + 1..].iter().map(Vec::len).sum();
        let most = share.max(left.saturating_sub(after)).min(needed);
        lines.push(String::new());
        if most < needed && most > 0 {
            lines.extend(section[..most - 1].iter().cloned());
            lines.push(format!("… {} more", needed - (most - 1)));
        } else {
            lines.extend(section[..most].iter().cloned());
        }
        left -= most;
    }
    lines.truncate(height);
    for line in &mut lines {
        if let Some((at, _)) = line.char_indices().nth(width) {
            line.truncate(at);
        }
    }
    lines
}

fn rows<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    table(titles, rows).lines().map(str::to_owned).collect()
}

fn queues(snapshot: &Snapshot) -> Vec<String> {
    let all: Vec<_> = snapshot
        .queues
        .iter()
        .map(|queue| {
            let oldest = queue.oldest_seconds.map_or_else(|| "-".into(), span);
            let state = if queue.paused { "paused" } else { "open" };
            let next = queue.next_task.clone().unwrap_or_else(|| "-".into());
            [queue.name.clone(), queue.waiting.to_string(), oldest, queue.consumers.to_string(), state.into(), next]
        })
        .collect();
    rows(["queue", "waiting", "oldest", "workers", "state", "next"], &all)
}

fn workers(snapshot: &Snapshot) -> Vec<String> {
    let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let all: Vec<_> = snapshot
        .workers
        .iter()
        .map(|worker| {
            let busy = format!("{} of {}", number(worker.active), number(worker.places));
            let since = worker.started_at.as_deref().and_then(instant);
            let since = since.map_or_else(|| "-".into(), |since| span(snapshot.at - since));
            let state = state(worker.alive, worker.stopping).to_owned();
            [worker.name.clone(), state, busy, number(worker.ended), since, worker.queues.join(" ")]
        })
        .collect();
    rows(["worker", "state", "busy", "ended", "for", "queues"], &all)
}

fn running(snapshot: &Snapshot) -> Vec<String> {
    let all: Vec<_> = snapshot
        .running
        .iter()
        .map(|row| {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            let since = row.started_at.as_deref().and_then(instant);
            let since = since.map_or_else(|| "-".into(), |since| span(snapshot.at - since));
            [text(&row.task), since, text(&row.queue), text(&row.worker), row.id.clone()]
        })
        .collect();
    rows(["running", "for", "queue", "worker", "id"], &all)
}

fn slowest(snapshot: &Snapshot) -> Vec<String> {
    let all: Vec<_> = snapshot
        .tasks
        .slowest
        .iter()
        .map(|kind| {
            [kind.task.clone(), kind.runs.to_string(), kind.failed.to_string(), span(kind.mean), span(kind.longest)]
        })
        .collect();
    rows(["slowest in a minute", "runs", "failed", "mean", "longest"], &all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(task: &str, at: f64, runtime: f64, state: &str) -> Value {
        json!({"id": "i", "task": task, "at": at, "runtime": runtime, "state": state})
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let all = [
            told("b", 99.0, 0.5, "SUCCESS"),
            told("a", 95.0, 3.0, "FAILURE"),
            told("b", 90.0, 1.5, "SUCCESS"),
            told("b", 10.0, 9.0, "SUCCESS"),
        ];
        let tasks = Tasks::of(&all, 100.0);
        assert_eq!((tasks.rate, tasks.failed), (3.0 / 60.0, 1));
        let shown: Vec<_> =
            tasks.slowest.iter().map(|kind| (kind.task.as_str(), kind.runs, kind.mean, kind.longest)).collect();
        assert_eq!(shown, [("a", 1, 3.0, 3.0), ("b", 2, 1.0, 1.5)]);
        // What was read covers ten seconds alone.
        assert!((Tasks::of(&all[..3], 100.0).rate - 0.3).abs() < 1e-9);
        assert!(Tasks::of(&[], 100.0).rate.abs() < f64::EPSILON);
    }

    #[test]
    fn a_picture_fits_its_screen_whatever_there_is() {
        let row =
            |number: usize| Row { id: format!("id-{number}"), task: Some("\x1b[2Jtask".into()), ..Row::default() };
        let snapshot = Snapshot { redis: "r".repeat(300), running: (0..500).map(row).collect(), ..Snapshot::default() };
        for (width, height) in [(80, 24), (20, 8), (200, 60), (1, 1), (0, 0)] {
            let lines = picture(&snapshot, width, height);
            assert!(lines.len() <= height, "{} lines in {height}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= width && !line.contains('\x1b')), "{lines:?}");
        }
        let lines = picture(&snapshot, 80, 24);
        assert!(lines.iter().any(|line| line.starts_with("… ")) && lines.iter().any(|line| line.starts_with("QUEUE")));
    }
}
