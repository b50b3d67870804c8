//! A scope: one sequential line of a run, and everything its journal says about it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use expression::SecretSlot;
use expression::Value;
use jiff::Timestamp;
use model::StateId;
use model::Workflow;
use serde::Deserialize;
use serde::Serialize;

use crate::ApprovalRequested;
use crate::BlockRole;
use crate::ChildKey;
use crate::Encoded;
use crate::Error;
use crate::Event;
use crate::FORMAT;
use crate::Inherited;
use crate::Outcome;
use crate::Record;
use crate::RunId;
use crate::RunStarted;
use crate::ScopeKey;
use crate::ScopePath;
use crate::ScopeStarted;
use crate::StepId;
use crate::Unreadable;
use crate::Vote;

/// One sequential line of a run, as the fold of its journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scope {
    pub(crate) key: ScopeKey,
    pub(crate) seq: u64,
    pub(crate) hash: Arc<str>,
    /// The last record's time; the next one's is not before it.
    pub(crate) time: Timestamp,
    pub(crate) run: Option<Arc<RunStarted>>,
    /// When the run began.
    pub(crate) started: Timestamp,
    /// How this scope began, for a branch or an iteration.
    pub(crate) origin: Option<ScopeStarted>,
    /// What the fork gave it, until its first record has been folded.
    #[serde(skip)]
    pub(crate) base: Option<Arc<ForkContext>>,
    pub(crate) context: Value,
    /// A child's writes outside `steps`, in one object.
    pub(crate) writes: Value,
    /// Whether the last state that completed wrote outside `steps`.
    pub(crate) wrote: bool,
    pub(crate) flow: Flow,
    pub(crate) iteration: Vec<(Arc<str>, Value)>,
    /// What a `catch` around the fork that made it caught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caught: Option<Error>,
    pub(crate) visits: BTreeMap<Arc<str>, u32>,
    /// The lists of states entered, the innermost last; the first is the scope's own.
    pub(crate) frames: Vec<Frame>,
    /// The number last received of each signal name.
    pub(crate) signals: BTreeMap<Arc<str>, u64>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) control: Control,
    pub(crate) ending: Option<Ending>,
    pub(crate) outcome: Option<Outcome>,
    /// The time of the record being decided: set by the first event after a record, cleared by the record.
    #[serde(skip)]
    pub(crate) deciding: Option<Timestamp>,
}

/// What flows into the next state: the output of the one before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) value: Value,
    /// The state whose output it is.
    pub(crate) from: Option<Arc<str>>,
}

/// A scope's clocks and what has been asked of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Control {
    /// Paused by request, since.
    pub(crate) paused: Option<Timestamp>,
    /// Paused because the parent is.
    pub(crate) paused_by_parent: bool,
    /// Paused for whatever reason, since.
    pub(crate) stopped: Option<Timestamp>,
    /// Both kinds of pause took part in the present one.
    pub(crate) mixed: bool,
    /// Milliseconds by which all pauses so far moved this scope's clocks.
    pub(crate) shift: u64,
    pub(crate) redrives: u32,
    /// Rises whenever what the children must have changes.
    pub(crate) version: u32,
    /// What was last taken over from the parent.
    pub(crate) parent: Inherited,
}

/// An end that has been decided and waits for the children to have it too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ending {
    Cancelled { reason: Option<Arc<str>> },
    TimedOut { error: Error },
}

/// One list of states being executed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// Which list of the state below; `None` for the scope's own.
    pub(crate) role: Option<BlockRole>,
    pub(crate) cursor: StateId,
    pub(crate) visit: u32,
    pub(crate) phase: Phase,
    /// When the cursor's state was entered.
    pub(crate) entered: Timestamp,
    /// When the cursor's composite state times out.
    pub(crate) deadline: Option<Timestamp>,
    /// What a `catch` block caught.
    pub(crate) error: Option<Error>,
}

