//! The sweeper: looks at what is due, so that whatever was lost in between is found; and, at the start of an embedded home,
//! at every run that is not over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;

use crate::Runtime;
use crate::commit::Claimant;
use crate::desk::Told;
use crate::drive::tell;
use crate::error::Error;
use crate::handlers::RESERVE;
use crate::heads::Head;
use crate::ports::DueMove;
use crate::ports::DueRow;
use crate::ports::Hint;
use crate::ports::PageRequest;
use crate::ports::Queue;
use crate::ports::Ring;
use crate::ports::RunFilter;
use crate::ports::RunStatus;
use crate::runtime::later;
use crate::runtime::until;

/// How far ahead a sweep looks: what becomes due until the next one rings in time.
const AHEAD: Duration = Duration::from_mins(2);
/// Entries read at once.
const PAGE: usize = 500;
/// When a scope that was rung is looked at again, doubling…
const AGAIN: Duration = Duration::from_mins(5);
/// …up to this.
const AGAIN_AT_MOST: Duration = Duration::from_hours(1);
/// Records of an inbox whose waiters are rung again.
const SIGNALS: usize = 1000;

/// Runs forgotten in one sweep, at most; and parts of them, where a store does one at a time. The next sweep goes on.
const FORGOTTEN: (usize, usize) = (100, 400);
/// Of so many old runs none could be forgotten: then that is it for this sweep.
const KEPT_AT_MOST: usize = 6400;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub looked_at: usize,
    /// Doorbells rung.
    pub rung: usize,
    /// Entries removed: there is nothing left to look at.
    pub removed: usize,
    /// Whether the time was over before the entries were: the next sweep begins where this one ended.
    pub cut: bool,
    /// Runs forgotten: their time is over.
    pub forgotten: usize,
}

/// What a head says of its entry: the verdict, unless that depends on others; the signal it waits for, and how many of those it
/// has had; its deadline; what its parent must know.
type Found = (Option<Verdict>, Option<(Arc<str>, u64)>, Option<Timestamp>, Option<Told>);

/// What becomes of an entry.
enum Verdict {
    /// Nothing is left to do.
    Remove,
    /// Not yet.
    Move(Timestamp),
    /// Somebody must look, after so long, and again no later than `due`; `vain` when nothing came of ringing before.
    Ring { queue: Queue, after: Duration, vain: bool, due: Option<Timestamp> },
    /// Whoever waits for the inbox's signals must look.
    Inbox,
    /// Nothing came of it this time: later again, but no later than that.
    Again(Option<Timestamp>),
}

/// Looks at everything that is due, or will be within two minutes; then forgets what has been over for long enough. `remaining`
/// is the time that is left of the invocation: when most of it is over, nothing more is begun with. `None` where nothing ends it.
pub async fn sweep(runtime: &Runtime, remaining: Option<Duration>) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let stop = remaining
        .map(|remaining| later(runtime.now(), (remaining / 2).max(remaining.saturating_sub(RESERVE * 3))));
    look_at_what_is_due(runtime, stop, &mut swept).await?;
    if let Some(retention) = runtime.core.options.retention {
        let before = runtime.now().checked_sub(retention).unwrap_or(Timestamp::MIN);
        swept.forgotten = runtime.forget_before(before, stop).await?;
    }
    Ok(swept)
}

async fn look_at_what_is_due(
    runtime: &Runtime,
    stop: Option<Timestamp>,
    swept: &mut Swept,
) -> Result<(), Error> {
    let horizon = later(runtime.now(), AHEAD);
    let mut after: Option<DueRow> = None;
    let mut failed = None;
    // Once the world cannot be told, it is left alone for this time.
    let mut told = true;
    let is_late = || stop.is_some_and(|stop| runtime.now() >= stop);
    loop {
        swept.cut |= after.is_some() && is_late();
        if swept.cut {
            return failed.map_or(Ok(()), Err);
        }
        let rows = runtime.core.ports.catalog.due(horizon, after.as_ref(), PAGE).await?;
        let Some(last) = rows.last() else { return failed.map_or(Ok(()), Err) };
        after = Some(last.clone());
        let mut rings = Vec::new();
        let mut moves = Vec::new();
        for row in rows {
            if !moves.is_empty() && is_late() {
                swept.cut = true;
                break;
            }
            swept.looked_at += 1;
            let verdict = match runtime.judge(&row, &mut told).await {
                Ok(verdict) => verdict,
                Err(error) if error.needs_repair() => {
                    tracing::error!(scope = %row.scope, %error, "a scope cannot be loaded; its run is stuck");
                    runtime.mark(&row.scope.run, Some(error.code())).await;
                    Verdict::Again(None)
                }
                // Its entry stays, and the others must not wait for it.
                Err(error) => {
                    tracing::warn!(scope = %row.scope, %error, "a due scope could not be looked at");
                    failed.get_or_insert(error);
                    continue;
                }
            };
            if let Err(error) = runtime.carry_out(row, verdict, &mut rings, &mut moves, swept).await {
                failed.get_or_insert(error);
            }
        }
        // Rung before it is moved: whoever crashes in between leaves the entry where it was.
        swept.rung += rings.len();
        if !rings.is_empty() {
            runtime.core.ports.doorbell.ring(rings).await?;
        }
        if !moves.is_empty() {
            runtime.core.ports.catalog.move_due(moves).await?;
        }
    }
}

