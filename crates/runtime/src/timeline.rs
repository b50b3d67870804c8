//! What happened in a run, in all its scopes, in the order of time. The journals are the timeline; nothing else is kept.

use std::collections::BinaryHeap;

use engine::Encoded;
use engine::Record;
use engine::ReplayError;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::Runtime;
use crate::error::Error;
use crate::ports::Page;
use crate::ports::StoreError;
use crate::ports::StoreErrorKind;
use crate::view::TimelineEntry;

/// Scopes listed at once.
const SCOPES: usize = 500;
/// Journals read side by side: a run of a thousand iterations has as many, each an answer of a store to wait for. Each of them
/// may be a page of large records in memory.
const JOURNALS: usize = 8;
/// Records read at once.
const RECORDS: usize = 200;
/// Journals up to this length are read from the start rather than searched.
const SHORT: u64 = 64;

/// A record's place in the order of the timeline.
type Place = (Timestamp, ScopePath, u64);

impl Runtime {
    /// Up to about `limit` events after `after` (the page before's [`next`](Page::next)): whole records, in the order of their
    /// time, then scope. `next` is there even at the end of the page of a live run, so that a follower can ask on.
    ///
    /// Clocks of several workers may differ, so a record that was stored later can have a time a little earlier than one that
    /// was already seen: whoever follows a live run asks again from a little before, and knows entries by scope and number.
    pub async fn timeline(
        &self,
        run: &RunId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<TimelineEntry>, Error> {
        let after = after.map(place).transpose()?;
        let limit = limit.clamp(1, 10_000);
        let nearest: Mutex<BinaryHeap<Found>> = Mutex::default();
        let mut last: Option<ScopePath> = None;
        let mut any = false;
        loop {
            let paths = self.core.ports.journal.scopes(run, last.as_ref(), SCOPES).await?;
            let Some(end) = paths.last() else { break };
            last = Some(end.clone());
            any = true;
            let reads = futures::stream::iter(paths).map(async |path| {
                let scope = ScopeKey::new(run.clone(), path);
                let some = self.records(&scope, after.as_ref(), limit, &nearest).await?;
                // A run without its root is one that is being forgotten.
                let forgotten = !some && after.is_none() && scope.path.is_root();
                if forgotten { Err(Error::RunNotFound { run: run.clone() }) } else { Ok(()) }
            });
            reads.buffer_unordered(JOURNALS).try_collect::<()>().await?;
        }
        if !any {
            return Err(Error::RunNotFound { run: run.clone() });
        }
        let mut items = Vec::new();
        let mut next = after;
        for found in nearest.into_inner().into_sorted_vec() {
            if items.len() >= limit {
                break;
            }
            let (at, scope, seq) = &found.place;
            let unreadable = |source| {
                let scope = ScopeKey::new(run.clone(), scope.clone());
                Error::from(ReplayError::Unreadable { scope, seq: *seq, source })
            };
            let record = Record::decode(&found.record.body).map_err(unreadable)?;
            for (index, event) in (0..).zip(&record.events) {
                let event = serde_json::to_value(event).unwrap_or_default();
                items.push(TimelineEntry { scope: scope.clone(), seq: *seq, index, at: *at, event });
            }
            next = Some(found.place);
        }
        Ok(Page { items, next: next.as_ref().map(cursor) })
    }

    /// Adds what this scope has after `after` to the nearest `limit` records. False if it has none.
    async fn records(
        &self,
        scope: &ScopeKey,
        after: Option<&Place>,
        limit: usize,
        nearest: &Mutex<BinaryHeap<Found>>,
    ) -> Result<bool, Error> {
        let journal = &self.core.ports.journal;
        let mut seq = 0;
        if let Some((at, ..)) = after {
            match self.before(scope, *at).await? {
                Some(before) => seq = before,
                None => return Ok(true),
            }
        }
        let mut some = false;
        loop {
            let page = journal.read(scope, seq, RECORDS.min(limit)).await?;
            if page.is_empty() {
                return Ok(some);
            }
            some = true;
            let mut nearest = nearest.lock();
            for record in page {
                seq = record.seq;
                let place = (record.at, scope.path.clone(), record.seq);
                if after.is_some_and(|after| place <= *after) {
                    continue;
                }
                let full = nearest.len() >= limit;
                if full && nearest.peek().is_some_and(|farthest| farthest.place < place) {
                    return Ok(some);
                }
                nearest.push(Found { place, record });
                if full {
                    nearest.pop();
                }
            }
        }
    }

    /// The number of a record of this scope before which all are older than `at`: found by halving, since times never go back.
    /// `None` where all of them are older.
    async fn before(&self, scope: &ScopeKey, at: Timestamp) -> Result<Option<u64>, Error> {
        let journal = &self.core.ports.journal;
        let Some(head) = journal.head(scope).await?.filter(|head| head.at >= at) else { return Ok(None) };
        let (mut low, mut high) = (0, head.seq);
        while high - low > SHORT {
            let middle = low + (high - low) / 2;
            match journal.read(scope, middle, 1).await?.first() {
                Some(record) if record.at < at => low = middle,
                _ => high = middle,
            }
        }
        Ok(Some(low))
    }
}

struct Found {
    place: Place,
    record: Encoded,
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

fn cursor((at, scope, seq): &Place) -> String {
    format!("{}.{seq}.{scope}", at.as_nanosecond())
}

fn place(cursor: &str) -> Result<Place, Error> {
    parse(cursor).ok_or_else(|| {
        Error::Store(StoreError {
            kind: StoreErrorKind::Permanent,
            code: "CURSOR_INVALID",
            message: "this is no cursor of a timeline: begin without one".to_owned(),
        })
    })
}

fn parse(cursor: &str) -> Option<Place> {
    let mut parts = cursor.splitn(3, '.');
    let at = Timestamp::from_nanosecond(parts.next()?.parse().ok()?).ok()?;
    let seq = parts.next()?.parse().ok()?;
    Some((at, ScopePath::from_stored(parts.next()?), seq))
}
