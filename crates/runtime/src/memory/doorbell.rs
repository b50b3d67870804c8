//! Doorbells in memory. A scope has at most one delivery of a queue out at a time: rings that come meanwhile are one more
//! delivery after it, with all their hints. Runs take turns, so that one with many branches does not hold up the others.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::ports;
use crate::ports::Clock;
use crate::ports::Delivery;
use crate::ports::Hint;
use crate::ports::Queue;
use crate::ports::Ring;
use crate::ports::StoreError;
use crate::runtime::later;
use crate::runtime::until;

/// Doorbells in memory.
pub struct Doorbell {
    clock: Arc<dyn Clock>,
    lanes: [Lane; 2],
    receipt: Arc<str>,
}

struct Lane {
    state: Mutex<State>,
    rung: Notify,
}

#[derive(Default)]
struct State {
    /// Runs with something to deliver, in the order of their turns.
    turns: VecDeque<RunId>,
    /// What they have to deliver.
    ready: FxHashMap<RunId, VecDeque<ScopePath>>,
    /// Every scope that is ready or out.
    scopes: FxHashMap<ScopeKey, Entry>,
    /// What rings later.
    delayed: BinaryHeap<Delayed>,
    count: u64,
    /// The time until which one of the receivers sleeps, so that not all of them do.
    watched: Option<Timestamp>,
}

/// A scope that was rung.
#[derive(Default)]
struct Entry {
    out: bool,
    /// Rung while it was out.
    again: bool,
    hints: Vec<Hint>,
    redeliveries: u32,
}

#[derive(PartialEq, Eq)]
struct Delayed {
    at: Timestamp,
    count: u64,
    scope: ScopeKey,
    hints: Vec<Hint>,
    redeliveries: u32,
}

impl Ord for Delayed {
    /// The earliest is the greatest, since the heap gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.count).cmp(&(self.at, self.count))
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Doorbell {
    /// Doorbells that wait by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let lane = || Lane { state: Mutex::default(), rung: Notify::new() };
        Self { clock, lanes: [lane(), lane()], receipt: "".into() }
    }

    /// How many scopes are ready to be delivered, now.
    pub fn waiting(&self, queue: Queue) -> usize {
        let mut state = self.lane(queue).state.lock();
        state.ripen(self.clock.now());
        state.ready.values().map(VecDeque::len).sum()
    }

    fn lane(&self, queue: Queue) -> &Lane {
        let [steps, resume] = &self.lanes;
        match queue {
            Queue::Steps => steps,
            Queue::Resume => resume,
        }
    }

    fn ring_one(&self, ring: Ring) {
        let lane = self.lane(ring.queue);
        let hints = match ring.hint {
            Hint::None => Vec::new(),
            hint => vec![hint],
        };
        {
            let mut state = lane.state.lock();
            if ring.after.is_zero() {
                state.ready(ring.scope, hints, 0);
            } else {
                state.delay(later(self.clock.now(), ring.after), ring.scope, hints, 0);
            }
        }
        // The one that came last is the one whose memory is warmest.
        lane.rung.notify_last();
    }
}

impl State {
    fn ready(&mut self, scope: ScopeKey, hints: Vec<Hint>, redeliveries: u32) {
        let entry = self.scopes.entry(scope.clone());
        let queued = matches!(entry, std::collections::hash_map::Entry::Occupied(_));
        let entry = entry.or_default();
        entry.hints.extend(hints);
        entry.redeliveries = entry.redeliveries.max(redeliveries);
        if entry.out {
            entry.again = true;
        } else if !queued {
            self.queue(scope);
        }
    }

    fn queue(&mut self, scope: ScopeKey) {
        let paths = self.ready.entry(scope.run.clone()).or_default();
        if paths.is_empty() {
            self.turns.push_back(scope.run);
        }
        paths.push_back(scope.path);
    }

    fn delay(&mut self, at: Timestamp, scope: ScopeKey, hints: Vec<Hint>, redeliveries: u32) {
        self.count += 1;
        self.delayed.push(Delayed { at, count: self.count, scope, hints, redeliveries });
    }