/// Rings for every run that is not over: after a restart of a home whose doorbells live in memory. Answers how many.
pub async fn recover(runtime: &Runtime) -> Result<usize, Error> {
    let live = RunStatus::ALL.into_iter().filter(|status| !status.is_terminal());
    let filter = RunFilter { workflow: None, statuses: live.collect() };
    let mut page = PageRequest { limit: PAGE, cursor: None };
    let mut count = 0;
    loop {
        let found = runtime.core.ports.catalog.runs(&filter, &page).await?;
        count += found.items.len();
        for summary in found.items.iter().filter(|summary| summary.stuck.is_some()) {
            // The first visit that goes well says that it no longer is.
            runtime.core.trouble.stuck(&summary.run);
        }
        let ring = |run| Ring {
            queue: Queue::Steps,
            scope: ScopeKey::root(run),
            after: Duration::ZERO,
            hint: Hint::Missed,
        };
        runtime
            .core
            .ports
            .doorbell
            .ring(found.items.into_iter().map(|summary| ring(summary.run)).collect())
            .await?;
        match found.next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(count),
        }
    }
}

impl Runtime {
    /// Forgets runs that ended before then, until `stop`. Answers how many.
    async fn forget_before(&self, before: Timestamp, stop: Option<Timestamp>) -> Result<usize, Error> {
        let catalog = &self.core.ports.catalog;
        let (runs, mut parts) = FORGOTTEN;
        let is_late = || stop.is_some_and(|stop| self.now() >= stop);
        let mut forgotten = 0;
        if is_late() {
            return Ok(0);
        }
        let mut failed = None;
        let mut seen = 0;
        // Those that are kept for the sake of others are not to hide all that ended after them.
        let mut limit = runs;
        loop {
            let old = catalog.ended_before(before, limit).await?;
            let (found, full) = (old.len(), old.len() == limit);
            for run in old.into_iter().skip(seen) {
                if is_late() {
                    return failed.map_or(Ok(forgotten), Err);
                }
                match self.forget(&run, &mut parts).await {
                    Ok(true) => forgotten += 1,
                    Ok(false) if parts == 0 => return failed.map_or(Ok(forgotten), Err),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(%run, %error, "an old run could not be forgotten; it is kept");
                        failed.get_or_insert(error);
                    }
                }
            }
            if forgotten > 0 || !full || limit >= KEPT_AT_MOST {
                return failed.map_or(Ok(forgotten), Err);
            }
            seen = found;
            limit *= 2;
        }
    }

    /// Forgets a run in as many parts as there may be; false if it is not, or not quite, forgotten.
    async fn forget(&self, run: &RunId, parts: &mut usize) -> Result<bool, Error> {
        if !self.may_forget(run).await? {
            return Ok(false);
        }
        while self.core.ports.catalog.forget(run).await? {
            *parts = parts.saturating_sub(1);
            if *parts == 0 {
                return Ok(false);
            }
        }
        self.core.nursery.forget(run);
        self.core.inboxes.forget(run);
        tracing::debug!(%run, "a run that was over is forgotten");
        Ok(true)
    }

    /// Whether nobody needs a run that is over: a parent that has yet to hear of it would start it anew, and so would one that is
    /// redriven. So parents are forgotten first.
    async fn may_forget(&self, run: &RunId) -> Result<bool, Error> {
        let parent = |head: &Head| Some(head.scope.run()?.parent.as_ref()?.run.clone());
        let parent = match self.look(&ScopeKey::root(run.clone()), parent).await {
            Ok(parent) => parent.flatten(),
            // It cannot be read, and is over all the same.
            Err(error) if error.is_lasting() => None,
            Err(error) => return Err(error),
        };
        match parent {
            Some(parent) => Ok(self.core.ports.catalog.run(&parent).await?.is_none()),
            None => Ok(true),
        }
    }

    async fn judge(&self, row: &DueRow, told: &mut bool) -> Result<Verdict, Error> {
        if row.scope.path == ScopePath::inbox() {
            return Ok(Verdict::Inbox);
        }
        let found = self
            .look(&row.scope, |head| {
                let awaited = head.scope.awaited_signal().filter(|_| !head.scope.is_paused());
                let awaited = awaited.map(|(name, received)| (name.clone(), received));
                let late = self.late_notice(head, row);
                let found: Found = (verdict(head, row, self.now()), awaited, head.scope.due(), tell(head));
                (found, late)
            })
            .await?;
        let (found, late) = found.unzip();
        let untold = match late.flatten() {
            Some(late) => {
                *told = *told && self.tell(vec![late]).await;
                !*told
            }
            None => false,
        };
        let verdict = self.judge_head(row, found).await?;
        // Whatever else the entry is for does not wait for that. Who is rung for believes nothing, and tells by himself.
        Ok(match verdict {
            Verdict::Remove if untold => Verdict::Again(None),
            Verdict::Move(to) if untold => Verdict::Again(Some(to)),
            verdict => verdict,
        })
    }

    async fn judge_head(&self, row: &DueRow, found: Option<Found>) -> Result<Verdict, Error> {
        let ring = |due| Verdict::Ring { queue: Queue::Resume, after: Duration::ZERO, vain: true, due };
        match found {
            None => Ok(Verdict::Remove),
            Some((None, ..)) => self.judge_claim(row).await,
            // It was sent, and whoever was to hear of it has not.
            Some((Some(_), Some((name, received)), due, _))
                if self.is_sent(&row.scope.run, &name, received).await? =>
            {
                Ok(ring(due))
            }
            // It has ended, and whoever wrote that did not live to tell its parent.
            Some((.., Some(told))) if self.is_news(&told).await? => Ok(ring(None)),
            Some((Some(verdict), ..)) => Ok(verdict),
        }
    }

    /// Whether a parent still waits for a child that has ended.
    async fn is_news(&self, told: &Told) -> Result<bool, Error> {
        let waits = self
            .look(&told.parent, |head| {
                if let Some(fork) = told.fork {
                    let view = head.scope.fork(&head.workflow);
                    return view.is_some_and(|view| view.seq() == fork && view.is_live(told.index));
                }
                let view = head.scope.subworkflow(&head.workflow);
                view.is_some_and(|view| !view.ended && *view.run == told.child.run)
            })
            .await?;
        Ok(waits.unwrap_or(false))
    }

    /// A step is being performed, or its worker has died.
    async fn judge_claim(&self, row: &DueRow) -> Result<Verdict, Error> {
        let found = self
            .look(&row.scope, |head| Some((Claimant::of(head)?, head.scope.due(), head.scope.is_paused())))
            .await?;
        let now = self.now();
        let Some((claimant, due, paused)) = found.flatten() else {
            return Ok(Verdict::Ring { queue: Queue::Steps, after: Duration::ZERO, vain: false, due: None });
        };
        let alive = self.worker_alive_until(&row.scope, &claimant, now).await?;
        // Its own worker writes when it is done. Not before this sweep is over: it would find the entry again and again.
        let alive =
            if claimant.is(&self.core.options.worker) { alive.map(|_| later(now, AGAIN)) } else { alive };
        Ok(match (alive, due) {
            // Nobody may take it over before it is resumed, and that makes an entry of its own. With it the run is paused.
            (None, _) if paused => {
                self.project(&row.scope.run).await?;
                Verdict::Remove
            }
            (Some(_), Some(due)) if due <= now => {
                Verdict::Ring { queue: Queue::Resume, after: Duration::ZERO, vain: true, due: None }
            }
            (Some(alive), due) => Verdict::Move(due.map_or(alive, |due| due.min(alive))),
            (None, _) => Verdict::Ring { queue: Queue::Steps, after: Duration::ZERO, vain: true, due: None },
        })
    }

    async fn carry_out(
        &self,
        row: DueRow,
        verdict: Verdict,
        rings: &mut Vec<Ring>,
        moves: &mut Vec<DueMove>,
        swept: &mut Swept,
    ) -> Result<(), Error> {
        let (to, visits) = match verdict {
            Verdict::Remove => (None, 0),
            Verdict::Move(to) => (Some(to), 0),
            Verdict::Again(latest) => {
                let again = later(self.now(), pause(row.visits));
                (Some(latest.map_or(again, |latest| latest.min(again))), row.visits.saturating_add(1))
            }
            Verdict::Inbox => {
                self.ring_all_waiters(&row.scope.run).await?;
                (None, 0)
            }
            Verdict::Ring { queue, after, vain, due } => {
                rings.push(Ring { queue, scope: row.scope.clone(), after, hint: Hint::Missed });
                let visits = row.visits.saturating_add(1);
                if vain && visits >= self.core.options.visits {
                    self.mark(&row.scope.run, Some("NO_PROGRESS")).await;
                }
                let again = later(self.now(), after + pause(row.visits));
                let again = due.filter(|due| *due > self.now()).map_or(again, |due| due.min(again));
                (Some(again), if vain { visits } else { visits.min(8) })
            }
        };
        swept.removed += usize::from(to.is_none());
        moves.push(DueMove { row, to, visits });
        Ok(())
    }

    /// Rings for whoever waits for a signal that was sent. That may be lost too: each has an entry of its own from then on.
    async fn ring_all_waiters(&self, run: &RunId) -> Result<(), Error> {
        for name in self.sent(run).await? {
            for waiter in self.core.ports.journal.waiters(run, &name).await? {
                let seq = self.look(&waiter.scope, |head| head.scope.seq()).await?.unwrap_or_default();
                let again = later(self.now(), AGAIN);
                self.core.ports.catalog.ensure_due(&waiter.scope, again, seq).await?;
            }
            self.ring_waiters(run, &name).await?;
        }
        Ok(())
    }

    /// The names of the signals sent to a run of late.
    async fn sent(&self, run: &RunId) -> Result<BTreeSet<Arc<str>>, Error> {
        let inbox = ScopeKey::new(run.clone(), ScopePath::inbox());
        let journal = &self.core.ports.journal;
        let last = journal.head(&inbox).await?.map_or(0, |record| record.seq);
        let from = last.saturating_sub(SIGNALS as u64);
        let records = journal.read(&inbox, from, SIGNALS).await?;
        let events = records
            .iter()
            .filter_map(|record| Record::decode(&record.body).ok())
            .flat_map(|record| record.events);
        Ok(events
            .filter_map(|event| match event {
                Event::SignalSent { name, .. } => Some(name),
                _ => None,
            })
            .collect())
    }
}

