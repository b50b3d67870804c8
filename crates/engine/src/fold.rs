//! The fold: what each event makes of a scope. It evaluates nothing and decides nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use expression::Object;
use expression::Path;
use expression::Segment;
use expression::Value;
use jiff::SignedDuration;
use jiff::Timestamp;
use model::Block;
use model::Kind;
use model::State;
use model::StateId;
use model::Workflow;

use crate::BlockRole;
use crate::Error;
use crate::Event;
use crate::Inherited;
use crate::Outcome;
use crate::RunStarted;
use crate::ScopeStarted;
use crate::scope::Claimed;
use crate::scope::Ending;
use crate::scope::Flow;
use crate::scope::Fork;
use crate::scope::Frame;
use crate::scope::Inside;
use crate::scope::Pending;
use crate::scope::Phase;
use crate::scope::Scope;
use crate::scope::Subworkflow;

impl Scope {
    /// Folds one event that happened at `at`. An event that does not fit the scope (only a journal altered by hand has one)
    /// changes nothing.
    pub(crate) fn apply(&mut self, workflow: &Workflow, event: &Event, at: Timestamp) {
        match event {
            Event::RunStarted(started) => self.run_started(workflow, started, at),
            Event::ScopeStarted(started) => self.scope_started(workflow, started, at),

            Event::StateEntered { state, visit, deadline } => {
                let Some(state) = workflow.state_at(state) else { return };
                self.visits.insert(state.name.clone(), *visit);
                if let Some(frame) = self.frames.last_mut() {
                    frame.cursor = state.id;
                    frame.visit = *visit;
                    frame.phase = Phase::Entered;
                    frame.entered = at;
                    frame.deadline = *deadline;
                }
            }
            Event::StateSkipped { next, .. } => self.go_on(workflow, next.as_deref()),
            Event::StepClaimed { attempt, epoch, key, worker, request, secrets } => {
                self.step_claimed((*attempt, *epoch, *key), worker, request.as_ref(), secrets, at);
            }
            Event::StepSucceeded { output, .. } => {
                self.set_phase(Phase::Done { output: Some(output.clone()) });
            }
            Event::StepFailed { error, definite, retry_at, .. } => {
                self.step_failed(error, *definite, *retry_at);
            }

            Event::TimerStarted { until, absolute } => {
                self.set_phase(Phase::Timer { until: *until, absolute: *absolute });
            }
            Event::TimerFired {} => self.set_phase(Phase::Done { output: None }),
            Event::SignalAwaited { name, deadline } => {
                self.set_phase(Phase::Signal { name: name.clone(), deadline: *deadline });
            }
            Event::SignalReceived { name, number, payload } => {
                self.signals.insert(name.clone(), *number);
                self.set_phase(Phase::Done { output: Some(payload.clone()) });
            }
            Event::ApprovalRequested(request) => {
                self.set_phase(Phase::Approval { request: request.clone(), votes: Vec::new() });
            }
            Event::ApprovalVoted { vote } => {
                if let Some(Phase::Approval { votes, .. }) =
                    self.frames.last_mut().map(|frame| &mut frame.phase)
                {
                    votes.push(vote.clone());
                }
            }
            Event::ApprovalDecided { output, .. } => {
                self.write_result(workflow, output);
                self.set_phase(Phase::Done { output: Some(output.clone()) });
            }
            Event::WaitTimedOut {} => {
                let approval = matches!(self.top().map(|frame| &frame.phase), Some(Phase::Approval { .. }));
                self.set_phase(Phase::WaitTimedOut { approval });
            }

            Event::Forked { children, items } => {
                let seq = self.seq + 1;
                self.set_phase(Phase::Fork(Box::new(Fork {
                    seq,
                    children: *children,
                    items: items.clone(),
                    launched: 0,
                    live: BTreeSet::new(),
                    waiting: BTreeSet::new(),
                    stale: BTreeMap::new(),
                    ended: BTreeMap::new(),
                    succeeded: 0,
                    failed: 0,
                    first_failed: None,
                    released: false,
                })));
            }
            Event::ChildrenLaunched { upto, again } => {
                if let Some(fork) = self.fork_mut() {
                    fork.live.extend(fork.launched..*upto);
                    fork.launched = *upto;
                    fork.live.extend(again.iter().filter(|index| fork.waiting.remove(*index)));
                }
            }
            Event::ChildrenEnded { fork, ended } => self.children_ended(*fork, ended),
            Event::ChildrenReleased {} => {
                self.control.version += 1;
                match self.frames.last_mut().map(|frame| &mut frame.phase) {
                    Some(Phase::Fork(fork)) => fork.released = true,
                    Some(Phase::Subworkflow(child)) => child.released = true,
                    _ => {}
                }
            }
            Event::SubworkflowRequested { run, workflow, version, input } => {
                self.set_phase(Phase::Subworkflow(Box::new(Subworkflow {
                    seq: self.seq + 1,
                    run: run.clone(),
                    workflow: workflow.clone(),
                    version: version.clone(),
                    input: input.clone(),
                    ended: None,
                    stale: None,
                    released: false,
                })));
            }

            Event::BlockEntered { block } => self.block_entered(workflow, *block, at),
            Event::ErrorCaught { clause, error } => self.error_caught(workflow, *clause, error, at),
            Event::BlockLeft {} => self.block_left(),
            Event::ErrorRaised { error, floor } => self.error_raised(workflow, error, *floor),
            Event::StateComputed { output } => self.set_phase(Phase::Done { output: Some(output.clone()) }),
            Event::StateCompleted { output, writes, next } => {
                self.state_completed(workflow, output.as_ref(), writes, next.as_deref());
            }

            Event::Paused { inherited, .. } => {
                self.control.mixed = self.control.stopped.is_some();
                self.control.stopped.get_or_insert(at);
                self.control.version += 1;
                if let Some(version) = inherited {
                    self.control.parent.version = *version;
                    self.control.paused_by_parent = true;
                } else {
                    self.control.paused = Some(at);
                }
            }
            Event::Resumed { shift, inherited, .. } => self.resumed(*shift, *inherited),
            Event::CancelRequested { reason, inherited, .. } => {
                self.control.version += 1;
                if let Some(version) = inherited {
                    self.control.parent.version = *version;
                }
                self.ending = Some(Ending::Cancelled { reason: reason.clone() });
            }
            Event::DeadlinePassed {} => {
                self.control.version += 1;
                let error =
                    Error::new(crate::error_type::TIMEOUT, "the run took longer than its timeoutSeconds")
                        .with_code(crate::code::RUN_TIMED_OUT);
                self.ending = Some(Ending::TimedOut { error });
            }
            Event::Redriven { inherited, .. } => self.redriven(workflow, *inherited, at),
            Event::Ended { outcome } => {
                self.outcome = Some(outcome.clone());
                self.ending = None;
            }
            Event::LateResult { .. } | Event::SignalSent { .. } => {}
        }
    }

