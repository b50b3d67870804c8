//! What the checker knows of a history: every journal, call, approval and promise so far.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use engine::StepId;
use expression::Value;
use jiff::Timestamp;
use model::Workflow;
use runtime::ports::ApprovalRow;
use runtime::ports::CallError;
use runtime::ports::News;
use runtime::ports::RunStatus;

use super::Options;
use super::clocks::Clocks;
use super::line::Claim;
use super::line::Line;
use crate::observation::Observation;
use crate::observation::ProcessId;

/// Everything observed.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) options: Options,
    /// By hash.
    pub(super) workflows: BTreeMap<Arc<str>, Arc<Workflow>>,
    pub(super) lines: BTreeMap<ScopeKey, Line>,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) steps: BTreeMap<StepId, Steps>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) keys: BTreeMap<Arc<str>, StepId>,
    pub(super) approvals: BTreeMap<(RunId, Arc<str>), Asked>,
    pub(super) append_ids: BTreeSet<Arc<str>>,
    /// What forks gave their children.
    pub(super) contexts: BTreeMap<(ScopeKey, u64), Arc<[u8]>>,
    pub(super) dead: BTreeSet<ProcessId>,
    /// The runs that client keys started.
    pub(super) started: BTreeMap<(Arc<str>, Arc<str>), RunId>,
    /// Every end of a run so far, by its status's name.
    pub(super) ends: BTreeSet<(RunId, String)>,
    /// What the world was told, by its id.
    pub(super) notices: BTreeMap<Arc<str>, News>,
    /// A doorbell was lost for good: whoever was to tell the world may never come.
    pub(super) lost: bool,
    /// Since when nothing fails, if it was said.
    pub(super) calm_since: Option<Timestamp>,
    pub(super) clocks: Clocks,
}

/// One run, beside its journals.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) workflow: Option<Arc<Workflow>>,
    pub(super) summary: Option<Shown>,
    /// The summary said PAUSED, and the root was not resumed since.
    pub(super) shown_paused: bool,
    /// Requests of clients that the root's journal has.
    pub(super) done: Requests,
    /// Requests of which clients were told that they were done.
    pub(super) told: Requests,
}

/// A summary, as far as it is compared with the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) status: RunStatus,
    pub(super) revision: u64,
    /// How often the root had been redriven when it was shown.
    pub(super) redrives: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    pub(super) pauses: u32,
    pub(super) resumes: u32,
    pub(super) cancels: u32,
    pub(super) redrives: u32,
}

/// One step, over all its attempts and epochs.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) scope: ScopeKey,
    pub(super) state: Arc<str>,
    pub(super) claims: BTreeMap<(u32, u32), Claim>,
    pub(super) succeeded: bool,
}

/// One call of an agent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) by: ProcessId,
    pub(super) answer: Option<Result<Value, CallError>>,
    /// Nobody waits for its answer any more.
    pub(super) over: bool,
}

/// An approval, as its scope's journal and the catalog's row have it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) scope: ScopeKey,
    /// Who voted, and for what.
    pub(super) votes: Vec<(Arc<str>, bool)>,
    /// The output of the decision.
    pub(super) decision: Option<Value>,
    pub(super) row: Option<ApprovalRow>,
}

/// One event of a record being taken.
pub(super) struct Moment<'a> {
    pub(super) by: ProcessId,
    pub(super) observed: &'a Observation,
    pub(super) record: &'a Record,
    pub(super) index: usize,
    pub(super) event: &'a Event,
    pub(super) line: &'a Line,
}

impl Moment<'_> {
    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        let Self { line, record, .. } = self;
        let state = line.frames.last().and_then(|frame| frame.state.as_deref()).unwrap_or("no state");
        format!("record {} of {} ({state}), {}", record.seq, line.key, name(self.event))
    }
}

impl Ledger {
    pub(super) fn line(&self, key: &ScopeKey) -> Option<&Line> {
        self.lines.get(key)
    }

    pub(super) fn root(&self, run: &RunId) -> Option<&Line> {
        self.lines.get(&ScopeKey::root(run.clone()))
    }

