//! A scope as the checker reads its journal: only what the invariants speak of, and nothing of the engine's own fold.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use engine::ApprovalRequested;
use engine::BlockRole;
use engine::ChildKey;
use engine::Encoded;
use engine::Event;
use engine::Inherited;
use engine::Outcome;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::StepId;
use engine::Vote;
use jiff::SignedDuration;
use jiff::Timestamp;
use model::Kind;
use model::State;
use model::Workflow;

use crate::observation::ProcessId;

/// One journal, and what it has come to.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) key: ScopeKey,
    /// As stored.
    pub(super) stored: Vec<Encoded>,
    /// As read.
    pub(super) records: Vec<Record>,
    /// `None` for an inbox.
    pub(super) workflow: Option<Arc<Workflow>>,
    /// The scope that waits for this one.
    pub(super) parent: Option<ScopeKey>,
    /// The parent's record that forked, and the index there; `None` for a root.
    pub(super) origin: Option<(u64, u32)>,
    /// The lists of states entered, the innermost last.
    pub(super) frames: Vec<Frame>,
    /// What the innermost state does.
    pub(super) leaf: Leaf,
    /// The current state failed, and nothing has handled it yet.
    pub(super) failed: bool,
    pub(super) visits: BTreeMap<Arc<str>, u32>,
    /// The number last received of each signal name.
    pub(super) received: BTreeMap<Arc<str>, u64>,
    /// The run's own.
    pub(super) deadline: Option<Timestamp>,
    pub(super) pauses: Pauses,
    /// Since when it is paused, by the world's time.
    pub(super) paused_since: Option<Timestamp>,
    /// It is to end as cancelled or timed out.
    pub(super) ending: bool,
    /// Since when, by the world's time.
    pub(super) ending_since: Option<Timestamp>,
    /// How it ended, and the record that says so.
    pub(super) outcome: Option<(u64, Outcome)>,
    pub(super) redrives: u32,
    /// Of an inbox: its signals, in order.
    pub(super) sent: Vec<Sent>,
}

/// One list of states being executed.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The address of the state entered; `None` between two.
    pub(super) state: Option<Arc<str>>,
    pub(super) visit: u32,
    /// Of a composite state.
    pub(super) deadline: Option<Timestamp>,
    /// It failed, and nothing has handled it yet.
    pub(super) failed: bool,
    /// The state's deadline has passed once; its error may still be on its way out.
    pub(super) timed_out: bool,
    /// Which list of the state below it is.
    role: Option<BlockRole>,
    /// The state's list that ended last, and nothing came of it yet.
    returned: Option<BlockRole>,
}

/// What the innermost state does.
#[derive(Debug)]
pub(super) enum Leaf {
    /// Nothing that lasts.
    None,
    Step(Step),
    Timer {
        until: Timestamp,
        absolute: bool,
        over: bool,
    },
    Signal {
        name: Arc<str>,
        deadline: Option<Timestamp>,
        over: bool,
    },
    Approval(Box<Question>),
    Fork(Box<Fork>),
    ChildRun {
        seq: u64,
        run: RunId,
        ended: Option<(u64, Outcome)>,
        stale: Option<u64>,
        released: bool,
    },
}

/// An operation's state on one visit.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: StepId,
    pub(super) attempt: u32,
    pub(super) epoch: u32,
    /// Attempts up to this one were before a redrive.
    pub(super) attempts_before: u32,
    /// Epochs up to this one were before a redrive.
    pub(super) epochs_before: u32,
    /// The idempotency key's last part.
    pub(super) key: u32,
    pub(super) phase: StepPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepPhase {
    /// A worker has the attempt.
    Claimed,
    /// The attempt failed; another one may follow from then on.
    Backoff {
        until: Timestamp,
        definite: bool,
    },
    /// No other attempt follows, unless it is redriven.
    Failed {
        definite: bool,
    },
    Succeeded,
}

/// A question to people.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: ApprovalRequested,
    pub(super) deadline: Timestamp,
    pub(super) votes: Vec<Vote>,
    pub(super) timed_out: bool,
    pub(super) decided: Option<bool>,
}

