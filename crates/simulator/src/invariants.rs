//! What must hold of every history, whatever failed in it: checked after every observation (`findable` after every record, and whenever the sweeper moved an entry),
//! and in full at its end.
//!
//! A [`Checker`] reads what happened at the ports and keeps models of its own: it asks no decision of the engine. Only
//! [`replay`](INVARIANTS) uses the engine's fold, because it is about that. A rule that has limits (a clock that jumped, a
//! worker that stood still) says so where it is defined; it is never weaker than that.
//!
//! Start reading at [`INVARIANTS`], then `line.rs`: a scope as its journal tells it.

mod cancels;
mod clocks;
mod controls;
mod decisions;
mod findable;
mod joins;
mod journals;
mod ledger;
mod line;
mod notices;
mod pauses;
mod promises;
mod rest;
mod retries;
mod steps;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use engine::Encoded;
use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use model::Workflow;
use runtime::Runtime;
use runtime::ports::DueRow;
use runtime::ports::Extra;

use crate::observation::Observation;
use crate::observation::ProcessId;
use crate::observation::What;
use ledger::Ledger;
use ledger::Moment;
use line::Line;

/// Every invariant: its name, and what it promises.
pub const INVARIANTS: &[(&str, &str)] = &[
    (
        "gapless",
        "a journal's records are numbered 1, 2, 3, …, chained by hash, each with an append id of its own",
    ),
    (
        "replay",
        "folding a journal never fails and gives the same as its snapshot does, and as readers are shown",
    ),
    (
        "performed-once",
        "a step whose success is recorded is never claimed or called again; a live worker keeps its claim",
    ),
    (
        "one-key-per-attempt",
        "the idempotency key stays until a definite failure was recorded, then it is a new one for ever",
    ),
    (
        "retries-by-policy",
        "an attempt follows a failure where the policy grants one, as many times and as soon as it says",
    ),
    (
        "never-backwards",
        "ends, visits, numbers, times and terminal summaries are never taken back, except by a redrive",
    ),
    (
        "decided-once",
        "an approval is decided once, by enough people who may; its row says what the journal says",
    ),
    (
        "cancel-starts-nothing",
        "after a cancel, a timeout or an end nothing new begins in a scope or below it",
    ),
    (
        "pause-holds",
        "while paused nothing is begun and no clock moves; afterwards every clock has moved by the pause",
    ),
    ("control-reaches-all", "a cancel or a pause reaches every live branch, within the sweeper's bound"),
    (
        "join-once",
        "each child counts once, no more run at a time than may, and no fork goes on before enough succeeded",
    ),
    ("late-changes-nothing", "a result of a superseded attempt is noted and changes nothing"),
    ("answers-are-real", "what is recorded was really answered, sent, or waited for long enough"),
    ("told-is-true", "whatever a client was told was done stands in a journal"),
    ("timeline", "the timeline has every record once, in order, whatever the page"),
    ("findable", "the sweeper finds every scope not at rest within its bound, though every doorbell is lost"),
    (
        "rest-is-named",
        "when nothing moves any more, every run has ended or waits for something that its lists name",
    ),
    (
        "the-world-is-told",
        "the bus is told how each run ended and what is asked, under one id, and nothing that did not happen",
    ),
    ("as-the-reference-says", "what a run came to is what the language says, given the same answers"),
];

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: a name in [`INVARIANTS`].
    pub invariant: &'static str,
    /// Where, what, and what was expected instead.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

impl std::error::Error for Violation {}

/// What the history's world allows.
#[derive(Clone, Debug)]
pub struct Options {
    /// One process at a time, by the home's lock.
    pub exclusive: bool,
    /// By how much two clocks may differ at most, at any time of the history: so long may what a clock said be felt after it
    /// was set right. By how much they differ at a time is observed.
    pub skew: Duration,
    /// How long a claim counts as alive without a renewal.
    pub lease: Duration,
    /// An attempt's limit where its state gives none.
    pub step_timeout: Duration,
    /// Invocations end, and cut attempts short: a step may time out before its own limit.
    pub invocations_end: bool,
    /// How often each process sweeps.
    pub sweep_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            exclusive: false,
            skew: Duration::ZERO,
            lease: Duration::from_secs(30),
            step_timeout: Duration::from_hours(24),
            invocations_end: false,
            sweep_interval: Duration::from_mins(1),
        }
    }
}

/// Whether a rule held.
type Held = Result<(), Violation>;

fn broken<T>(invariant: &'static str, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { invariant, what: what.into() })
}

/// Checks one history.
#[derive(Debug)]
pub struct Checker {
    ledger: Ledger,
}

impl Checker {
    /// A checker of a history in which these workflows may run.
    pub fn new(workflows: impl IntoIterator<Item = Arc<Workflow>>, options: Options) -> Self {
        let workflows = workflows.into_iter().map(|workflow| (workflow.hash.clone(), workflow)).collect();
        Self { ledger: Ledger::new(workflows, options) }
    }