/// Where a state stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// To be entered.
    Enter,
    /// Entered; the event behind says what it does. Never the end of a record.
    Entered,
    Claimed(Claimed),
    Backoff {
        until: Timestamp,
        next: Claimed,
    },
    Timer {
        until: Timestamp,
        absolute: bool,
    },
    Signal {
        name: Arc<str>,
        deadline: Option<Timestamp>,
    },
    Approval {
        request: Box<ApprovalRequested>,
        votes: Vec<Vote>,
    },
    Fork(Box<Fork>),
    Subworkflow(Box<Subworkflow>),
    /// Executing the block of the frame above.
    Inside(Box<Inside>),
    /// Has its output (`None`: passes on what flowed in); not completed yet.
    Done {
        // An output that is null is not the same as none.
        #[serde(default, deserialize_with = "crate::event::some", skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
    },
    /// An approval or signal timed out; what follows is not decided yet.
    WaitTimedOut {
        approval: bool,
    },
    /// Failed; not handled yet. `prior` is what a redrive goes back to.
    Failed {
        error: Error,
        floor: Option<u32>,
        prior: Option<Box<Phase>>,
    },
    /// The last state of the list has completed.
    ListEnded,
}

/// An attempt that a worker has taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) attempt: u32,
    pub(crate) epoch: u32,
    /// Epochs before this one do not count against the limit (they were before a redrive).
    pub(crate) epoch_base: u32,
    /// Nor do attempts up to this one.
    pub(crate) attempt_base: u32,
    /// The record that claimed.
    pub(crate) seq: u64,
    pub(crate) key: u32,
    pub(crate) worker: Arc<str>,
    pub(crate) at: Timestamp,
    pub(crate) request: Value,
    pub(crate) secrets: Vec<SecretSlot>,
}

/// The children of a `parallel` or `foreach`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fork {
    pub(crate) seq: u64,
    pub(crate) children: u32,
    #[serde(default, deserialize_with = "crate::event::some", skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Value>,
    pub(crate) launched: u32,
    /// Launched and not ended.
    pub(crate) live: BTreeSet<u32>,
    /// Ended without success before a redrive, and to go on as soon as there is room.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) waiting: BTreeSet<u32>,
    /// Ends seen before a redrive: up to this record of the child they are old news.
    pub(crate) stale: BTreeMap<u32, u64>,
    pub(crate) ended: BTreeMap<u32, (u64, Option<Outcome>)>,
    pub(crate) succeeded: u32,
    pub(crate) failed: u32,
    /// The index of the first that failed, in time.
    pub(crate) first_failed: Option<u32>,
    /// No more are needed; outcomes from here on do not count.
    pub(crate) released: bool,
}

/// A child run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Subworkflow {
    pub(crate) seq: u64,
    pub(crate) run: RunId,
    pub(crate) workflow: Arc<str>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) input: Value,
    pub(crate) ended: Option<(u64, Outcome)>,
    /// An end seen before a redrive: up to this record of the child it is old news.
    pub(crate) stale: Option<u64>,
    pub(crate) released: bool,
}

/// A composite state whose blocks run in this scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Inside {
    /// What flowed into the composite state.
    pub(crate) input: Flow,
    /// `while`: rounds begun.
    pub(crate) rounds: u64,
    /// The block that has just ended, with its output.
    pub(crate) returned: Option<(BlockRole, Value)>,
    /// `try`: what comes after `finally`.
    pub(crate) pending: Option<Pending>,
}

/// What a `try` does after its `finally`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Pending {
    Complete(Value),
    Raise { error: Error, floor: Option<u32> },
}

/// What the children of a fork share: stored once, beside the record that forked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForkContext {
    pub(crate) run: Arc<RunStarted>,
    pub(crate) started: Timestamp,
    pub(crate) context: Value,
    pub(crate) flow: Flow,
    pub(crate) iteration: Vec<(Arc<str>, Value)>,
    pub(crate) item_name: Option<Arc<str>>,
    pub(crate) total: u32,
    pub(crate) signals: BTreeMap<Arc<str>, u64>,
    /// What a `catch` around the fork caught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caught: Option<Error>,
}

/// What a scope is doing, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// No record yet.
    Unborn,
    /// Something is to be decided.
    Ready,
    /// A worker has an attempt.
    Performing,
    /// Between two attempts.
    Backoff,
    /// Waits for a time.
    Timer,
    /// Waits for a signal.
    Signal,
    /// Waits for people.
    Approval,
    /// Waits for its children.
    Fork,
    /// Waits for a child run.
    Subworkflow,
    /// Cancelled or timed out, and waits until its children have it.
    Ending,
    /// Over.
    Ended,
}

