//! How a scope goes on: from where it stands, as far as it can without performing anything.

use std::sync::Arc;

use expression::Value;
use jiff::Timestamp;
use model::Kind;
use model::OutputValue;
use model::StateId;

use crate::BlockRole;
use crate::Error;
use crate::Event;
use crate::Next;
use crate::Outcome;
use crate::approval;
use crate::code;
use crate::decide::Decider;
use crate::enter;
use crate::error_type;
use crate::evaluate::Evaluator;
use crate::evaluate::Unevaluated;
use crate::fold::is_in_steps;
use crate::join;
use crate::retry;
use crate::scope::Ending;
use crate::scope::Phase;
use crate::scope::Scope;

/// A record is cut here; what follows goes into the next one.
const EVENTS_PER_RECORD: usize = 64;
const BYTES_PER_RECORD: usize = 256 << 10;

/// One transition; `Some` when there is nothing more to do for now.
type Step = Option<Next>;

/// Goes on until something is to be performed, waited for or appended.
pub(crate) fn advance(decider: &mut Decider<'_>) -> Next {
    let mut bytes = 0;
    let mut seen = 0;
    loop {
        bytes += decider.events.get(seen..).unwrap_or_default().iter().map(weight).sum::<usize>();
        seen = decider.events.len();
        if seen >= EVENTS_PER_RECORD || bytes >= BYTES_PER_RECORD {
            return if decider.scope.outcome.is_some() { Next::Done } else { Next::Again { heavy: false } };
        }
        if let Some(next) = transition(decider) {
            return next;
        }
    }
}

fn transition(decider: &mut Decider<'_>) -> Step {
    if decider.scope.outcome.is_some() {
        return Some(Next::Done);
    }
    if let Some(ending) = &decider.scope.ending {
        let outcome = match ending {
            Ending::Cancelled { reason } => Outcome::Cancelled { reason: reason.clone() },
            Ending::TimedOut { error } => Outcome::TimedOut { error: error.clone() },
        };
        if decider.scope.has_live_children() {
            return Some(Next::Park);
        }
        decider.push(Event::Ended { outcome });
        return Some(Next::Done);
    }
    let now = decider.now();
    let paused = decider.scope.is_paused();
    if !paused && decider.scope.deadline.is_some_and(|deadline| now >= deadline) {
        decider.push(Event::DeadlinePassed {});
        return None;
    }
    if !paused && let Some(depth) = expired(decider.scope, now) {
        return state_timed_out(decider, depth);
    }
    // Nothing follows while paused; what is in flight is recorded where it is taken.
    if paused {
        return Some(match claim_held(decider) {
            Some(until) => Next::Held { until },
            None => Next::Park,
        });
    }
    let Some(frame) = decider.scope.frames.last() else { return Some(Next::Park) };
    match &frame.phase {
        Phase::Enter | Phase::Entered => enter::enter(decider),
        Phase::Claimed(_) => claimed(decider),
        Phase::Backoff { until, .. } => {
            let until = *until;
            backoff(decider, until, now)
        }
        Phase::Timer { until, .. } if now >= *until => {
            decider.push(Event::TimerFired {});
            None
        }
        Phase::Signal { deadline, .. } if deadline.is_some_and(|deadline| now >= deadline) => {
            decider.push(Event::WaitTimedOut {});
            None
        }
        Phase::Approval { request, .. } if now >= request.deadline => {
            decider.push(Event::WaitTimedOut {});
            None
        }
        Phase::Timer { .. } | Phase::Signal { .. } | Phase::Approval { .. } => Some(Next::Park),
        Phase::WaitTimedOut { approval: true } => approval::timed_out(decider),
        Phase::WaitTimedOut { approval: false } => signal_timed_out(decider),
        Phase::Fork(_) => join::forked(decider),
        Phase::Subworkflow(_) => join::subworkflow(decider),
        Phase::Inside(_) => returned(decider),
        Phase::Done { output } => {
            let is_approval = matches!(decider.here().map(|state| &state.kind), Some(Kind::Approval(_)));
            match output.clone() {
                Some(output) if is_approval => approval::decided(decider, &output),
                _ => complete(decider, None),
            }
        }
        Phase::Failed { error, floor, .. } => {
            let (error, floor) = (error.clone(), *floor);
            unwind(decider, error, floor)
        }
        Phase::ListEnded => Some(end(decider)),
    }
}