    /// Takes what happened next.
    pub fn see(&mut self, observation: &Observation) -> Result<(), Violation> {
        match &observation.what {
            What::DueMoved { .. } => Ok(()),
            What::ProcessStarted(process) | What::ClockJumped(process) => {
                self.ledger.clocks.set(*process, observation.at, observation.clock);
                Ok(())
            }
            What::ProcessDied(process) => {
                self.ledger.dead.insert(*process);
                self.ledger.clocks.stopped(*process, observation.at);
                for call in self.ledger.calls.values_mut().filter(|call| call.by == *process) {
                    call.over = true;
                }
                Ok(())
            }
            What::Appended { by, scope, record, extras } => {
                self.appended(observation, *by, scope, record, extras)
            }
            What::Called { .. } => steps::called(&mut self.ledger, observation),
            What::Answered { call, answer } => {
                if let Some(call) = self.ledger.calls.get_mut(call) {
                    call.answer = Some(answer.clone());
                    call.over = true;
                }
                Ok(())
            }
            What::Dropped { call } => {
                if let Some(call) = self.ledger.calls.get_mut(call) {
                    call.over = true;
                }
                Ok(())
            }
            What::Renewed { scope, lease, .. } => {
                steps::renewed(&mut self.ledger, observation, scope, lease);
                Ok(())
            }
            What::Notified(notice) => notices::told(&mut self.ledger, notice),
            What::DoorbellLost => {
                self.ledger.lost = true;
                Ok(())
            }
            What::Summary(summary) => promises::summary(&mut self.ledger, summary),
            What::Told { run, asked, answer, .. } => match answer {
                Ok(()) => promises::told(&mut self.ledger, run.as_ref(), asked),
                Err(_) => Ok(()),
            },
            What::FaultsOver => {
                self.ledger.calm_since = Some(observation.at);
                Ok(())
            }
        }
    }

    fn appended(
        &mut self,
        observed: &Observation,
        by: ProcessId,
        scope: &ScopeKey,
        stored: &Encoded,
        extras: &[Extra],
    ) -> Held {
        let ledger = &mut self.ledger;
        let record = journals::gapless(ledger, scope, stored)?;
        let mut line = match ledger.lines.remove(scope) {
            Some(line) => line,
            None => Line::new(scope.clone(), journals::workflow_of(ledger, scope, &record)?),
        };
        for extra in extras {
            if let Extra::ForkContext(context) = extra {
                ledger.contexts.insert((scope.clone(), record.seq), context.clone());
            }
        }
        let was_open = line.question().is_some();
        for (index, event) in record.events.iter().enumerate() {
            let moment = Moment { by, observed, record: &record, index, event, line: &line };
            journals::never_backwards(ledger, &moment)?;
            cancels::check(ledger, &moment)?;
            pauses::check(ledger, &moment)?;
            steps::check(ledger, &moment)?;
            retries::check(ledger, &moment)?;
            joins::check(ledger, &moment)?;
            decisions::check(ledger, &moment)?;
            steps::note(ledger, &moment);
            decisions::note(ledger, &moment);
            promises::note(ledger, &moment);
            notices::note(ledger, &moment);
            line.apply(event, record.seq, record.at);
        }
        line.seen(observed.at);
        line.stored.push(stored.clone());
        decisions::recorded(&line, &record, was_open)?;
        line.records.push(record);
        promises::extras(ledger, &line, extras)?;
        decisions::rows(ledger, &line, extras)?;
        ledger.lines.insert(scope.clone(), line);
        Ok(())
    }

    /// Whether the sweeper will find every scope not at rest, given the due entries there are. To be asked when every
    /// doorbell is lost and every process dead.
    pub fn findable(&self, now: Timestamp, due: &[DueRow]) -> Result<(), Violation> {
        controls::reached(&self.ledger, now)?;
        findable::check(&self.ledger, now, due)
    }

    /// What holds at the end, when nothing fails and nothing moves any more. `runtime` reads the history's store.
    pub async fn finish(&self, runtime: &Runtime) -> Result<(), Violation> {
        journals::replay(&self.ledger, runtime).await?;
        decisions::finish(&self.ledger, runtime).await?;
        timeline::finish(&self.ledger, runtime).await?;
        controls::finish(&self.ledger)?;
        notices::finish(&self.ledger, runtime).await?;
        rest::finish(&self.ledger, runtime).await
    }

    /// The records of every journal, in the order of the scopes: for the reference, and for traces.
    pub fn journals(&self) -> impl Iterator<Item = (&ScopeKey, &[Record])> {
        self.ledger.lines.iter().map(|(key, line)| (key, line.records.as_slice()))
    }

    /// How many results came late.
    pub fn late_results(&self) -> u64 {
        let events = self.journals().flat_map(|(_, records)| records).flat_map(|record| &record.events);
        events.map(|event| u64::from(matches!(event, Event::LateResult { .. }))).sum()
    }

    /// How a run's root ended, if it has.
    pub fn outcome(&self, run: &RunId) -> Option<&engine::Outcome> {
        self.ledger.root(run)?.outcome.as_ref().map(|(_, outcome)| outcome)
    }
}

impl Ledger {
    fn new(workflows: BTreeMap<Arc<str>, Arc<Workflow>>, options: Options) -> Self {
        Self {
            options,
            workflows,
            lines: BTreeMap::new(),
            runs: BTreeMap::new(),
            steps: BTreeMap::new(),
            calls: BTreeMap::new(),
            keys: BTreeMap::new(),
            approvals: BTreeMap::new(),
            append_ids: std::collections::BTreeSet::new(),
            contexts: BTreeMap::new(),
            dead: std::collections::BTreeSet::new(),
            started: BTreeMap::new(),
            ends: std::collections::BTreeSet::new(),
            notices: BTreeMap::new(),
            lost: false,
            calm_since: None,
            clocks: clocks::Clocks::default(),
        }
    }
}

/// Whether this journal is an inbox.
fn is_inbox(scope: &ScopeKey) -> bool {
    scope.path == ScopePath::inbox()
}

/// How the run that a record begins began.
fn run_started(record: &Record) -> Option<&engine::RunStarted> {
    match record.events.first() {
        Some(Event::RunStarted(started)) => Some(started),
        _ => None,
    }
}