/// What a parent's children must have. A child makes up the difference, so that saying it twice, late or in any order
/// changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Rises with every change; a child ignores what is older than what it has.
    pub version: u32,
    /// Nobody needs the child any more.
    pub cancelled: bool,
    /// Whether nothing new may be claimed.
    pub paused: bool,
    /// Milliseconds by which all pauses so far moved the clocks.
    pub shift: u64,
    /// How often failed work was sent on again.
    pub redrives: u32,
}

/// An attempt that a worker has taken.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The state.
    pub state: &'a model::State,
    /// Its operation.
    pub operation: &'a model::Operation,
    /// The step.
    pub step: StepId,
    /// The state's visit in this scope.
    pub visit: u32,
    /// From 1.
    pub attempt: u32,
    /// From 1.
    pub epoch: u32,
    /// The last part of the idempotency key.
    pub key: u32,
    /// Who took it.
    pub worker: &'a Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The number of the record that claims.
    pub seq: u64,
    /// The earliest deadline around the step. When it passes before the step's own timeout, visit the scope.
    pub deadline: Option<Timestamp>,
    /// What to perform.
    pub request: &'a Value,
    /// Where secrets go in it.
    pub secrets: &'a [SecretSlot],
}

/// A fork that waits for its children.
#[derive(Clone, Copy, Debug)]
pub struct ForkView<'a> {
    scope: &'a Scope,
    state: &'a model::State,
    visit: u32,
    fork: &'a Fork,
}

/// A child run that a scope waits for.
#[derive(Clone, Debug)]
pub struct SubworkflowView<'a> {
    /// The state.
    pub state: &'a Arc<str>,
    /// The number of the record that asked for it.
    pub seq: u64,
    /// The child run.
    pub run: &'a RunId,
    /// What it must have.
    pub clocks: Clocks,
    /// Its workflow.
    pub workflow: &'a Arc<str>,
    /// Its version, if the definition names one.
    pub version: Option<&'a Arc<str>>,
    /// Its input.
    pub input: &'a Value,
    /// Whether its outcome is known here.
    pub ended: bool,
}

/// Why a record cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The bytes are no record.
    #[error("record {seq} of {scope}: {source}")]
    Unreadable {
        /// The scope.
        scope: ScopeKey,
        /// The record's number.
        seq: u64,
        /// Why.
        source: Unreadable,
    },
    /// A number is missing or twice.
    #[error("the journal of {scope} has record {found} where record {expected} belongs: it is not whole")]
    Gap {
        /// The scope.
        scope: ScopeKey,
        /// The number that belongs here.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The chain of hashes is broken.
    #[error("record {seq} of {scope} does not follow from the one before it: the journal was altered")]
    Altered {
        /// The scope.
        scope: ScopeKey,
        /// The record's number.
        seq: u64,
    },
}

impl ReplayError {
    /// The code of its page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { source: Unreadable::Format { .. }, .. } => "RECORD_FORMAT_UNKNOWN",
            Self::Unreadable { .. } => "RECORD_UNREADABLE",
            Self::Gap { .. } => "JOURNAL_GAP",
            Self::Altered { .. } => "JOURNAL_ALTERED",
        }
    }
}

/// The stored record, if it is the one that follows record `seq` with this hash in the journal of `scope`.
pub(crate) fn following(
    stored: &Encoded,
    scope: &ScopeKey,
    seq: u64,
    hash: &Arc<str>,
) -> Result<Record, ReplayError> {
    let unreadable = |source| ReplayError::Unreadable { scope: scope.clone(), seq: stored.seq, source };
    let record = Record::decode(&stored.body).map_err(unreadable)?;
    if record.seq != seq + 1 {
        return Err(ReplayError::Gap { scope: scope.clone(), expected: seq + 1, found: record.seq });
    }
    if record.prev != *hash {
        return Err(ReplayError::Altered { scope: scope.clone(), seq: record.seq });
    }
    Ok(record)
}

impl Scope {
    /// A root scope before its first record.
    pub fn root(run: RunId) -> Self {
        Self::blank(ScopeKey::root(run), None)
    }

    /// A branch or iteration before its first record, with what its fork gave it.
    pub fn child(key: ScopeKey, base: Arc<ForkContext>) -> Self {
        Self::blank(key, Some(base))
    }