/// How long a scope that was looked at in vain so often is left alone.
fn pause(visits: u32) -> Duration {
    AGAIN.saturating_mul(1 << visits.min(8)).min(AGAIN_AT_MOST)
}

/// What the head says; `None`: it depends on whether a worker is alive.
fn verdict(head: &Head, row: &DueRow, now: Timestamp) -> Option<Verdict> {
    let scope = &head.scope;
    let due = scope.due();
    // Rung at its time, not before.
    let after = until(now, row.at);
    match scope.activity() {
        Activity::Ended => return Some(Verdict::Remove),
        Activity::Performing => return None,
        // Its children may have died without a word: they are asked again and again.
        Activity::Fork | Activity::Subworkflow | Activity::Ending => {
            let after = due.map_or(after, |due| after.min(until(now, due)));
            return Some(Verdict::Ring { queue: Queue::Steps, after, vain: false, due });
        }
        _ => {}
    }
    if scope.is_paused() {
        return Some(Verdict::Remove);
    }
    match scope.activity() {
        Activity::Backoff | Activity::Timer | Activity::Signal | Activity::Approval => Some(match due {
            None => Verdict::Remove,
            Some(due) if due > later(now, AHEAD) => Verdict::Move(due),
            Some(due) => {
                let queue = if scope.activity() == Activity::Backoff { Queue::Steps } else { Queue::Resume };
                Verdict::Ring { queue, after: until(now, due), vain: due <= now, due: None }
            }
        }),
        // To be decided or claimed: whoever should have done it is gone.
        _ => Some(Verdict::Ring { queue: Queue::Steps, after, vain: row.at <= now, due: None }),
    }
}
