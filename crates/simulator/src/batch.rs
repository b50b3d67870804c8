//! Many histories of fresh seeds, on several threads.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::history;
use crate::history::History;
use crate::plan::Plan;

/// What many histories came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many histories.
    pub histories: u64,
    /// What was observed in them.
    pub observations: u64,
    /// Calls at their ports.
    pub calls: u64,
    /// The time that passed in them.
    pub lasted: Duration,
    /// How many of each home.
    pub homes: BTreeMap<&'static str, u64>,
    /// Faults made, by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Answers that came too late.
    pub late_results: u64,
    /// Histories in which some did.
    pub with_late_results: u64,
    /// Runs, by what they came to.
    pub outcomes: BTreeMap<String, u64>,
    /// Runs that agree with the reference.
    pub agree: u64,
    /// What they went through, in moments.
    pub moments: u64,
    /// Runs that the reference says nothing about, by why.
    pub not_comparable: BTreeMap<String, u64>,
    /// Failures, by invariant.
    pub violations: BTreeMap<&'static str, Vec<u64>>,
}

impl Totals {
    fn add(&mut self, plan: &Plan, history: &History) {
        self.histories += 1;
        self.observations += history.observations;
        self.calls += history.calls;
        self.lasted += history.lasted;
        *self.homes.entry(plan.home.name()).or_default() += 1;
        for (kind, count) in &history.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.late_results += history.late_results;
        self.with_late_results += u64::from(history.late_results > 0);
        for (outcome, count) in &history.outcomes {
            *self.outcomes.entry(outcome.clone()).or_default() += count;
        }
        self.agree += history.compared.runs;
        self.moments += history.compared.moments;
        for (why, count) in &history.compared.not_comparable {
            *self.not_comparable.entry(why.clone()).or_default() += count;
        }
        if let Some(violation) = &history.violation {
            self.violations.entry(violation.invariant).or_default().push(plan.seed);
        }
    }
}

/// Plays the plans of the seeds from `first` on, `jobs` at once, until `more` (told how many were begun) says that it is enough.
/// `each` hears of every failure at once.
pub fn run(
    first: u64,
    jobs: usize,
    more: impl Fn(u64) -> bool + Sync,
    each: impl Fn(&Plan, &History) + Sync,
) -> Totals {
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if !more(number) {
                enough.store(true, Ordering::Relaxed);
                return;
            }
            let plan = Plan::from_seed(first.wrapping_add(number));
            let history = history::play(&plan, false);
            if history.violation.is_some() {
                each(&plan, &history);
            }
            totals.lock().add(&plan, &history);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    totals.into_inner()
}