    fn blank(key: ScopeKey, base: Option<Arc<ForkContext>>) -> Self {
        Self {
            key,
            seq: 0,
            hash: "".into(),
            time: Timestamp::UNIX_EPOCH,
            run: base.as_ref().map(|base| base.run.clone()),
            started: base.as_ref().map_or(Timestamp::UNIX_EPOCH, |base| base.started),
            origin: None,
            base,
            context: Value::object(),
            writes: Value::object(),
            wrote: false,
            flow: Flow { value: Value::Null, from: None },
            iteration: Vec::new(),
            caught: None,
            visits: BTreeMap::new(),
            frames: Vec::new(),
            signals: BTreeMap::new(),
            deadline: None,
            control: Control::default(),
            ending: None,
            outcome: None,
            deciding: None,
        }
    }

    /// Folds the next stored record.
    pub fn replay(&mut self, workflow: &Workflow, stored: &Encoded) -> Result<(), ReplayError> {
        let record = following(stored, &self.key, self.seq, &self.hash)?;
        for event in &record.events {
            self.apply(workflow, event, record.at);
        }
        self.seq = record.seq;
        self.time = record.at;
        self.hash = stored.hash.clone();
        Ok(())
    }

    /// Makes the next record of events that [`decide`](crate::decide) has already applied to this scope. From here on the
    /// scope counts it as appended: if the append fails, drop the scope and load it again.
    pub fn seal(&mut self, events: Vec<Event>, append_id: Arc<str>) -> Result<Encoded, Unreadable> {
        let at = self.deciding.take().unwrap_or(self.time);
        let record =
            Record { format: FORMAT, seq: self.seq + 1, append_id, prev: self.hash.clone(), at, events };
        let encoded = record.encode()?;
        self.seq = encoded.seq;
        self.time = at;
        self.hash = encoded.hash.clone();
        Ok(encoded)
    }

    /// The scope as bytes, from which [`from_snapshot`](Self::from_snapshot) makes it again.
    pub fn snapshot(&self) -> Result<Arc<[u8]>, serde_json::Error> {
        serde_json::to_vec(&(FORMAT, env!("CARGO_PKG_VERSION"), self)).map(Into::into)
    }

    /// The scope that was stored. An unreadable snapshot is to be ignored: the journal says it all.
    pub fn from_snapshot(body: &[u8]) -> Option<Self> {
        let (format, version, scope): (u16, String, Self) = serde_json::from_slice(body).ok()?;
        (format == FORMAT && version == env!("CARGO_PKG_VERSION")).then_some(scope)
    }

    /// Which scope this is.
    pub fn key(&self) -> &ScopeKey {
        &self.key
    }

    /// How many records it has.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The time of its last record.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// How its run began; `None` only before the root's first record.
    pub fn run(&self) -> Option<&Arc<RunStarted>> {
        self.run.as_ref()
    }

    /// The time of the record being decided, or of the last one.
    pub fn at(&self) -> Timestamp {
        self.deciding.unwrap_or(self.time)
    }

    /// When its run began.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// How this branch or iteration began.
    pub fn origin(&self) -> Option<&ScopeStarted> {
        self.origin.as_ref()
    }

    /// How often it was sent on again after it had failed, itself or with its parent.
    pub fn redrives(&self) -> u32 {
        self.control.redrives
    }