    /// The scopes that wait for this one, the nearest first.
    pub(super) fn ancestors<'a>(&'a self, line: &'a Line) -> impl Iterator<Item = &'a Line> {
        let up = |line: &&'a Line| line.parent.as_ref().and_then(|parent| self.lines.get(parent));
        std::iter::successors(up(&line), up)
    }

    /// The scopes of a run, its inbox included.
    pub(super) fn scopes<'a>(&'a self, run: &'a RunId) -> impl Iterator<Item = &'a Line> {
        let from = ScopeKey::new(run.clone(), ScopePath::from_stored(""));
        self.lines.range(from..).map(|(_, line)| line).take_while(move |line| line.key.run == *run)
    }

    pub(super) fn inbox(&self, run: &RunId) -> Option<&Line> {
        self.lines.get(&ScopeKey::new(run.clone(), ScopePath::inbox()))
    }

    /// By how much clocks differ that have said something of late: so long ago, or before what was recorded then is past for
    /// the slowest of them.
    pub(super) fn skew(&self, now: Timestamp, of_late: Duration) -> Duration {
        let since = now.checked_sub(of_late + self.options.skew).unwrap_or(Timestamp::MIN);
        self.clocks.spread(since)
    }
}

/// An event's name in the journal.
pub(super) fn name(event: &Event) -> &'static str {
    match event {
        Event::RunStarted(_) => "RunStarted",
        Event::ScopeStarted(_) => "ScopeStarted",
        Event::StateEntered { .. } => "StateEntered",
        Event::StateSkipped { .. } => "StateSkipped",
        Event::StepClaimed { .. } => "StepClaimed",
        Event::StepSucceeded { .. } => "StepSucceeded",
        Event::StepFailed { .. } => "StepFailed",
        Event::TimerStarted { .. } => "TimerStarted",
        Event::TimerFired {} => "TimerFired",
        Event::SignalAwaited { .. } => "SignalAwaited",
        Event::SignalReceived { .. } => "SignalReceived",
        Event::ApprovalRequested(_) => "ApprovalRequested",
        Event::ApprovalVoted { .. } => "ApprovalVoted",
        Event::ApprovalDecided { .. } => "ApprovalDecided",
        Event::WaitTimedOut {} => "WaitTimedOut",
        Event::Forked { .. } => "Forked",
        Event::ChildrenLaunched { .. } => "ChildrenLaunched",
        Event::ChildrenEnded { .. } => "ChildrenEnded",
        Event::ChildrenReleased {} => "ChildrenReleased",
        Event::SubworkflowRequested { .. } => "SubworkflowRequested",
        Event::BlockEntered { .. } => "BlockEntered",
        Event::ErrorCaught { .. } => "ErrorCaught",
        Event::BlockLeft {} => "BlockLeft",
        Event::ErrorRaised { .. } => "ErrorRaised",
        Event::StateComputed { .. } => "StateComputed",
        Event::StateCompleted { .. } => "StateCompleted",
        Event::Paused { .. } => "Paused",
        Event::Resumed { .. } => "Resumed",
        Event::CancelRequested { .. } => "CancelRequested",
        Event::DeadlinePassed {} => "DeadlinePassed",
        Event::Redriven { .. } => "Redriven",
        Event::Ended { .. } => "Ended",
        Event::LateResult { .. } => "LateResult",
        Event::SignalSent { .. } => "SignalSent",
    }
}

/// Whether an event begins something.
pub(super) fn begins(event: &Event) -> bool {
    matches!(
        event,
        Event::StepClaimed { .. }
            | Event::TimerStarted { .. }
            | Event::SignalAwaited { .. }
            | Event::ApprovalRequested(_)
            | Event::Forked { .. }
            | Event::ChildrenLaunched { .. }
            | Event::SubworkflowRequested { .. }
    )
}

/// An outcome's name.
pub(super) fn outcome_name(outcome: &engine::Outcome) -> &'static str {
    match outcome {
        engine::Outcome::Completed { .. } => "completed",
        engine::Outcome::Failed { .. } => "failed",
        engine::Outcome::Cancelled { .. } => "cancelled",
        engine::Outcome::TimedOut { .. } => "timed out",
    }
}