fn weight(event: &Event) -> usize {
    match event {
        Event::StateCompleted { output, writes, .. } => {
            output.as_ref().map_or(0, Value::deep_size)
                + writes.iter().map(|(_, value)| value.deep_size()).sum::<usize>()
        }
        Event::StepSucceeded { output, .. } => output.deep_size(),
        Event::Forked { items: Some(items), .. } => items.deep_size(),
        _ => 0,
    }
}

/// The depth of the outermost block whose composite state has run out of time.
fn expired(scope: &Scope, now: Timestamp) -> Option<usize> {
    let failing = scope.frames.last().and_then(|frame| match &frame.phase {
        Phase::Failed { floor, .. } => *floor,
        _ => None,
    });
    scope
        .frames
        .iter()
        .position(|frame| frame.deadline.is_some_and(|deadline| now >= deadline))
        .filter(|depth| failing.is_none_or(|floor| *depth < floor as usize))
}

/// A composite state took too long: its children are let go first, then it fails, from the inside out.
fn state_timed_out(decider: &mut Decider<'_>, depth: usize) -> Step {
    let live = decider.scope.has_live_children();
    let released = match decider.scope.top().map(|frame| &frame.phase) {
        Some(Phase::Fork(fork)) => fork.released,
        Some(Phase::Subworkflow(child)) => child.released,
        _ => false,
    };
    if live {
        if !released {
            decider.push(Event::ChildrenReleased {});
        }
        return Some(Next::Park);
    }
    let state = decider.scope.frames.get(depth).and_then(|frame| decider.workflow.state(frame.cursor));
    let mut error = Error::new(error_type::TIMEOUT, "took longer than its timeoutSeconds")
        .with_code(code::STATE_TIMED_OUT);
    error.state = state.map(|state| state.name.clone());
    decider.push(Event::ErrorRaised { error, floor: u32::try_from(depth).ok() });
    None
}

fn claim_held(decider: &Decider<'_>) -> Option<Timestamp> {
    match decider.scope.top().map(|frame| &frame.phase) {
        Some(Phase::Claimed(_)) => decider.env.claim_is_live_until,
        _ => None,
    }
}

fn claimed(decider: &mut Decider<'_>) -> Step {
    if let Some(until) = decider.env.claim_is_live_until {
        return Some(Next::Held { until });
    }
    if !decider.env.may_begin(decider.here().and_then(|state| state.timeout)) {
        return Some(Next::Ring);
    }
    let event = retry::take_over(decider)?;
    let performs = matches!(event, Event::StepClaimed { .. });
    decider.push(event);
    performs.then_some(Next::Perform)
}

fn backoff(decider: &mut Decider<'_>, until: Timestamp, now: Timestamp) -> Step {
    if now < until {
        return Some(Next::Park);
    }
    if !decider.env.may_begin(decider.here().and_then(|state| state.timeout)) {
        return Some(Next::Ring);
    }
    let Some(Phase::Backoff { next, .. }) = decider.scope.top().map(|frame| &frame.phase) else {
        return None;
    };
    let event = Event::StepClaimed {
        attempt: next.attempt,
        epoch: 1,
        key: next.key,
        worker: decider.env.worker.clone(),
        request: None,
        secrets: Vec::new(),
    };
    decider.push(event);
    Some(Next::Perform)
}

fn signal_timed_out(decider: &mut Decider<'_>) -> Step {
    let target = match decider.here().map(|state| &state.kind) {
        Some(Kind::Signal(signal)) => signal.on_timeout,
        _ => None,
    };
    if let Some(target) = target {
        return complete_to(decider, Some(Value::Null), Some(target));
    }
    let error = decider.timeout_error("the signal did not come in time", Some(code::SIGNAL_TIMED_OUT));
    decider.raise(error);
    None
}