    /// Its data.
    pub fn context(&self) -> &Value {
        &self.context
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether nothing new may be claimed in it.
    pub fn is_paused(&self) -> bool {
        self.control.paused.is_some() || self.control.paused_by_parent
    }

    /// Whether it is paused by a request of its own (not only because its parent is).
    pub fn is_paused_itself(&self) -> bool {
        self.control.paused.is_some()
    }

    pub(crate) fn clocks(&self, cancelled: bool) -> Clocks {
        Clocks {
            version: self.control.version,
            cancelled: cancelled || self.ending.is_some(),
            paused: self.is_paused(),
            shift: self.control.shift,
            redrives: self.control.redrives,
        }
    }

    /// Whether these clocks of its parent would change nothing in it.
    pub fn has(&self, parent: Clocks) -> bool {
        self.control.parent.version >= parent.version
    }

    /// What its head says it is doing.
    pub fn activity(&self) -> Activity {
        if self.outcome.is_some() {
            return Activity::Ended;
        }
        if self.ending.is_some() {
            return Activity::Ending;
        }
        match self.frames.last().map(|frame| &frame.phase) {
            None => Activity::Unborn,
            Some(Phase::Claimed(_)) => Activity::Performing,
            Some(Phase::Backoff { .. }) => Activity::Backoff,
            Some(Phase::Timer { .. }) => Activity::Timer,
            Some(Phase::Signal { .. }) => Activity::Signal,
            Some(Phase::Approval { .. }) => Activity::Approval,
            Some(Phase::Fork(_)) => Activity::Fork,
            Some(Phase::Subworkflow(_)) => Activity::Subworkflow,
            Some(_) => Activity::Ready,
        }
    }

    /// The state it is in, with the visit and the time it was entered.
    pub fn position(&self) -> Option<(StateId, u32, Timestamp)> {
        self.frames.last().map(|frame| (frame.cursor, frame.visit, frame.entered))
    }

    /// When it is to be looked at next: the earliest of its deadlines. `None` while it is paused, or over, or waits without end.
    pub fn due(&self) -> Option<Timestamp> {
        if self.is_paused() || self.outcome.is_some() || self.ending.is_some() {
            return None;
        }
        let phase = match self.frames.last().map(|frame| &frame.phase) {
            // Its time is over already; it waits for its children to end, and they say so.
            Some(Phase::Fork(fork)) if fork.released => return self.deadline,
            Some(Phase::Subworkflow(child)) if child.released && child.ended.is_none() => {
                return self.deadline;
            }
            Some(Phase::Backoff { until, .. } | Phase::Timer { until, .. }) => Some(*until),
            Some(Phase::Signal { deadline, .. }) => *deadline,
            Some(Phase::Approval { request, .. }) => Some(request.deadline),
            _ => None,
        };
        let frames = self.frames.iter().filter_map(|frame| frame.deadline);
        frames.chain(phase).chain(self.deadline).min()
    }

    /// The attempt in flight.
    pub fn claim<'a>(&'a self, workflow: &'a Workflow) -> Option<Claim<'a>> {
        if self.outcome.is_some() {
            return None;
        }
        let frame = self.frames.last()?;
        let Phase::Claimed(claimed) = &frame.phase else { return None };
        let state = workflow.state(frame.cursor)?;
        let model::Kind::Operation(operation) = &state.kind else { return None };
        Some(Claim {
            state,
            operation,
            step: self.step_id(&state.name, frame.visit),
            visit: frame.visit,
            attempt: claimed.attempt,
            epoch: claimed.epoch,
            key: claimed.key,
            worker: &claimed.worker,
            at: claimed.at,
            seq: claimed.seq,
            deadline: self.due(),
            request: &claimed.request,
            secrets: &claimed.secrets,
        })
    }

    /// The question it waits on, with the votes so far and the time it was asked.
    pub fn approval(&self) -> Option<(&ApprovalRequested, &[Vote], Timestamp)> {
        let frame = self.frames.last()?;
        match &frame.phase {
            Phase::Approval { request, votes } if self.outcome.is_none() => {
                Some((request, votes, frame.entered))
            }
            _ => None,
        }
    }

    /// The signal it waits for, and the number of that name it received last (0: none).
    pub fn awaited_signal(&self) -> Option<(&Arc<str>, u64)> {
        match &self.frames.last()?.phase {
            Phase::Signal { name, .. } if self.outcome.is_none() => {
                Some((name, self.signals.get(name).copied().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// The children it waits for: also of a scope that is ending, until all of them have ended.
    pub fn fork<'a>(&'a self, workflow: &'a Workflow) -> Option<ForkView<'a>> {
        let frame = self.frames.last()?;
        match &frame.phase {
            Phase::Fork(fork) if self.outcome.is_none() => {
                Some(ForkView { scope: self, state: workflow.state(frame.cursor)?, visit: frame.visit, fork })
            }
            _ => None,
        }
    }

    /// What the children of its fork share.
    pub fn fork_context(&self, workflow: &Workflow) -> Option<ForkContext> {
        let view = self.fork(workflow)?;
        let item_name = match &view.state.kind {
            model::Kind::Foreach(foreach) => Some(foreach.item_name.clone()),
            _ => None,
        };
        Some(ForkContext {
            run: self.run.clone()?,
            started: self.started,
            context: self.context.clone(),
            flow: self.flow.clone(),
            iteration: self.iteration.clone(),
            item_name,
            total: view.fork.children,
            signals: self.signals.clone(),
            caught: self.caught().cloned(),
        })
    }

    /// The child run it waits for: also of a scope that is ending.
    pub fn subworkflow<'a>(&'a self, workflow: &'a Workflow) -> Option<SubworkflowView<'a>> {
        let frame = self.frames.last()?;
        match &frame.phase {
            Phase::Subworkflow(child) if self.outcome.is_none() => Some(SubworkflowView {
                state: &workflow.state(frame.cursor)?.name,
                seq: child.seq,
                clocks: self.clocks(child.released),
                run: &child.run,
                workflow: &child.workflow,
                version: child.version.as_ref(),
                input: &child.input,
                ended: child.ended.is_some(),
            }),
            _ => None,
        }
    }

    pub(crate) fn step_id(&self, state: &str, visit: u32) -> StepId {
        StepId::new(&self.key.run, &self.key.path, state, visit)
    }

    pub(crate) fn top(&self) -> Option<&Frame> {
        self.frames.last()
    }

    pub(crate) fn visit_of(&self, state: &str) -> u32 {
        self.visits.get(state).copied().unwrap_or_default()
    }

    /// What the innermost `catch` around the current place caught, also one around the fork that made this scope.
    pub(crate) fn caught(&self) -> Option<&Error> {
        self.frames.iter().rev().find_map(|frame| frame.error.as_ref()).or(self.caught.as_ref())
    }

    /// Whether children of it may still be live.
    pub(crate) fn has_live_children(&self) -> bool {
        match self.frames.last().map(|frame| &frame.phase) {
            Some(Phase::Fork(fork)) => !fork.live.is_empty(),
            Some(Phase::Subworkflow(child)) => child.ended.is_none(),
            _ => false,
        }
    }
}

impl<'a> ForkView<'a> {
    /// The number of the record that forked.
    pub fn seq(&self) -> u64 {
        self.fork.seq
    }

    /// The state that forked.
    pub fn state(&self) -> &'a Arc<str> {
        &self.state.name
    }

    /// How many children there are.
    pub fn children(&self) -> u32 {
        self.fork.children
    }

    /// What its children must have.
    pub fn clocks(&self) -> Clocks {
        self.scope.clocks(self.fork.released)
    }

    /// The indices of the children that were launched and have not ended as far as this scope knows.
    pub fn live(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.fork.live.iter().copied()
    }

    /// Whether this scope waits for that child.
    pub fn is_live(&self, index: u32) -> bool {
        self.fork.live.contains(&index)
    }

    /// Whether that child began before a redrive and is to go on.
    pub fn goes_on(&self, index: u32) -> bool {
        self.fork.stale.contains_key(&index)
    }

    /// A child's key.
    pub fn key(&self, index: u32) -> ChildKey {
        match &self.state.kind {
            model::Kind::Parallel(parallel) => parallel
                .branches
                .get(index as usize)
                .map_or(ChildKey::Index(index), |branch| ChildKey::Branch(branch.name.clone())),
            _ => ChildKey::Index(index),
        }
    }

    /// The index of the child with this key.
    pub fn index(&self, key: &ChildKey) -> Option<u32> {
        match (key, &self.state.kind) {
            (ChildKey::Index(index), _) => Some(*index),
            (ChildKey::Branch(name), model::Kind::Parallel(parallel)) => {
                let index = parallel.branches.iter().position(|branch| branch.name == *name)?;
                u32::try_from(index).ok()
            }
            _ => None,
        }
    }

    /// A child's scope.
    pub fn path(&self, index: u32) -> ScopePath {
        self.scope.key.path.child(&self.state.name, self.visit, &self.key(index))
    }

    /// The first event of a child.
    pub fn start(&self, index: u32) -> ScopeStarted {
        let item =
            self.fork.items.as_ref().and_then(Value::as_array).and_then(|items| items.get(index as usize));
        ScopeStarted {
            fork: self.fork.seq,
            state: self.state.address.clone(),
            index,
            key: self.key(index),
            item: item.cloned(),
            clocks: Inherited {
                version: self.scope.control.version,
                shift: self.scope.control.shift,
                redrives: self.scope.control.redrives,
            },
        }
    }
}
