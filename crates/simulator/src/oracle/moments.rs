//! Events as moments, and whether two moments are the same.

use std::sync::Arc;

use engine::BlockRole;
use engine::Event;
use expression::Value;

use crate::reference::Ask;
use crate::reference::Error;
use crate::reference::Moment;
use crate::reference::Outcome;
use crate::reference::Question;
use crate::reference::Role;
use crate::reference::Words;

/// The moment that an event is, if it is one. `known` is the output that was recorded before a state completed.
pub(super) fn of(event: &Event, known: Option<Value>) -> Option<Moment> {
    Some(match event {
        Event::StateEntered { state, visit, deadline } => {
            Moment::Entered { state: state.clone(), visit: *visit, deadline: *deadline }
        }
        Event::StateSkipped { state, next } => Moment::Skipped { state: state.clone(), next: next.clone() },
        Event::StepClaimed { request: Some(request), secrets, .. } => {
            Moment::Asked(Ask::Step { request: request.clone(), secrets: secrets.clone() })
        }
        Event::TimerStarted { until, absolute } => {
            Moment::Asked(Ask::Timer { until: *until, absolute: *absolute })
        }
        Event::SignalAwaited { name, deadline } => {
            Moment::Asked(Ask::Signal { name: name.clone(), deadline: *deadline })
        }
        Event::ApprovalRequested(asked) => Moment::Asked(Ask::Approval(Box::new(Question {
            message: asked.message.clone(),
            title: asked.title.clone(),
            summary: asked.summary.clone(),
            approvers: asked.approvers.clone(),
            quorum: asked.quorum,
            excluded: asked.excluded.clone(),
            deadline: asked.deadline,
        }))),
        Event::ApprovalDecided { approved, output } => {
            Moment::Decided { approved: *approved, output: output.clone() }
        }
        Event::Forked { children, items } => {
            Moment::Asked(Ask::Children { count: *children, items: items.clone() })
        }
        Event::SubworkflowRequested { workflow, version, input, .. } => Moment::Asked(Ask::Run {
            workflow: workflow.clone(),
            version: version.clone(),
            input: input.clone(),
        }),
        Event::BlockEntered { block } => Moment::Block(match block {
            BlockRole::While => Role::While,
            BlockRole::Try => Role::Try,
            // A catch is entered by what it catches.
            BlockRole::Catch(_) => return None,
            BlockRole::Finally => Role::Finally,
        }),
        Event::ErrorCaught { clause, error: caught } => {
            Moment::Caught { clause: *clause, error: error(caught) }
        }
        Event::StepFailed { error: failed, retry_at: None, .. } => {
            Moment::Failed { error: error(failed), floor: None }
        }
        Event::ErrorRaised { error: raised, floor } => Moment::Failed { error: error(raised), floor: *floor },
        Event::StateCompleted { output, writes, next } => {
            Moment::Completed { output: output.clone().or(known), writes: writes.clone(), next: next.clone() }
        }
        Event::Ended { outcome: ended } => Moment::Ended(outcome(ended)),
        _ => return None,
    })
}

/// An error as it was recorded.
pub(super) fn error(error: &engine::Error) -> Error {
    let waits = [engine::code::APPROVAL_TIMED_OUT, engine::code::SIGNAL_TIMED_OUT];
    Error {
        kind: error.kind.clone(),
        message: Words::Exactly(error.message.clone()),
        state: error.state.clone(),
        attempts: error.attempts,
        travelled: error.from_child,
        waited: error.code.as_deref().is_some_and(|code| waits.contains(&code)),
        cause: error.cause.as_deref().map(|cause| Box::new(self::error(cause))),
    }
}

/// An outcome as it was recorded.
pub(super) fn outcome(outcome: &engine::Outcome) -> Outcome {
    match outcome {
        engine::Outcome::Completed { output } => Outcome::Completed(output.clone()),
        engine::Outcome::Failed { error: failed } => Outcome::Failed(error(failed)),
        engine::Outcome::TimedOut { error: expired } => Outcome::TimedOut(error(expired)),
        engine::Outcome::Cancelled { reason } => Outcome::Cancelled(reason.clone().map(Words::Exactly)),
    }
}

/// Whether what the reference says is what was recorded; if so, the words that the language leaves open. Else both, shown.
pub(super) fn agree(reference: &Moment, recorded: &Moment) -> Result<Option<Arc<str>>, (String, String)> {
    let words = match (reference, recorded) {
        (Moment::Failed { error, floor }, Moment::Failed { error: came, floor: at }) => {
            (floor == at).then(|| same_error(error, came)).flatten()
        }
        (Moment::Caught { clause, error }, Moment::Caught { clause: by, error: came }) => {
            (clause == by).then(|| same_error(error, came)).flatten()
        }
        (Moment::Ended(Outcome::Failed(error)), Moment::Ended(Outcome::Failed(came)))
        | (Moment::Ended(Outcome::TimedOut(error)), Moment::Ended(Outcome::TimedOut(came))) => {
            same_error(error, came)
        }
        (Moment::Ended(Outcome::Cancelled(_)), Moment::Ended(Outcome::Cancelled(reason))) => {
            return Ok(reason.as_ref().map(|reason| match reason {
                Words::Exactly(text) | Words::With(text) => text.clone(),
            }));
        }
        (reference, recorded) if reference == recorded => return Ok(None),
        _ => None,
    };
    words.map(Some).ok_or_else(|| (shown(reference), shown(recorded)))
}