/// A block inside the current state has ended.
fn returned(decider: &mut Decider<'_>) -> Step {
    let Some(Phase::Inside(inside)) = decider.scope.top().map(|frame| &frame.phase) else { return None };
    let Some(state) = decider.here() else { return Some(Next::Park) };
    match (&state.kind, &inside.returned) {
        (Kind::While(_), Some((_, last))) => {
            let (rounds, last) = (inside.rounds, last.clone());
            enter::next_round(decider, rounds, last)
        }
        (Kind::Try(handler), Some((BlockRole::Try | BlockRole::Catch(_), last))) => {
            if handler.finally.is_some() {
                decider.push(Event::BlockEntered { block: BlockRole::Finally });
                return None;
            }
            let last = last.clone();
            complete(decider, Some(last))
        }
        (Kind::Try(_), Some((BlockRole::Finally, _))) => match &inside.pending {
            Some(crate::scope::Pending::Raise { error, floor }) => {
                let event = Event::ErrorRaised { error: error.clone(), floor: *floor };
                decider.push(event);
                None
            }
            Some(crate::scope::Pending::Complete(output)) => {
                let output = output.clone();
                complete(decider, Some(output))
            }
            None => complete(decider, Some(Value::Null)),
        },
        _ => Some(Next::Park),
    }
}

/// The current state is done; execution goes on where the definition says. Without an output, the phase has it.
pub(crate) fn complete(decider: &mut Decider<'_>, output: Option<Value>) -> Step {
    let next = decider.here().and_then(|state| state.next);
    complete_to(decider, output, next)
}

/// The same, going on at `next` (`None`: the list of states has ended).
pub(crate) fn complete_to(decider: &mut Decider<'_>, output: Option<Value>, next: Option<StateId>) -> Step {
    let Some(state) = decider.here() else { return Some(Next::Park) };
    let known = match decider.scope.top().map(|frame| &frame.phase) {
        Some(Phase::Done { output: Some(output) }) => Some(output),
        _ => None,
    };
    // What passes its input on has no output of its own; where something is to be made of one, that is what it passes on.
    let passed = (output.is_none() && known.is_none() && writes_something(state))
        .then(|| decider.scope.flow.value.clone());
    let output = output.or(passed);
    let result = output.as_ref().or(known);
    let event = match writes(decider, state, result) {
        Ok(writes) => {
            let next = next.and_then(|next| decider.workflow.state(next)).map(|state| state.address.clone());
            Event::StateCompleted { output, writes, next }
        }
        Err(Unevaluated::Heavy) => return Some(Next::Again { heavy: true }),
        Err(Unevaluated::Failed(mut error)) => {
            error.state = Some(state.name.clone());
            Event::ErrorRaised { error, floor: None }
        }
    };
    decider.push(event);
    None
}

fn writes_something(state: &model::State) -> bool {
    state.result_path.is_some() || !state.output.is_empty()
}

/// Checks that the output can be written where it should, and renders the `output` mapping.
fn writes(
    decider: &Decider<'_>,
    state: &model::State,
    result: Option<&Value>,
) -> Result<Vec<(Arc<str>, Value)>, Unevaluated> {
    let Some(result) = result else { return Ok(Vec::new()) };
    // Joins put outputs into each other; what is too deep could be stored, but not read back.
    if result.is_too_deep() {
        let message = format!("the result nests deeper than {} levels", expression::DEPTH_LIMIT);
        return Err(Unevaluated::Failed(
            Error::new(error_type::EXPRESSION, message).with_code(code::VALUE_UNFIT),
        ));
    }
    let path = state.result_path.as_ref();
    // A plain write below `steps` or at a free root key is the common case, and cannot fail.
    let simple = path.is_none_or(|path| match path.segments() {
        [expression::Segment::Key(key)] => !crate::fold::is_reserved(key),
        [_, expression::Segment::Key(_)] => is_in_steps(path),
        _ => false,
    });
    if simple && state.output.is_empty() {
        return Ok(Vec::new());
    }
    let mut context = decider.scope.context.clone();
    if let Some(steps) =
        context.object_mut().and_then(|context| context.get_mut("steps")).and_then(Value::object_mut)
    {
        steps.insert(state.name.clone(), result.clone());
    }
    if let Some(path) = path {
        path.write(&mut context, result.clone()).map_err(|error| {
            let message = format!("the result cannot be written to {path}: {error}");
            Unevaluated::Failed(Error::new(error_type::EXPRESSION, message).with_code(code::WRITE_FAILED))
        })?;
    }
    // However long it took: an expression's time is that at which its state was entered.
    let entered = decider.scope.top().map_or_else(|| decider.now(), |frame| frame.entered);
    let mut evaluator = Evaluator::new(decider.scope, decider.workflow, decider.env, entered).over(context);
    let mut writes = Vec::with_capacity(state.output.len());
    for (key, value) in &state.output {
        let value = match value {
            OutputValue::Own(path) => path
                .read_in_result(result)
                .map_err(|error| crate::evaluate::path_failed(&format!("output.{key}"), &error))?,
            OutputValue::Tree(tree) => evaluator.tree(&format!("output.{key}"), tree)?.value,
        };
        writes.push((key.clone(), value));
    }
    Ok(writes)
}

