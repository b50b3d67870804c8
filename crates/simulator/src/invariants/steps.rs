//! `performed-once`, `one-key-per-attempt`, `late-changes-nothing` and the steps' part of `answers-are-real`.

use std::time::Duration;

use engine::Error;
use engine::Event;
use engine::ScopeKey;
use engine::StepId;
use engine::code;
use engine::error_type;
use jiff::Timestamp;
use model::Kind;
use model::Operation;
use runtime::ports::Lease;

use super::Held;
use super::broken;
use super::ledger::Call;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::ledger::Steps;
use super::line::Claim;
use super::line::Leaf;
use super::line::Line;
use super::line::Step;
use super::line::StepPhase;
use super::line::later;
use crate::observation::Observation;
use crate::observation::What;

const ONCE: &str = "performed-once";
const KEY: &str = "one-key-per-attempt";
const REAL: &str = "answers-are-real";
const LATE: &str = "late-changes-nothing";

/// Epochs without an answer after which an attempt fails.
const EPOCHS: u32 = 5;
/// Longer than this nobody stands still between a look at the clock and the record or call that comes of it.
const STALLED: Duration = Duration::from_mins(15);

/// What a journal says of a step.
///
/// `performed-once`: a step (one visit of one state in one scope) whose `StepSucceeded` is recorded is never claimed again,
/// and succeeds once. An attempt is taken over only when its worker has died, or its lease has run out: `lease` after the
/// claim or its last renewal; or by the same process once it no longer performs it. The limit: where clocks differ or jump, a
/// lease may run out for one process and not for another; so much earlier may it be taken over.
///
/// `one-key-per-attempt`: the first claim has key 1; a takeover, and the attempt after a failure that was not definite, keep
/// the key; the one after a definite failure has the next. An `atMostOnce` attempt is never taken over, and no attempt
/// follows its interruption unless a `retryOn` names that; what it answered itself, or did not in time, is retried as the
/// policy says.
///
/// `answers-are-real`: a `StepSucceeded` has the output, and a `StepFailed` the error, that the agent gave to the call made
/// for this very claim; or it is a timeout, at least the state's time after the claim (less where invocations end), or an
/// interruption after five epochs since the last redrive (one under `atMostOnce`) whose last worker was dead as above.
///
/// `late-changes-nothing`: an answer counts only for the claim that stands; a `LateResult` is of another one, comes first in
/// its record, and that record says nothing else of the late attempt. (What else became true may follow in the same record.
/// That the fold is unmoved by it is checked with `replay`.)
pub(super) fn check(ledger: &Ledger, moment: &Moment<'_>) -> Held {
    match moment.event {
        Event::StepClaimed { attempt, epoch, key, .. } => claimed(ledger, moment, (*attempt, *epoch), *key),
        Event::StepSucceeded { attempt, epoch, output } => {
            let call = answered(ledger, moment, (*attempt, *epoch))?;
            match call.and_then(|call| call.answer.as_ref()) {
                Some(Ok(answer)) if answer == output => Ok(()),
                Some(Ok(answer)) => {
                    broken(REAL, format!("{}: it says {output}, the agent said {answer}", moment.place()))
                }
                Some(Err(error)) => {
                    broken(REAL, format!("{}: the agent failed with {}", moment.place(), error.error))
                }
                None => broken(REAL, format!("{}: no agent answered to this claim", moment.place())),
            }
        }
        Event::StepFailed { attempt, epoch, error, definite, retry_at } => {
            failed(ledger, moment, (*attempt, *epoch), error, *definite, retry_at.is_some())
        }
        Event::LateResult { step, attempt, epoch, .. } => late(ledger, moment, step, (*attempt, *epoch)),
        _ => Ok(()),
    }
}

pub(super) fn operation(line: &Line) -> Option<&Operation> {
    match &line.state()?.kind {
        Kind::Operation(operation) => Some(operation),
        _ => None,
    }
}