/// The words of an error, if it is one that the reference allows.
fn same_error(reference: &Error, recorded: &Error) -> Option<Arc<str>> {
    let causes = match (&reference.cause, &recorded.cause) {
        (None, None) => true,
        (Some(a), Some(b)) => same_error(a, b).is_some(),
        _ => false,
    };
    let same = reference.message.allow(recorded.text())
        && reference.kind == recorded.kind
        && reference.state == recorded.state
        && reference.attempts == recorded.attempts
        && reference.travelled == recorded.travelled
        && reference.waited == recorded.waited
        && causes;
    same.then(|| recorded.text().clone())
}

/// Whether two outcomes are the same.
pub(super) fn same_outcome(reference: &Outcome, recorded: &Outcome) -> bool {
    match (reference, recorded) {
        (Outcome::Failed(a), Outcome::Failed(b)) | (Outcome::TimedOut(a), Outcome::TimedOut(b)) => {
            same_error(a, b).is_some()
        }
        (Outcome::Cancelled(_), Outcome::Cancelled(_)) => true,
        (a, b) => a == b,
    }
}

/// A moment in words.
pub(super) fn shown(moment: &Moment) -> String {
    let on = |next: &Option<Arc<str>>| {
        next.as_ref().map_or_else(|| " (the list ends)".to_owned(), |next| format!(" → {next}"))
    };
    match moment {
        Moment::Entered { state, visit, deadline } => match deadline {
            Some(deadline) => format!("enters {state} (visit {visit}, until {deadline})"),
            None => format!("enters {state} (visit {visit})"),
        },
        Moment::Skipped { state, next } => format!("skips {state}{}", on(next)),
        Moment::Asked(ask) => shown_ask(ask),
        Moment::Decided { approved, output } => {
            format!("{} with {output}", if *approved { "approved" } else { "rejected" })
        }
        Moment::Block(role) => format!("enters its {role:?} block"),
        Moment::Caught { clause, error } => format!("clause {clause} catches {}", shown_error(error)),
        Moment::Failed { error, floor: None } => format!("fails with {}", shown_error(error)),
        Moment::Failed { error, floor: Some(floor) } => {
            format!("fails with {} of the state at depth {floor}", shown_error(error))
        }
        Moment::Completed { output, writes, next } => {
            let output = output.as_ref().map_or_else(|| "no output".to_owned(), |output| format!("{output}"));
            let writes = writes
                .iter()
                .fold(String::new(), |all, (key, value)| format!("{all}, writes {key} = {value}"));
            format!("completes with {output}{writes}{}", on(next))
        }
        Moment::Cancels { reason } => format!("cancels the run: {reason:?}"),
        Moment::Ended(outcome) => format!("ends: {}", shown_outcome(outcome)),
    }
}

fn shown_ask(ask: &Ask) -> String {
    match ask {
        Ask::Step { request, secrets } if secrets.is_empty() => format!("asks for a step: {request}"),
        Ask::Step { request, secrets } => format!("asks for a step: {request} with {secrets:?}"),
        Ask::Timer { until, absolute } => {
            format!("waits until {until}{}", if *absolute { " (a time)" } else { "" })
        }
        Ask::Signal { name, deadline } => format!("waits for the signal {name} until {deadline:?}"),
        Ask::Approval(question) => format!("asks people: {question:?}"),
        Ask::Children { count, items: Some(items) } => format!("makes {count} children of {items}"),
        Ask::Children { count, items: None } => format!("makes {count} children"),
        Ask::Run { workflow, version, input } => {
            format!("asks for a run of {workflow} {version:?} with {input}")
        }
    }
}

fn shown_error(error: &Error) -> String {
    let Error { kind, message, state, attempts, travelled, waited, cause } = error;
    let message = match message {
        Words::Exactly(text) => format!("{text:?}"),
        Words::With(text) if text.is_empty() => "(any words)".to_owned(),
        Words::With(text) => format!("…{text:?}…"),
    };
    let state = state.as_deref().unwrap_or("no state");
    let mut shown = format!("{kind}: {message} of {state} after {attempts} attempts");
    for (holds, word) in [(*travelled, ", from inside"), (*waited, ", a deadline of a wait")] {
        if holds {
            shown.push_str(word);
        }
    }
    if let Some(cause) = cause {
        shown.push_str("; last: ");
        shown.push_str(&shown_error(cause));
    }
    shown
}

/// An outcome in words.
pub(super) fn shown_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed(output) => format!("completed with {output}"),
        Outcome::Failed(error) => format!("failed with {}", shown_error(error)),
        Outcome::TimedOut(error) => format!("timed out with {}", shown_error(error)),
        Outcome::Cancelled(reason) => format!("cancelled: {reason:?}"),
    }
}
