//! Time and ids that a test decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::ports::Clock;
use crate::ports::Ids;

/// A clock that stands still until it is moved. Whoever sleeps on it wakes when it has been moved far enough.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Timestamp,
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    slept: u64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State { now, sleepers: BTreeMap::new(), slept: 0 })))
    }

    /// Moves the clock forward to `now` and wakes whoever slept until then. An earlier time changes nothing.
    pub fn advance_to(&self, now: Timestamp) {
        let woken = {
            let mut state = self.0.lock();
            state.now = state.now.max(now);
            let now = state.now;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        for sleeper in woken.into_values() {
            // One that no longer waits needs no waking.
            let _ = sleeper.send(());
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let now = self.0.lock().now;
        self.advance_to(now.checked_add(by).unwrap_or(Timestamp::MAX));
    }

    /// When the first sleeper wakes.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let mut state = self.0.lock();
        state.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        state.sleepers.keys().next().map(|(at, _)| *at)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }

    async fn sleep(&self, duration: Duration) {
        let woken = {
            let mut state = self.0.lock();
            let until = state.now.checked_add(duration).unwrap_or(Timestamp::MAX);
            if until <= state.now {
                return;
            }
            let (wake, woken) = oneshot::channel();
            state.slept += 1;
            let number = state.slept;
            state.sleepers.insert((until, number), wake);
            woken
        };
        // The clock never drops a sleeper without waking it, unless it is gone itself.
        let _ = woken.await;
    }
}

/// Ids that are the same in every run of a test with the same seed.
#[derive(Clone, Debug)]
pub struct SeededIds {
    seed: u64,
    drawn: Arc<AtomicU64>,
}

impl SeededIds {
    /// Ids from this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: Arc::default() }
    }

    /// The next random bits (`SplitMix64`, Steele, Lea and Flood 2014).
    fn draw(&self) -> u64 {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bits = self.seed.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

impl Ids for SeededIds {
    fn run(&self) -> RunId {
        RunId::new(format!("run-{:016x}", self.draw()))
    }

    fn append(&self) -> Arc<str> {
        format!("{:016x}", self.draw()).into()
    }

    fn entropy(&self) -> u64 {
        self.draw()
    }
}