fn claimed(ledger: &Ledger, moment: &Moment<'_>, (attempt, epoch): (u32, u32), key: u32) -> Held {
    let line = moment.line;
    let Some(operation) = operation(line) else {
        return broken(ONCE, format!("{}: the scope is in no operation", moment.place()));
    };
    let Leaf::Step(step) = &line.leaf else {
        if (attempt, epoch, key) != (1, 1, 1) {
            let what = format!("{}: attempt {attempt}, epoch {epoch}, key {key} comes first", moment.place());
            return broken(KEY, what);
        }
        return Ok(());
    };
    match step.phase {
        StepPhase::Succeeded => broken(ONCE, format!("{}: the step has succeeded", moment.place())),
        StepPhase::Failed { .. } => {
            broken(ONCE, format!("{}: the step has failed, and nobody redrove it", moment.place()))
        }
        StepPhase::Backoff { definite, .. } => {
            let next = step.key + u32::from(definite);
            if (attempt, epoch) != (step.attempt + 1, 1) {
                let what = format!(
                    "{}: attempt {attempt}, epoch {epoch} after attempt {} failed",
                    moment.place(),
                    step.attempt
                );
                return broken(ONCE, what);
            }
            if key != next {
                let why = if definite { "a definite failure" } else { "a failure that was not definite" };
                let what = format!("{}: key {key} follows key {} and {why}", moment.place(), step.key);
                return broken(KEY, what);
            }
            Ok(())
        }
        StepPhase::Claimed => {
            if (attempt, epoch) != (step.attempt, step.epoch + 1) {
                let what = format!(
                    "{}: attempt {attempt}, epoch {epoch} takes over attempt {}, epoch {}",
                    moment.place(),
                    step.attempt,
                    step.epoch
                );
                return broken(ONCE, what);
            }
            if key != step.key {
                let what = format!("{}: a takeover changes key {} to {key}", moment.place(), step.key);
                return broken(KEY, what);
            }
            if operation.at_most_once {
                return broken(KEY, format!("{}: atMostOnce forbids to take it over", moment.place()));
            }
            if step.epoch - step.epochs_before >= EPOCHS {
                let what = format!("{}: it was taken over more than {EPOCHS} times", moment.place());
                return broken(REAL, what);
            }
            is_dead(ledger, moment, step)
        }
    }
}

/// Whether the worker of the claim that stands had died or let its lease run out.
fn is_dead(ledger: &Ledger, moment: &Moment<'_>, step: &Step) -> Held {
    let Some(claim) = claim_of(ledger, &step.id, (step.attempt, step.epoch)) else { return Ok(()) };
    if ledger.dead.contains(&claim.by) {
        return Ok(());
    }
    let performs = claim.call.and_then(|call| ledger.calls.get(&call)).is_some_and(|call| !call.over);
    let dead = if claim.by == moment.by {
        !performs
    } else {
        !ledger.options.exclusive
            && (claim.lapsed || moment.observed.at + ledger.clocks.ahead(claim.seen) >= claim.until)
    };
    if dead {
        return Ok(());
    }
    let what = format!(
        "{}: process {} takes it from process {}, which is alive{} and has it until {}",
        moment.place(),
        moment.by.0,
        claim.by.0,
        if performs { ", performs it" } else { "" },
        claim.until
    );
    broken(ONCE, what)
}

pub(super) fn claim_of<'a>(ledger: &'a Ledger, step: &StepId, epoch: (u32, u32)) -> Option<&'a Claim> {
    ledger.steps.get(step)?.claims.get(&epoch)
}

/// The call made for the claim that stands, to which this is the answer.
fn answered<'a>(
    ledger: &'a Ledger,
    moment: &Moment<'_>,
    epoch: (u32, u32),
) -> Result<Option<&'a Call>, super::Violation> {
    match &moment.line.leaf {
        Leaf::Step(step) if step.phase == StepPhase::Succeeded => {
            broken(ONCE, format!("{}: the step has succeeded before", moment.place()))
        }
        Leaf::Step(step)
            if step.phase == StepPhase::Claimed
                && (step.attempt, step.epoch) == epoch
                && !moment.line.failed =>
        {
            let claim = claim_of(ledger, &step.id, epoch);
            Ok(claim.and_then(|claim| claim.call).and_then(|call| ledger.calls.get(&call)))
        }
        _ => {
            let (attempt, epoch) = epoch;
            broken(LATE, format!("{}: attempt {attempt}, epoch {epoch} does not stand", moment.place()))
        }
    }
}

