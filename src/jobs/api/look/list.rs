//! Tasks of one place or of all, page by page.

use super::queues::QUEUES;
use super::row::{Place, Row};
use super::{DEPTH, Look};
use crate::tasks::Error;

/// Messages that are read at once.
const PAGE: usize = 500;

/// Which tasks are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of this place; of all, those that run first, if it is `None`.
    pub place: Option<Place>,
    /// Of this queue.
    pub queue: Option<String>,
    /// With this name.
    pub task: Option<String>,
    /// So many at most.
    pub limit: usize,
    /// After so many.
    pub offset: usize,
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The tasks.
    pub rows: Vec<Row>,
    /// Whether there are, or may be, more behind it.
    pub more: bool,
}

/// Collects a page, and how much was looked through for it.
struct Page<'a> {
    wanted: &'a Wanted,
    skipped: usize,
    seen: usize,
    listing: Listing,
}

impl Page<'_> {
    /// Takes a row; false when nothing more is needed.
    fn take(&mut self, row: Row) -> bool {
        self.seen += 1;
        let Wanted { queue, task, limit, offset, .. } = self.wanted;
        let fits = queue.is_none() || *queue == row.queue;
        if fits && (task.is_none() || *task == row.task) {
            if self.skipped < *offset {
                self.skipped += 1;
            } else if self.listing.rows.len() < *limit {
                self.listing.rows.push(row);
            } else {
                self.listing.more = true;
                return false;
            }
        }
        if self.seen >= DEPTH {
            self.listing.more = true;
        }
        self.seen < DEPTH
    }
}

impl Look {
    /// A page of tasks. Up to 10,000 are looked through for it.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn list(&self, wanted: &Wanted) -> Result<Listing, Error> {
        Box::pin(self.collect(wanted)).await
    }

    async fn collect(&self, wanted: &Wanted) -> Result<Listing, Error> {
        let mut page = Page { wanted, skipped: 0, seen: 0, listing: Listing::default() };
        let all = [Place::Running, Place::Waiting, Place::Scheduled, Place::Dead, Place::Finished];
        for place in all.into_iter().filter(|place| wanted.place.is_none_or(|wanted| wanted == *place)) {
            let more = match place {
                Place::Running => self.running(&mut page).await?,
                Place::Waiting => Box::pin(self.waiting(&mut page)).await?,
                Place::Scheduled => {
                    let parked = self.broker().parked(DEPTH).await?;
                    parked.iter().filter_map(Row::parked).all(|row| page.take(row))
                }
                Place::Dead => self.dead(&mut page).await?,
                Place::Finished => self.finished(&mut page).await?,
            };
            if !more {
                break;
            }
        }
        Ok(page.listing)
    }

    async fn running(&self, page: &mut Page<'_>) -> Result<bool, Error> {
        let taken = self.broker().taken(DEPTH).await?;
        if taken.is_empty() {
            return Ok(true);
        }
        let active = self.active().await?;
        let mut rows: Vec<Row> =
            taken.iter().map(|taken| Row::taken(taken, active.get(&taken.envelope.headers.id))).collect();
        // What runs goes before what waits within a worker, and what has run longest before the rest.
        rows.sort_by(|one, other| {
            (one.waits_within(), &one.started_at).cmp(&(other.waits_within(), &other.started_at))
        });
        Ok(rows.into_iter().all(|row| page.take(row)))
    }

    async fn waiting(&self, page: &mut Page<'_>) -> Result<bool, Error> {
        let queues = match &page.wanted.queue {
            Some(queue) => vec![queue.clone()],
            None => Box::pin(self.queue_names(QUEUES)).await?,
        };
        for queue in queues {
            let mut from = 0;
            loop {
                let envelopes = self.broker().peek(&queue, from, PAGE).await?;
                let got = envelopes.len();
                for envelope in &envelopes {
                    if !page.take(Row::of(envelope, &queue, Place::Waiting)) {
                        return Ok(false);
                    }
                }
                from += PAGE;
                if got == 0 {
                    break;
                }
            }
        }
        Ok(true)
    }

    async fn dead(&self, page: &mut Page<'_>) -> Result<bool, Error> {
        let mut from = 0;
        loop {
            let letters = self.broker().dead(from, PAGE).await?;
            if letters.is_empty() {
                return Ok(true);
            }
            if !letters.iter().map(Row::dead).all(|row| page.take(row)) {
                return Ok(false);
            }
            from += PAGE;
        }
    }

    async fn finished(&self, page: &mut Page<'_>) -> Result<bool, Error> {
        let mut from = 0;
        loop {
            let told = self.broker().recent(from, PAGE).await?;
            if told.is_empty() {
                return Ok(true);
            }
            if !told.iter().filter_map(Row::ended).all(|row| page.take(row)) {
                return Ok(false);
            }
            from += PAGE;
        }
    }
}

impl Row {
    /// Whether its worker has not begun it, which sorts it behind those that run.
    fn waits_within(&self) -> bool {
        self.started_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_skips_takes_and_says_whether_there_is_more() {
        let wanted = Wanted { task: Some("t".into()), limit: 2, offset: 1, ..Wanted::default() };
        let mut page = Page { wanted: &wanted, skipped: 0, seen: 0, listing: Listing::default() };
        let row = |id: &str, task: &str| Row { id: id.into(), task: Some(task.into()), ..Row::default() };
        assert!(page.take(row("1", "t")) && page.take(row("2", "other")) && page.take(row("3", "t")));
        assert!(page.take(row("4", "t")) && !page.listing.more);
        assert!(!page.take(row("5", "t")) && page.listing.more);
        assert_eq!(page.listing.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["3", "4"]);
    }

    #[test]
    fn what_is_looked_through_is_bounded() {
        let wanted = Wanted { task: Some("none".into()), limit: 1, ..Wanted::default() };
        let mut page = Page { wanted: &wanted, skipped: 0, seen: 0, listing: Listing::default() };
        let taken = (0..2 * DEPTH).take_while(|_| page.take(Row::default())).count();
        assert_eq!((taken, page.listing.more, page.listing.rows.len()), (DEPTH - 1, true, 0));
    }
}