    fn run_started(&mut self, workflow: &Workflow, started: &RunStarted, at: Timestamp) {
        let mut context = started.input.as_object().map_or_else(Object::new, |input| {
            input
                .iter()
                .filter(|(key, _)| !is_reserved(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        });
        let mut about = Object::new();
        about.insert("id", started.workflow.as_ref());
        about.insert("version", started.version.as_ref());
        about.insert("input", started.input.clone());
        about.insert("runId", started.run.as_str());
        about.insert("startedAt", at.to_string());
        context.insert("workflow", Value::from(about));
        context.insert("steps", Value::object());
        self.context = Value::from(context);
        self.flow = Flow { value: started.input.clone(), from: None };
        self.deadline = started.deadline;
        if let Some(parent) = &started.parent {
            self.control.parent = parent.clocks;
        }
        self.run = Some(Arc::new(started.clone()));
        self.started = at;
        self.push_frame(None, &workflow.root, at);
    }

    fn scope_started(&mut self, workflow: &Workflow, started: &ScopeStarted, at: Timestamp) {
        let Some(base) = self.base.take() else { return };
        let Some(state) = workflow.state_at(&started.state) else { return };
        let block = match &state.kind {
            Kind::Parallel(parallel) => {
                parallel.branches.get(started.index as usize).map(|branch| &branch.block)
            }
            Kind::Foreach(foreach) => Some(&foreach.block),
            _ => None,
        };
        let Some(block) = block else { return };
        self.context = base.context.clone();
        self.flow = base.flow.clone();
        self.iteration.clone_from(&base.iteration);
        self.signals.clone_from(&base.signals);
        self.caught.clone_from(&base.caught);
        self.control.parent = started.clocks;
        if let Some(item_name) = &base.item_name {
            if self.flow.value.as_object().is_none() {
                self.flow = Flow { value: Value::object(), from: None };
            }
            let item = started.item.clone().unwrap_or_default();
            let names: [(Arc<str>, Value); 4] = [
                (item_name.clone(), item.clone()),
                ("_item".into(), item),
                ("_index".into(), Value::Int(started.index.into())),
                ("_total".into(), Value::Int(base.total.into())),
            ];
            for (name, value) in names {
                if let Some(context) = self.context.object_mut() {
                    context.insert(name.clone(), value.clone());
                }
                if let Some(input) = self.flow.value.object_mut() {
                    input.insert(name.clone(), value.clone());
                }
                self.iteration.retain(|(known, _)| *known != name);
                self.iteration.push((name, value));
            }
        }
        self.origin = Some(started.clone());
        self.push_frame(None, block, at);
    }

    fn push_frame(&mut self, role: Option<BlockRole>, block: &Block, at: Timestamp) {
        self.frames.push(Frame {
            role,
            cursor: block.start,
            visit: 0,
            phase: Phase::Enter,
            entered: at,
            deadline: None,
            error: None,
        });
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(frame) = self.frames.last_mut() {
            frame.phase = phase;
        }
    }

    fn fork_mut(&mut self) -> Option<&mut Fork> {
        match self.frames.last_mut().map(|frame| &mut frame.phase) {
            Some(Phase::Fork(fork)) => Some(fork),
            _ => None,
        }
    }

    fn step_claimed(
        &mut self,
        (attempt, epoch, key): (u32, u32, u32),
        worker: &Arc<str>,
        request: Option<&Value>,
        secrets: &[expression::SecretSlot],
        at: Timestamp,
    ) {
        let Some(frame) = self.frames.last_mut() else { return };
        let before = match std::mem::replace(&mut frame.phase, Phase::Entered) {
            Phase::Claimed(claimed) | Phase::Backoff { next: claimed, .. } => Some(claimed),
            _ => None,
        };
        let (request, secrets, epoch_base, attempt_base) = match (request, before) {
            (None, Some(before)) => (before.request, before.secrets, before.epoch_base, before.attempt_base),
            (request, _) => (request.cloned().unwrap_or_default(), secrets.to_vec(), 0, 0),
        };
        let worker = worker.clone();
        let seq = self.seq + 1;
        frame.phase = Phase::Claimed(Claimed {
            attempt,
            epoch,
            epoch_base,
            attempt_base,
            seq,
            key,
            worker,
            at,
            request,
            secrets,
        });
    }

    fn step_failed(&mut self, error: &Error, definite: bool, retry_at: Option<Timestamp>) {
        let Some(frame) = self.frames.last_mut() else { return };
        let claimed = match std::mem::replace(&mut frame.phase, Phase::Entered) {
            Phase::Claimed(claimed) => claimed,
            other => {
                frame.phase = other;
                return;
            }
        };
        let next = Claimed {
            attempt: claimed.attempt + 1,
            epoch: 0,
            epoch_base: 0,
            key: claimed.key + u32::from(definite),
            ..claimed
        };
        frame.phase = if let Some(until) = retry_at {
            Phase::Backoff { until, next }
        } else {
            // Whoever redrives an attempt of which nobody knows whether it took effect must not give it a new key.
            let prior = (!definite).then(|| Box::new(Phase::Claimed(next)));
            Phase::Failed { error: error.clone(), floor: None, prior }
        };
    }

    fn children_ended(&mut self, seq: u64, ended: &[crate::ChildEnded]) {
        let ending = self.ending.is_some();
        match self.frames.last_mut().map(|frame| &mut frame.phase) {
            Some(Phase::Fork(fork)) if fork.seq == seq => {
                for child in ended {
                    let completed = matches!(child.outcome, Outcome::Completed { .. });
                    let stale = fork.stale.get(&child.index).is_some_and(|stale| child.seq <= *stale);
                    if stale && !completed {
                        continue;
                    }
                    // One that waits ended in a journal of the time when a redrive sent on all at once.
                    if !fork.live.remove(&child.index) && !fork.waiting.remove(&child.index) {
                        continue;
                    }
                    let cancelled = matches!(child.outcome, Outcome::Cancelled { .. });
                    if fork.released || (ending && cancelled) {
                        fork.ended.insert(child.index, (child.seq, None));
                        continue;
                    }
                    if completed {
                        fork.succeeded += 1;
                    } else {
                        fork.failed += 1;
                        fork.first_failed.get_or_insert(child.index);
                    }
                    fork.ended.insert(child.index, (child.seq, Some(child.outcome.clone())));
                }
            }
            Some(Phase::Subworkflow(child)) if child.seq == seq && child.ended.is_none() => {
                child.ended = ended
                    .first()
                    .filter(|ended| {
                        child.stale.is_none_or(|stale| ended.seq > stale)
                            || matches!(ended.outcome, Outcome::Completed { .. })
                    })
                    .map(|ended| (ended.seq, ended.outcome.clone()));
            }
            _ => {}
        }
    }

    fn block_entered(&mut self, workflow: &Workflow, role: BlockRole, at: Timestamp) {
        // A `finally` after a failure takes the place of the block that failed.
        if role == BlockRole::Finally
            && let Some(Phase::Failed { error, floor, .. }) = self.top().map(|frame| &frame.phase)
            && self.frames.len() > 1
        {
            let pending = Pending::Raise { error: error.clone(), floor: *floor };
            self.frames.pop();
            if let Some(Phase::Inside(inside)) = self.frames.last_mut().map(|frame| &mut frame.phase) {
                inside.pending = Some(pending);
            }
        }
        let flow = self.flow.clone();
        let Some(frame) = self.frames.last_mut() else { return };
        let Some(block) = block_of(workflow, frame.cursor, role) else { return };
        match &mut frame.phase {
            Phase::Inside(inside) => {
                if let (BlockRole::Finally, Some((_, value))) = (role, inside.returned.take()) {
                    inside.pending.get_or_insert(Pending::Complete(value));
                }
                inside.rounds += u64::from(role == BlockRole::While);
                self.flow = inside.input.clone();
            }
            phase => {
                *phase = Phase::Inside(Box::new(Inside {
                    input: flow,
                    rounds: u64::from(role == BlockRole::While),
                    returned: None,
                    pending: None,
                }));
            }
        }
        self.push_frame(Some(role), block, at);
    }

    fn error_caught(&mut self, workflow: &Workflow, clause: u32, error: &Error, at: Timestamp) {
        self.frames.pop();
        let Some(cursor) = self.frames.last().map(|frame| frame.cursor) else { return };
        let Some(Kind::Try(handler)) = workflow.state(cursor).map(|state| &state.kind) else { return };
        let Some(catch) = handler.catch.get(clause as usize) else { return };
        let value = error_value(error);
        if let Some(name) = &catch.bind
            && let Some(context) = self.context.object_mut()
        {
            context.insert(name.clone(), value.clone());
        }
        self.flow = Flow { value, from: None };
        self.push_frame(Some(BlockRole::Catch(clause)), &catch.block, at);
        if let Some(frame) = self.frames.last_mut() {
            frame.error = Some(error.clone());
        }
    }

    fn block_left(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if let Phase::Failed { error, floor, .. } = frame.phase {
            self.set_phase(Phase::Failed { error, floor, prior: None });
        }
    }

    fn error_raised(&mut self, workflow: &Workflow, error: &Error, floor: Option<u32>) {
        if let Some(floor) = floor
            && let Some(frame) = self.frames.get_mut(floor as usize)
        {
            // It has fired; the `finally` on the way out is not held to it.
            frame.deadline = None;
        }
        let Some(frame) = self.frames.last_mut() else { return };
        // Its block has ended, its `finally` is still to come: the error waits for that.
        if let Phase::Inside(inside) = &mut frame.phase
            && let Some((BlockRole::Try | BlockRole::Catch(_), _)) = inside.returned
            && block_of(workflow, frame.cursor, BlockRole::Finally).is_some()
        {
            inside.pending = Some(Pending::Raise { error: error.clone(), floor });
            return;
        }
        let prior = match std::mem::replace(&mut frame.phase, Phase::Entered) {
            prior @ (Phase::Fork(_) | Phase::Subworkflow(_) | Phase::Claimed(_)) => Some(Box::new(prior)),
            _ => None,
        };
        frame.phase = Phase::Failed { error: error.clone(), floor, prior };
    }

    fn state_completed(
        &mut self,
        workflow: &Workflow,
        output: Option<&Value>,
        writes: &[(Arc<str>, Value)],
        next: Option<&str>,
    ) {
        let known = match self.frames.last_mut().map(|frame| &mut frame.phase) {
            Some(Phase::Done { output }) => output.take(),
            _ => None,
        };
        self.wrote = false;
        let Some(frame) = self.frames.last() else { return };
        let Some(state) = workflow.state(frame.cursor) else { return };
        if let Some(output) = output.or(known.as_ref()) {
            let output = output.clone();
            self.write_result(workflow, &output);
            self.flow = Flow { value: output, from: Some(state.name.clone()) };
        } else if let Some(Phase::Inside(inside)) = self.frames.last().map(|frame| &frame.phase) {
            self.flow = inside.input.clone();
        }
        for (key, value) in writes {
            if let Some(context) = self.context.object_mut() {
                context.insert(key.clone(), value.clone());
            }
            self.note_write(|writes| {
                writes.insert(key.clone(), value.clone());
            });
        }
        self.go_on(workflow, next);
    }

    /// Writes the current state's output under `steps` and where its `resultPath` says. Writing it twice changes nothing.
    fn write_result(&mut self, workflow: &Workflow, output: &Value) {
        let Some(state) = self.top().and_then(|frame| workflow.state(frame.cursor)) else { return };
        if let Some(steps) =
            self.context.object_mut().and_then(|context| context.get_mut("steps")).and_then(Value::object_mut)
        {
            steps.insert(state.name.clone(), output.clone());
        }
        let Some(path) = &state.result_path else { return };
        // A write that cannot be made was refused before the event was made.
        let _ = path.write(&mut self.context, output.clone());
        if !is_in_steps(path) {
            let path = path.clone();
            self.wrote = true;
            if self.origin.is_some() {
                let _ = path.write(&mut self.writes, output.clone());
            }
        }
    }

    fn note_write(&mut self, write: impl FnOnce(&mut Object)) {
        self.wrote = true;
        if self.origin.is_some()
            && let Some(writes) = self.writes.object_mut()
        {
            write(writes);
        }
    }

    /// Moves the cursor; at the end of a list inside a composite state, back to that state.
    fn go_on(&mut self, workflow: &Workflow, next: Option<&str>) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.deadline = None;
        if let Some(next) = next.and_then(|next| workflow.state_at(next)) {
            frame.cursor = next.id;
            frame.phase = Phase::Enter;
            return;
        }
        frame.phase = Phase::ListEnded;
        let Some(role) = frame.role else { return };
        self.frames.pop();
        let output = self.flow.value.clone();
        if let Some(Phase::Inside(inside)) = self.frames.last_mut().map(|frame| &mut frame.phase) {
            inside.returned = Some((role, output));
        }
    }

    fn resumed(&mut self, shift: u64, inherited: Option<Inherited>) {
        match inherited {
            Some(parent) => {
                self.control.paused_by_parent = false;
                self.control.parent.version = parent.version;
                self.control.parent.shift = parent.shift;
            }
            None => self.control.paused = None,
        }
        if !self.is_paused() {
            self.control.stopped = None;
            self.control.mixed = false;
        }
        self.control.version += 1;
        self.control.shift += shift;
        let moved = |time: &mut Timestamp| *time = later(*time, shift);
        self.deadline.iter_mut().for_each(moved);
        for frame in &mut self.frames {
            frame.deadline.iter_mut().for_each(moved);
            match &mut frame.phase {
                Phase::Timer { until, absolute: false } | Phase::Backoff { until, .. } => moved(until),
                Phase::Signal { deadline, .. } => deadline.iter_mut().for_each(moved),
                Phase::Approval { request, .. } => moved(&mut request.deadline),
                _ => {}
            }
        }
    }

    fn redriven(&mut self, workflow: &Workflow, inherited: Option<Inherited>, at: Timestamp) {
        if let Some(parent) = inherited {
            self.control.parent = parent;
            self.control.paused_by_parent = false;
        }
        // A pause does not outlive the cancel that ended the run.
        self.control.paused = None;
        self.control.version += 1;
        self.control.redrives += 1;
        // Its deadlines begin anew: how long it stood still before does not shift them.
        self.control.stopped = self.is_paused().then_some(at);
        self.control.mixed = false;
        self.outcome = None;
        self.ending = None;
        if self.deadline.is_some() {
            self.deadline = workflow.timeout.map(|timeout| later(at, timeout.0));
        }
        for frame in &mut self.frames {
            let composite = workflow.state(frame.cursor).filter(|state| is_composite(state));
            frame.deadline = composite.and_then(|state| state.timeout).map(|timeout| later(at, timeout.0));
        }
        let Some(frame) = self.frames.last_mut() else { return };
        frame.phase = match std::mem::replace(&mut frame.phase, Phase::Entered) {
            Phase::Failed { prior: Some(prior), .. } => again(*prior, at),
            Phase::Failed { .. }
            | Phase::Timer { .. }
            | Phase::Signal { .. }
            | Phase::Approval { .. }
            | Phase::WaitTimedOut { .. } => Phase::Enter,
            other => again(other, at),
        };
    }
}

/// What goes on after a redrive: an attempt under its old key, a fork or child run whose failed and cancelled children go on.
fn again(phase: Phase, at: Timestamp) -> Phase {
    match phase {
        // An epoch that was claimed and never answered: the next claim takes it over.
        Phase::Claimed(claimed) if claimed.epoch > 0 => Phase::Claimed(Claimed {
            epoch_base: claimed.epoch,
            attempt_base: claimed.attempt - 1,
            ..claimed
        }),
        Phase::Claimed(next) | Phase::Backoff { next, .. } => {
            Phase::Backoff { until: at, next: Claimed { attempt_base: next.attempt - 1, ..next } }
        }
        Phase::Fork(mut fork) => {
            let unfinished = |outcome: &Option<Outcome>| !matches!(outcome, Some(Outcome::Completed { .. }));
            for (index, (seq, _)) in fork.ended.extract_if(.., |_, (_, outcome)| unfinished(outcome)) {
                fork.waiting.insert(index);
                fork.stale.insert(index, seq);
            }
            fork.failed = 0;
            fork.first_failed = None;
            fork.released = false;
            Phase::Fork(fork)
        }
        Phase::Subworkflow(mut child) => {
            if let Some((seq, _)) =
                child.ended.take_if(|(_, outcome)| !matches!(outcome, Outcome::Completed { .. }))
            {
                child.stale = Some(seq);
            }
            child.released = false;
            Phase::Subworkflow(child)
        }
        other => other,
    }
}

/// Whether a state's `timeoutSeconds` limits it as a whole.
pub(crate) fn is_composite(state: &State) -> bool {
    matches!(
        state.kind,
        Kind::Parallel(_) | Kind::Foreach(_) | Kind::While(_) | Kind::Try(_) | Kind::Workflow(_)
    )
}

pub(crate) fn is_in_steps(path: &Path) -> bool {
    matches!(path.segments().first(), Some(Segment::Key(key)) if key.as_ref() == "steps")
}

/// Root keys that only the engine writes (LANGUAGE §3).
pub(crate) fn is_reserved(key: &str) -> bool {
    matches!(key, "ctx" | "steps" | "workflow" | "input") || key.starts_with('_')
}

pub(crate) fn block_of(workflow: &Workflow, state: StateId, role: BlockRole) -> Option<&Block> {
    match (&workflow.state(state)?.kind, role) {
        (Kind::While(state), BlockRole::While) => Some(&state.block),
        (Kind::Try(state), BlockRole::Try) => Some(&state.body),
        (Kind::Try(state), BlockRole::Catch(clause)) => {
            state.catch.get(clause as usize).map(|catch| &catch.block)
        }
        (Kind::Try(state), BlockRole::Finally) => state.finally.as_ref(),
        _ => None,
    }
}

/// An error as expressions see it: `{type, message, state, attempts}`.
pub(crate) fn error_value(error: &Error) -> Value {
    let mut object = Object::new();
    object.insert("type", error.kind.as_ref());
    object.insert("message", error.message.as_ref());
    object.insert("state", error.state.as_deref().map_or(Value::Null, Value::from));
    object.insert("attempts", Value::Int(error.attempts.max(1).into()));
    Value::from(object)
}

/// `time` moved by milliseconds, or the end of time.
pub(crate) fn later(time: Timestamp, milliseconds: u64) -> Timestamp {
    let duration = SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