fn failed(
    ledger: &Ledger,
    moment: &Moment<'_>,
    epoch: (u32, u32),
    error: &Error,
    definite: bool,
    retried: bool,
) -> Held {
    let call = answered(ledger, moment, epoch)?;
    match call.and_then(|call| call.answer.as_ref()) {
        Some(Err(answer)) if is_same(&answer.error, error) => {
            if answer.definite == definite {
                return Ok(());
            }
            return broken(
                REAL,
                format!("{}: definite is {definite}, the agent meant otherwise", moment.place()),
            );
        }
        _ => {}
    }
    if definite {
        return broken(REAL, format!("{}: no agent answered with {error}", moment.place()));
    }
    if *error.kind == *error_type::INTERRUPTED && error.code.as_deref() == Some(code::STEP_INTERRUPTED) {
        return interrupted(ledger, moment, retried);
    }
    let standing = moment.line.claimed().map(|step| (&step.id, (step.attempt, step.epoch)));
    let claimed = standing.and_then(|(id, epoch)| claim_of(ledger, id, epoch)).map(|claim| claim.seen);
    if *error.kind == *error_type::TIMEOUT
        && let Some(begun) = claimed
    {
        let own = moment.line.state().and_then(|state| state.timeout);
        let limit = own.map_or(ledger.options.step_timeout, |limit| Duration::from_millis(limit.0));
        let took = moment.observed.at.duration_since(begun);
        if ledger.options.invocations_end || Duration::try_from(took).is_ok_and(|took| took >= limit) {
            return Ok(());
        }
        let what = format!("{}: it timed out {took:#} after the claim, not after {limit:?}", moment.place());
        return broken(REAL, what);
    }
    broken(REAL, format!("{}: no agent answered with {error}", moment.place()))
}

/// Whether an error that was recorded is the one that the agent gave.
pub(super) fn is_same(given: &Error, recorded: &Error) -> bool {
    (&given.kind, &given.message, &given.code, &given.cause)
        == (&recorded.kind, &recorded.message, &recorded.code, &recorded.cause)
}

fn interrupted(ledger: &Ledger, moment: &Moment<'_>, retried: bool) -> Held {
    let (Leaf::Step(step), Some(operation)) = (&moment.line.leaf, operation(moment.line)) else {
        return Ok(());
    };
    let epochs = step.epoch - step.epochs_before;
    if !operation.at_most_once && epochs < EPOCHS {
        return broken(REAL, format!("{}: it was interrupted after {epochs} epochs", moment.place()));
    }
    let named = operation
        .retry
        .iter()
        .filter_map(|rule| rule.retry_on.as_ref())
        .any(|kinds| kinds.iter().any(|kind| **kind == *error_type::INTERRUPTED));
    if retried && operation.at_most_once && !named {
        return broken(
            KEY,
            format!("{}: an atMostOnce is tried again after an interruption", moment.place()),
        );
    }
    is_dead(ledger, moment, step)
}

fn late(ledger: &Ledger, moment: &Moment<'_>, step: &str, epoch: (u32, u32)) -> Held {
    let Moment { line, record, index, .. } = moment;
    if *index != 0 {
        return broken(LATE, format!("{}: it does not come first", moment.place()));
    }
    // What else the record says of an attempt is about the step that is claimed now.
    let current = line.claimed().filter(|current| current.id.as_str() == step);
    if current.is_some_and(|current| (current.attempt, current.epoch) == epoch) {
        return broken(LATE, format!("{}: the attempt stands, so it is not late", moment.place()));
    }
    let counts = |event: &Event| match event {
        Event::StepSucceeded { attempt, epoch: e, .. } | Event::StepFailed { attempt, epoch: e, .. } => {
            (*attempt, *e) == epoch
        }
        _ => false,
    };
    if current.is_some() && record.events.iter().any(counts) {
        return broken(LATE, format!("{}: the record counts it all the same", moment.place()));
    }
    let claim = ledger.steps.iter().find(|(id, _)| id.as_str() == step);
    if claim.is_none_or(|(_, steps)| !steps.claims.contains_key(&epoch)) {
        return broken(REAL, format!("{}: nobody claimed this attempt", moment.place()));
    }
    Ok(())
}