    /// What was to ring later and is due now, rings.
    fn ripen(&mut self, now: Timestamp) {
        while self.delayed.peek().is_some_and(|first| first.at <= now) {
            if let Some(due) = self.delayed.pop() {
                self.ready(due.scope, due.hints, due.redeliveries);
            }
        }
    }

    fn take(&mut self, queue: Queue, receipt: &Arc<str>) -> Option<Delivery> {
        loop {
            let run = self.turns.pop_front()?;
            let Some(paths) = self.ready.get_mut(&run) else { continue };
            let path = paths.pop_front();
            if paths.is_empty() {
                self.ready.remove(&run);
            } else {
                self.turns.push_back(run.clone());
            }
            let Some(path) = path else { continue };
            let scope = ScopeKey::new(run, path);
            let Some(entry) = self.scopes.get_mut(&scope) else { continue };
            entry.out = true;
            entry.again = false;
            let hints = std::mem::take(&mut entry.hints);
            let redeliveries = entry.redeliveries;
            return Some(Delivery { scope, queue, hints, redeliveries, receipt: receipt.clone() });
        }
    }

    /// When the next of what rings later is due, if nobody sleeps until then.
    fn unwatched(&self) -> Option<Timestamp> {
        let next = self.delayed.peek()?.at;
        self.watched.is_none_or(|watched| next < watched).then_some(next)
    }

    /// The delivery that was out is back; what rang meanwhile is next.
    fn back(&mut self, scope: &ScopeKey) -> bool {
        let Some(entry) = self.scopes.get_mut(scope) else { return false };
        if !entry.again {
            self.scopes.remove(scope);
            return false;
        }
        entry.out = false;
        entry.again = false;
        entry.redeliveries = 0;
        self.queue(scope.clone());
        true
    }
}

/// A receiver that sleeps until the next of what rings later is due. However it ends, another one takes over.
struct Watch<'a> {
    lane: &'a Lane,
    at: Timestamp,
    /// Its receiver goes on to look itself, and tells others if there is more.
    over: bool,
}

impl<'a> Watch<'a> {
    fn new(lane: &'a Lane, at: Timestamp) -> Self {
        lane.state.lock().watched = Some(at);
        Self { lane, at, over: false }
    }

    /// Ends without waking another: where there is no other, that would wake this one, again and again.
    fn end(mut self) {
        self.over = true;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.state.lock();
        if state.watched == Some(self.at) {
            state.watched = None;
        }
        if !self.over && state.unwatched().is_some() {
            self.lane.rung.notify_last();
        }
    }
}

#[async_trait]
impl ports::Doorbell for Doorbell {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        for ring in rings {
            self.ring_one(ring);
        }
        Ok(())
    }

    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let lane = self.lane(queue);
        loop {
            // Enabled before the look, so that no ring falls in between.
            let rung = lane.rung.notified();
            let next = {
                let mut state = lane.state.lock();
                state.ripen(self.clock.now());
                let mut deliveries = Vec::new();
                while deliveries.len() < max.max(1)
                    && let Some(delivery) = state.take(queue, &self.receipt)
                {
                    deliveries.push(delivery);
                }
                let unwatched = state.unwatched();
                if !deliveries.is_empty() {
                    // A ring wakes one receiver; what else is ready, and what rings later, needs the next.
                    if !state.turns.is_empty() || unwatched.is_some() {
                        lane.rung.notify_last();
                    }
                    return Ok(deliveries);
                }
                unwatched
            };
            let Some(next) = next else {
                rung.await;
                continue;
            };
            let watch = Watch::new(lane, next);
            tokio::select! {
                biased;
                () = rung => {}
                () = self.clock.sleep(until(self.clock.now(), next)) => {}
            }
            watch.end();
        }
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        let lane = self.lane(delivery.queue);
        if lane.state.lock().back(&delivery.scope) {
            lane.rung.notify_last();
        }
        Ok(())
    }

    async fn extend(&self, _: &[Delivery], _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        let lane = self.lane(delivery.queue);
        {
            let mut state = lane.state.lock();
            let at = later(self.clock.now(), after);
            let redeliveries = delivery.redeliveries.saturating_add(1);
            state.delay(at, delivery.scope.clone(), delivery.hints, redeliveries);
            state.back(&delivery.scope);
        }
        lane.rung.notify_last();
        Ok(())
    }
}