/// The children of a `parallel` or `foreach`.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) seq: u64,
    pub(super) state: Arc<str>,
    pub(super) visit: u32,
    pub(super) children: u32,
    /// How many must succeed.
    pub(super) needed: u32,
    /// How many may be live at once.
    pub(super) limit: u32,
    /// The branches' names.
    pub(super) branches: Vec<Arc<str>>,
    pub(super) launched: u32,
    pub(super) live: BTreeSet<u32>,
    /// Did not succeed before a redrive, and not sent on yet.
    pub(super) waiting: BTreeSet<u32>,
    /// How each that counts ended: whether with success, and in which record.
    pub(super) ended: BTreeMap<u32, (bool, u64)>,
    /// Up to this record of the child, what it says was before a redrive.
    pub(super) stale: BTreeMap<u32, u64>,
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    pub(super) released: bool,
}

/// A scope's pauses.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    pub(super) own: bool,
    pub(super) by_parent: bool,
    pub(super) since: Option<Timestamp>,
    /// Both kinds took part in the present one.
    pub(super) mixed: bool,
    /// By how much the clocks were moved so far, in milliseconds.
    pub(super) shift: u64,
    /// The parent's `shift`, as far as it was taken over.
    pub(super) parent_shift: u64,
    /// Every value that `shift` ever had.
    pub(super) shifts: BTreeSet<u64>,
}

/// A signal in an inbox.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) payload: expression::Value,
    pub(super) at: Timestamp,
}

/// What a claim's worker showed of itself.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) by: ProcessId,
    pub(super) key: u32,
    /// The record that claims.
    pub(super) seq: u64,
    /// When the record took effect, by the world's time.
    pub(super) seen: Timestamp,
    /// Until then it counts as alive.
    pub(super) until: Timestamp,
    /// There was a moment at which it did not.
    pub(super) lapsed: bool,
    /// The call made for it.
    pub(super) call: Option<u64>,
}

impl Pauses {
    pub(super) fn is_paused(&self) -> bool {
        self.own || self.by_parent
    }
}

impl Fork {
    /// The path's last part of a child.
    pub(super) fn child_key(&self, index: u32) -> ChildKey {
        self.branches
            .get(index as usize)
            .map_or(ChildKey::Index(index), |name| ChildKey::Branch(name.clone()))
    }

    pub(super) fn child(&self, parent: &ScopeKey, index: u32) -> ScopeKey {
        let path = parent.path.child(&self.state, self.visit, &self.child_key(index));
        ScopeKey::new(parent.run.clone(), path)
    }

    /// As many succeeded as were needed.
    pub(super) fn is_joined(&self) -> bool {
        self.succeeded >= self.needed
    }

    /// Too many failed.
    pub(super) fn is_lost(&self) -> bool {
        self.failed > self.children.saturating_sub(self.needed)
    }
}

impl Line {
    pub(super) fn new(key: ScopeKey, workflow: Option<Arc<Workflow>>) -> Self {
        Self {
            key,
            stored: Vec::new(),
            records: Vec::new(),
            workflow,
            parent: None,
            origin: None,
            frames: vec![Frame::default()],
            leaf: Leaf::None,
            failed: false,
            visits: BTreeMap::new(),
            received: BTreeMap::new(),
            deadline: None,
            pauses: Pauses { shifts: BTreeSet::from([0]), ..Pauses::default() },
            paused_since: None,
            ending: false,
            ending_since: None,
            outcome: None,
            redrives: 0,
            sent: Vec::new(),
        }
    }