/// Notes a claim or a success; after the checks, before the line has it.
pub(super) fn note(ledger: &mut Ledger, moment: &Moment<'_>) {
    let line = moment.line;
    match moment.event {
        Event::StepClaimed { attempt, epoch, key, .. } => {
            let Some(state) = line.state().map(|state| state.name.clone()) else { return };
            let visit = line.frames.last().map_or(0, |frame| frame.visit);
            let id = match &line.leaf {
                Leaf::Step(step) => step.id.clone(),
                _ => StepId::new(&line.key.run, &line.key.path, &state, visit),
            };
            let lease = u64::try_from(ledger.options.lease.as_millis()).unwrap_or(u64::MAX);
            let claim = Claim {
                by: moment.by,
                key: *key,
                seq: moment.record.seq,
                seen: moment.observed.at,
                until: later(moment.record.at, lease),
                lapsed: false,
                call: None,
            };
            let steps = ledger.steps.entry(id).or_insert_with(|| Steps {
                scope: line.key.clone(),
                state,
                claims: std::collections::BTreeMap::new(),
                succeeded: false,
            });
            steps.claims.insert((*attempt, *epoch), claim);
        }
        Event::StepSucceeded { .. } => {
            if let Leaf::Step(step) = &line.leaf
                && let Some(steps) = ledger.steps.get_mut(&step.id)
            {
                steps.succeeded = true;
            }
        }
        _ => {}
    }
}

/// Notes a renewed lease.
pub(super) fn renewed(ledger: &mut Ledger, observed: &Observation, scope: &ScopeKey, lease: &Lease) {
    let Some(Leaf::Step(step)) = ledger.lines.get(scope).map(|line| &line.leaf) else { return };
    let epoch = (step.attempt, step.epoch);
    let clocks = &ledger.clocks;
    let Some(claim) = ledger.steps.get_mut(&step.id).and_then(|steps| steps.claims.get_mut(&epoch)) else {
        return;
    };
    if claim.seq == lease.claim {
        claim.lapsed |= observed.at + clocks.ahead(claim.seen) >= claim.until;
        claim.until = lease.until;
    }
}

/// A call begins.
///
/// `performed-once`: a call is made for a claim in the journal, by the process that made the claim, and once for each claim;
/// none begins for a step whose success is recorded, nor for a claim that was superseded. The limit: a worker that stood
/// still for a lease or longer (less by what clocks differ) between its claim and its call may begin what another has taken over
/// or even finished meanwhile. Nothing but the agent's own use of the idempotency key helps there.
///
/// `one-key-per-attempt`: the key is `run/step/k` with the claim's `k`, and no two steps share one.
pub(super) fn called(ledger: &mut Ledger, observed: &Observation) -> Held {
    let What::Called { call, by, scope, step, state, attempt, epoch, key, .. } = &observed.what else {
        return Ok(());
    };
    let place = format!("call {call} of {state} in {scope}, attempt {attempt}, epoch {epoch}");
    let at: Timestamp = observed.at;
    let stalled_after = ledger.options.lease.saturating_sub(ledger.skew(at, STALLED));
    let other = ledger.keys.entry(key.clone()).or_insert_with(|| step.clone());
    if other != step {
        return broken(KEY, format!("{place}: another step has the key {key}"));
    }
    let stands = ledger
        .lines
        .get(scope)
        .is_some_and(|line| matches!(&line.leaf, Leaf::Step(current) if current.id == *step && (current.attempt, current.epoch) == (*attempt, *epoch) && current.phase == StepPhase::Claimed));
    let superseded = ledger
        .lines
        .get(scope)
        .is_some_and(|line| matches!(&line.leaf, Leaf::Step(current) if current.id == *step && !stands));
    let Some(steps) = ledger.steps.get_mut(step) else {
        return broken(ONCE, format!("{place}: the journal has no claim of this step"));
    };
    if (&steps.scope, &steps.state) != (scope, state) {
        return broken(ONCE, format!("{place}: the step is one of {} in {}", steps.state, steps.scope));
    }
    let succeeded = steps.succeeded;
    let Some(claim) = steps.claims.get_mut(&(*attempt, *epoch)) else {
        return broken(ONCE, format!("{place}: the journal has no such claim"));
    };
    let expected = format!("{}/{step}/{}", scope.run, claim.key);
    if **key != *expected {
        return broken(KEY, format!("{place}: its key is {key}, the claim's is {expected}"));
    }
    if claim.by != *by {
        return broken(
            ONCE,
            format!("{place}: process {} performs the claim of process {}", by.0, claim.by.0),
        );
    }
    if let Some(before) = claim.call.replace(*call) {
        return broken(ONCE, format!("{place}: call {before} was made for the same claim"));
    }
    let stood_still = Duration::try_from(at.duration_since(claim.seen)).is_ok_and(|it| it >= stalled_after);
    if (succeeded || superseded) && !stood_still {
        let why = if succeeded { "the step's success is recorded" } else { "the claim was superseded" };
        return broken(ONCE, format!("{place}: {why}"));
    }
    ledger.calls.insert(*call, Call { by: *by, answer: None, over: false });
    Ok(())
}