/// An error looks for somebody to handle it: a clause that catches it, or a `finally` on its way.
fn unwind(decider: &mut Decider<'_>, error: Error, floor: Option<u32>) -> Step {
    let reach = floor.map_or(usize::MAX, |floor| floor as usize);
    let frames = &decider.scope.frames;
    let handler = frames.iter().enumerate().skip(1).rev().find_map(|(depth, frame)| {
        let holder = frames.get(depth - 1)?;
        let Kind::Try(handler) = &decider.workflow.state(holder.cursor)?.kind else { return None };
        let clause = match frame.role {
            Some(BlockRole::Try) if depth - 1 < reach => handler
                .catch
                .iter()
                .position(|clause| clause.errors.as_ref().is_none_or(|errors| errors.contains(&error.kind))),
            _ => None,
        };
        let finally = handler.finally.is_some() && frame.role != Some(BlockRole::Finally);
        match clause {
            Some(clause) => Some((depth, u32::try_from(clause).ok())),
            None if finally => Some((depth, None)),
            None => None,
        }
    });
    let Some((depth, clause)) = handler else {
        // Nobody: the frames stay as they are, so that a redrive finds the place.
        let outcome = failed(decider, error);
        decider.push(Event::Ended { outcome });
        return Some(Next::Done);
    };
    if depth + 1 < frames.len() {
        decider.push(Event::BlockLeft {});
        return None;
    }
    match clause {
        Some(clause) => decider.push(Event::ErrorCaught { clause, error }),
        None => decider.push(Event::BlockEntered { block: BlockRole::Finally }),
    }
    None
}

/// How a scope ends with an error nobody caught.
fn failed(decider: &Decider<'_>, error: Error) -> Outcome {
    let expired = matches!(error.code.as_deref(), Some(code::APPROVAL_TIMED_OUT | code::SIGNAL_TIMED_OUT));
    if expired {
        return Outcome::TimedOut { error };
    }
    if decider.scope.origin.is_none() && error.attempts > 1 && error.cause.is_none() {
        let message = format!("{} attempts failed, the last one with {error}", error.attempts);
        let exhausted = Error {
            kind: error_type::RETRY_EXHAUSTED.into(),
            message: message.into(),
            cause: Some(Box::new(error.clone())),
            ..error
        };
        return Outcome::Failed { error: exhausted };
    }
    Outcome::Failed { error }
}

/// The scope's own list of states has ended.
fn end(decider: &mut Decider<'_>) -> Next {
    let outcome = match output(decider) {
        Ok(output) => Outcome::Completed { output },
        Err(Unevaluated::Heavy) => return Next::Again { heavy: true },
        Err(Unevaluated::Failed(error)) => Outcome::Failed { error },
    };
    decider.push(Event::Ended { outcome });
    Next::Done
}

fn output(decider: &Decider<'_>) -> Result<Value, Unevaluated> {
    let scope = &*decider.scope;
    let last = &scope.flow.value;
    let Some(origin) = &scope.origin else {
        if let Some(schema) = &decider.workflow.output_schema {
            let violations = schema.validate(last);
            if let Some(first) = violations.first() {
                let message = format!("the run's output does not fit outputSchema: {first}");
                let error =
                    Error::new(error_type::VALIDATION, message).with_code(code::OUTPUT_SCHEMA_VIOLATION);
                return Err(Unevaluated::Failed(error));
            }
        }
        return Ok(last.clone());
    };
    let tree = match decider.workflow.state_at(&origin.state).map(|state| &state.kind) {
        Some(Kind::Parallel(parallel)) => {
            parallel.branches.get(origin.index as usize).and_then(|branch| branch.output.as_ref())
        }
        Some(Kind::Foreach(foreach)) => foreach.output.as_ref(),
        _ => None,
    };
    if let Some(tree) = tree {
        let mut evaluator = Evaluator::new(scope, decider.workflow, decider.env, decider.now());
        return Ok(evaluator.tree("output", tree)?.value);
    }
    Ok(if scope.wrote { scope.writes.clone() } else { last.clone() })
}