    /// The time of its last record.
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.records.last().map(|record| record.at)
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pauses.is_paused()
    }

    /// The state that is entered, innermost.
    pub(super) fn state(&self) -> Option<&State> {
        let address = self.frames.last()?.state.as_ref()?;
        self.workflow.as_ref()?.state_at(address)
    }

    /// The question that is still open.
    pub(super) fn question(&self) -> Option<&Question> {
        match &self.leaf {
            Leaf::Approval(question)
                if !self.is_over() && !self.failed && !question.timed_out && question.decided.is_none() =>
            {
                Some(question)
            }
            _ => None,
        }
    }

    /// The attempt that a worker has.
    pub(super) fn claimed(&self) -> Option<&Step> {
        match &self.leaf {
            Leaf::Step(step) if step.phase == StepPhase::Claimed && !self.is_over() && !self.failed => {
                Some(step)
            }
            _ => None,
        }
    }

    /// The children it waits for.
    pub(super) fn live_children(&self) -> Vec<ScopeKey> {
        if self.is_over() || self.failed {
            return Vec::new();
        }
        match &self.leaf {
            Leaf::Fork(fork) => fork.live.iter().map(|index| fork.child(&self.key, *index)).collect(),
            Leaf::ChildRun { run, ended: None, .. } => vec![ScopeKey::root(run.clone())],
            _ => Vec::new(),
        }
    }

    /// Its earliest deadline, as far as one will be looked at.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.is_paused() || self.is_over() || self.ending {
            return None;
        }
        let released = match &self.leaf {
            Leaf::Fork(fork) => fork.released,
            Leaf::ChildRun { released, ended, .. } => *released && ended.is_none(),
            _ => false,
        };
        if released && !self.failed {
            return self.deadline;
        }
        let leaf = match &self.leaf {
            _ if self.failed => None,
            Leaf::Signal { deadline, over: false, .. } => *deadline,
            Leaf::Approval(question) if !question.timed_out && question.decided.is_none() => {
                Some(question.deadline)
            }
            Leaf::Timer { until, over: false, .. }
            | Leaf::Step(Step { phase: StepPhase::Backoff { until, .. }, .. }) => Some(*until),
            _ => None,
        };
        let frames = self.frames.iter().filter_map(|frame| frame.deadline);
        frames.chain(leaf).chain(self.deadline).min()
    }

    /// A record was taken, at this moment of the world's.
    pub(super) fn seen(&mut self, at: Timestamp) {
        self.paused_since = self.is_paused().then(|| self.paused_since.unwrap_or(at));
        self.ending_since = self.ending.then(|| self.ending_since.unwrap_or(at));
    }

    /// Takes an event of the record that follows.
    pub(super) fn apply(&mut self, event: &Event, seq: u64, at: Timestamp) {
        match event {
            Event::RunStarted(started) => {
                self.deadline = started.deadline;
                if let Some(parent) = &started.parent {
                    self.parent = Some(ScopeKey::new(parent.run.clone(), parent.scope.clone()));
                    self.pauses.parent_shift = parent.clocks.shift;
                }
            }
            Event::ScopeStarted(started) => {
                self.parent =
                    self.key.path.parent().map(|(path, _)| ScopeKey::new(self.key.run.clone(), path));
                self.origin = Some((started.fork, started.index));
                self.pauses.parent_shift = started.clocks.shift;
            }
            Event::StateEntered { state, visit, deadline } => {
                if let Some(known) = self.workflow.as_ref().and_then(|workflow| workflow.state_at(state)) {
                    self.visits.insert(known.name.clone(), *visit);
                }
                if let Some(frame) = self.frames.last_mut() {
                    *frame = Frame {
                        state: Some(state.clone()),
                        visit: *visit,
                        deadline: *deadline,
                        ..Frame::default()
                    };
                }
                self.rest();
            }
            Event::StateSkipped { next, .. } | Event::StateCompleted { next, .. } => {
                self.go_on(next.is_some());
            }
            Event::StepClaimed { attempt, epoch, key, .. } => self.claimed_by((*attempt, *epoch, *key)),
            Event::StepSucceeded { .. } => {
                if let Leaf::Step(step) = &mut self.leaf {
                    step.phase = StepPhase::Succeeded;
                }
            }
            Event::StepFailed { definite, retry_at, .. } => {
                if let Leaf::Step(step) = &mut self.leaf {
                    let definite = *definite;
                    step.phase = match retry_at {
                        Some(until) => StepPhase::Backoff { until: *until, definite },
                        None => StepPhase::Failed { definite },
                    };
                }
                if retry_at.is_none() {
                    self.fail();
                }
            }
            Event::TimerStarted { until, absolute } => {
                self.leaf = Leaf::Timer { until: *until, absolute: *absolute, over: false };
            }
            Event::TimerFired {} => {
                if let Leaf::Timer { over, .. } = &mut self.leaf {
                    *over = true;
                }
            }
            Event::SignalAwaited { name, deadline } => {
                self.leaf = Leaf::Signal { name: name.clone(), deadline: *deadline, over: false };
            }
            Event::SignalReceived { name, number, .. } => {
                self.received.insert(name.clone(), *number);
                if let Leaf::Signal { over, .. } = &mut self.leaf {
                    *over = true;
                }
            }
            Event::ApprovalRequested(request) => {
                self.leaf = Leaf::Approval(Box::new(Question {
                    deadline: request.deadline,
                    request: (**request).clone(),
                    votes: Vec::new(),
                    timed_out: false,
                    decided: None,
                }));
            }
            Event::ApprovalVoted { vote } => {
                if let Leaf::Approval(question) = &mut self.leaf {
                    question.votes.push(vote.clone());
                }
            }
            Event::ApprovalDecided { approved, .. } => {
                if let Leaf::Approval(question) = &mut self.leaf {
                    question.decided = Some(*approved);
                }
            }
            Event::WaitTimedOut {} => match &mut self.leaf {
                Leaf::Approval(question) => question.timed_out = true,
                Leaf::Signal { over, .. } => *over = true,
                _ => {}
            },
            Event::Forked { children, .. } => self.forked(*children, seq),
            Event::ChildrenLaunched { upto, again } => {
                if let Leaf::Fork(fork) = &mut self.leaf {
                    fork.live.extend(again.iter().filter(|index| fork.waiting.remove(*index)));
                    fork.live.extend(fork.launched..*upto);
                    fork.launched = fork.launched.max(*upto);
                }
            }
            Event::ChildrenEnded { ended, .. } => self.children_ended(ended),
            Event::ChildrenReleased {} => match &mut self.leaf {
                Leaf::Fork(fork) => fork.released = true,
                Leaf::ChildRun { released, .. } => *released = true,
                _ => {}
            },
            Event::SubworkflowRequested { run, .. } => {
                self.leaf =
                    Leaf::ChildRun { seq, run: run.clone(), ended: None, stale: None, released: false };
            }
            Event::BlockEntered { block } => {
                let replaces = *block == BlockRole::Finally
                    && self.frames.len() > 1
                    && self.frames.last().is_some_and(|frame| frame.failed);
                if replaces {
                    self.frames.pop();
                }
                if let Some(frame) = self.frames.last_mut() {
                    frame.returned = None;
                }
                self.frames.push(Frame { role: Some(*block), ..Frame::default() });
                self.rest();
            }
            Event::ErrorCaught { clause, .. } => {
                self.frames.pop();
                self.frames.push(Frame { role: Some(BlockRole::Catch(*clause)), ..Frame::default() });
                self.rest();
            }
            Event::BlockLeft {} => {
                self.frames.pop();
                self.rest();
                if let Some(frame) = self.frames.last_mut() {
                    frame.failed = true;
                }
            }
            Event::ErrorRaised { floor, .. } => {
                if let Some(frame) = floor.and_then(|floor| self.frames.get_mut(floor as usize)) {
                    frame.deadline = None;
                    frame.timed_out = true;
                }
                if !self.is_before_finally() {
                    self.fail();
                }
            }
            Event::StateComputed { .. } | Event::LateResult { .. } => {}
            Event::Paused { inherited, .. } => {
                self.pauses.mixed = self.pauses.since.is_some();
                self.pauses.since.get_or_insert(at);
                if inherited.is_some() {
                    self.pauses.by_parent = true;
                } else {
                    self.pauses.own = true;
                }
            }
            Event::Resumed { shift, inherited, .. } => self.resumed(*shift, *inherited),
            Event::CancelRequested { .. } | Event::DeadlinePassed {} => self.ending = true,
            Event::Redriven { inherited, .. } => self.redriven(*inherited, at),
            Event::Ended { outcome } => {
                self.outcome = Some((seq, outcome.clone()));
                self.ending = false;
            }
            Event::SignalSent { id, name, payload, .. } => {
                self.sent.push(Sent { id: id.clone(), name: name.clone(), payload: payload.clone(), at });
            }
        }
    }

    /// Nothing of what went on goes on.
    fn rest(&mut self) {
        self.leaf = Leaf::None;
        self.failed = false;
    }

    fn fail(&mut self) {
        self.failed = true;
        if let Some(frame) = self.frames.last_mut() {
            frame.failed = true;
        }
    }

    fn go_on(&mut self, next: bool) {
        self.rest();
        let role = self.frames.last().and_then(|frame| frame.role);
        if let Some(frame) = self.frames.last_mut() {
            *frame = Frame { role, ..Frame::default() };
        }
        if !next && self.frames.len() > 1 {
            self.frames.pop();
            if let Some(frame) = self.frames.last_mut() {
                frame.returned = role;
            }
        }
    }

    /// A block of a `try` has ended, and its `finally` is still to come: an error waits for that.
    fn is_before_finally(&self) -> bool {
        let returned = self.frames.last().and_then(|frame| frame.returned);
        let finally = self
            .state()
            .is_some_and(|state| matches!(&state.kind, Kind::Try(handler) if handler.finally.is_some()));
        finally && matches!(returned, Some(BlockRole::Try | BlockRole::Catch(_)))
    }

    fn claimed_by(&mut self, (attempt, epoch, key): (u32, u32, u32)) {
        if let Leaf::Step(step) = &mut self.leaf {
            if attempt != step.attempt {
                step.epochs_before = 0;
            }
            step.attempt = attempt;
            step.epoch = epoch;
            step.key = key;
            step.phase = StepPhase::Claimed;
            return;
        }
        let Some(state) = self.state().map(|state| state.name.clone()) else { return };
        let visit = self.frames.last().map_or(0, |frame| frame.visit);
        let id = StepId::new(&self.key.run, &self.key.path, &state, visit);
        self.leaf = Leaf::Step(Step {
            id,
            attempt,
            attempts_before: 0,
            epoch,
            epochs_before: 0,
            key,
            phase: StepPhase::Claimed,
        });
    }

    fn forked(&mut self, children: u32, seq: u64) {
        let Some(state) = self.state() else { return };
        let (needed, limit, branches) = match &state.kind {
            Kind::Parallel(parallel) => {
                let needed = match parallel.join.mode {
                    model::JoinMode::All => children,
                    model::JoinMode::Count(count) => count.min(children),
                };
                let names = parallel.branches.iter().map(|branch| branch.name.clone()).collect();
                (needed, children, names)
            }
            Kind::Foreach(foreach) => (children, foreach.max_concurrency.max(1), Vec::new()),
            _ => (children, children, Vec::new()),
        };
        let (state, visit) = (state.name.clone(), self.frames.last().map_or(0, |frame| frame.visit));
        self.leaf = Leaf::Fork(Box::new(Fork {
            seq,
            state,
            visit,
            children,
            needed,
            limit,
            branches,
            launched: 0,
            live: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ended: BTreeMap::new(),
            stale: BTreeMap::new(),
            succeeded: 0,
            failed: 0,
            released: false,
        }));
    }

    fn children_ended(&mut self, ends: &[engine::ChildEnded]) {
        let ending = self.ending;
        match &mut self.leaf {
            Leaf::Fork(fork) => {
                for end in ends {
                    if !fork.live.remove(&end.index) {
                        continue;
                    }
                    let completed = matches!(end.outcome, Outcome::Completed { .. });
                    let cancelled = matches!(end.outcome, Outcome::Cancelled { .. });
                    if fork.released || (ending && cancelled) {
                        fork.ended.insert(end.index, (false, end.seq));
                        continue;
                    }
                    fork.succeeded += u32::from(completed);
                    fork.failed += u32::from(!completed);
                    fork.ended.insert(end.index, (completed, end.seq));
                }
            }
            Leaf::ChildRun { ended, .. } => {
                if let Some(end) = ends.first() {
                    *ended = Some((end.seq, end.outcome.clone()));
                }
            }
            _ => {}
        }
    }

    fn resumed(&mut self, shift: u64, inherited: Option<Inherited>) {
        match inherited {
            Some(parent) => {
                self.pauses.by_parent = false;
                self.pauses.parent_shift = parent.shift;
            }
            None => self.pauses.own = false,
        }
        if !self.pauses.is_paused() {
            self.pauses.since = None;
            self.pauses.mixed = false;
        }
        self.pauses.shift += shift;
        self.pauses.shifts.insert(self.pauses.shift);
        let moved = |time: &mut Timestamp| *time = later(*time, shift);
        self.deadline.iter_mut().for_each(moved);
        self.frames.iter_mut().filter_map(|frame| frame.deadline.as_mut()).for_each(moved);
        match &mut self.leaf {
            Leaf::Timer { until, absolute: false, .. }
            | Leaf::Step(Step { phase: StepPhase::Backoff { until, .. }, .. }) => moved(until),
            Leaf::Signal { deadline, .. } => deadline.iter_mut().for_each(moved),
            Leaf::Approval(question) => moved(&mut question.deadline),
            _ => {}
        }
    }

    fn redriven(&mut self, inherited: Option<Inherited>, at: Timestamp) {
        if let Some(parent) = inherited {
            self.pauses.by_parent = false;
            self.pauses.parent_shift = parent.shift;
        }
        self.pauses.own = false;
        self.redrives += 1;
        self.outcome = None;
        self.ending = false;
        let failed = std::mem::take(&mut self.failed);
        // Its clocks begin anew: how long it stood still before does not move them.
        self.pauses.since = self.pauses.is_paused().then_some(at);
        self.pauses.mixed = false;
        let Some(workflow) = self.workflow.clone() else { return };
        if self.deadline.is_some() {
            self.deadline = workflow.timeout.map(|timeout| later(at, timeout.0));
        }
        for frame in &mut self.frames {
            let state = frame.state.as_ref().and_then(|state| workflow.state_at(state));
            let composite = state.filter(|state| is_composite(state)).and_then(|state| state.timeout);
            frame.deadline = composite.map(|timeout| later(at, timeout.0));
            frame.failed = false;
        }
        let mut again = true;
        match &mut self.leaf {
            Leaf::Step(step) => match step.phase {
                StepPhase::Claimed => {
                    step.epochs_before = step.epoch;
                    step.attempts_before = step.attempt - 1;
                }
                StepPhase::Backoff { .. } if failed => again = false,
                StepPhase::Backoff { definite, .. } | StepPhase::Failed { definite: definite @ false } => {
                    step.attempts_before = step.attempt;
                    step.phase = StepPhase::Backoff { until: at, definite };
                }
                StepPhase::Failed { .. } => again = false,
                StepPhase::Succeeded => {}
            },
            Leaf::Fork(fork) => {
                let unfinished: Vec<_> = fork
                    .ended
                    .iter()
                    .filter(|(_, (completed, _))| !completed)
                    .map(|(i, e)| (*i, e.1))
                    .collect();
                for (index, seq) in unfinished {
                    fork.ended.remove(&index);
                    fork.waiting.insert(index);
                    fork.stale.insert(index, seq);
                }
                fork.failed = 0;
                fork.released = false;
            }
            Leaf::ChildRun { ended, stale, released, .. } => {
                if let Some((seq, _)) =
                    ended.take_if(|(_, outcome)| !matches!(outcome, Outcome::Completed { .. }))
                {
                    *stale = Some(seq);
                }
                *released = false;
            }
            Leaf::None | Leaf::Timer { over: true, .. } | Leaf::Signal { over: true, .. } => {}
            Leaf::Approval(question) if question.decided.is_some() => {}
            Leaf::Timer { .. } | Leaf::Signal { .. } | Leaf::Approval(_) => again = false,
        }
        if !again {
            self.leaf = Leaf::None;
        }
    }
}

/// Whether a state's `timeoutSeconds` limits it as a whole.
fn is_composite(state: &State) -> bool {
    matches!(
        state.kind,
        Kind::Parallel(_) | Kind::Foreach(_) | Kind::While(_) | Kind::Try(_) | Kind::Workflow(_)
    )
}

/// `time` moved by milliseconds, or the end of time.
pub(super) fn later(time: Timestamp, milliseconds: u64) -> Timestamp {
    let duration = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
