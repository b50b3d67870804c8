//! Children: how many may run, when they are enough, what their outputs make.

use expression::Object;
use expression::Value;
use model::Aggregation;
use model::JoinMode;
use model::Kind;
use model::OnFailure;

use crate::ChildKey;
use crate::Error;
use crate::Event;
use crate::Next;
use crate::Outcome;
use crate::advance;
use crate::code;
use crate::decide::Decider;
use crate::error_type;
use crate::scope::Fork;
use crate::scope::Phase;

/// What a fork's definition says, for `parallel` and `foreach` alike.
struct Rule {
    needed: u32,
    on_failure: OnFailure,
    limit: u32,
}

/// A fork: launches what may run, and goes on when it is decided.
pub(crate) fn forked(decider: &mut Decider<'_>) -> Option<Next> {
    let Some(Phase::Fork(fork)) = decider.scope.top().map(|frame| &frame.phase) else { return None };
    let Some(state) = decider.here() else { return Some(Next::Park) };
    let rule = match &state.kind {
        Kind::Parallel(parallel) => Rule {
            needed: match parallel.join.mode {
                JoinMode::All => fork.children,
                JoinMode::Count(count) => count.min(fork.children),
            },
            on_failure: parallel.join.on_failure,
            limit: fork.children,
        },
        Kind::Foreach(foreach) => Rule {
            needed: fork.children,
            on_failure: foreach.on_failure,
            limit: foreach.max_concurrency.max(1),
        },
        _ => return Some(Next::Park),
    };
    let live = !fork.live.is_empty();
    let all_ended = !live && fork.waiting.is_empty() && fork.launched == fork.children;
    let joined = fork.succeeded >= rule.needed;
    let hopeless = fork.failed > fork.children - rule.needed;
    let lost = hopeless && (all_ended || rule.on_failure == OnFailure::FailFast);
    if joined || lost {
        if live {
            if !fork.released {
                decider.push(Event::ChildrenReleased {});
            }
            return Some(Next::Park);
        }
        if joined {
            let output = output(fork, &state.kind);
            return advance::complete(decider, Some(output));
        }
        // A branch that ends as cancelled although nobody let it go takes the run with it (`onReject: cancel`).
        if let Some(event) = cancelled(fork) {
            decider.push(event);
            return None;
        }
        let error = failure(decider, fork, state, rule.on_failure);
        decider.raise(error);
        return None;
    }
    if let Some(event) = cancelled(fork) {
        decider.push(event);
        return None;
    }
    let live = u32::try_from(fork.live.len()).unwrap_or(u32::MAX);
    let room = rule.limit.saturating_sub(live);
    let again: Vec<u32> = fork.waiting.iter().copied().take(room as usize).collect();
    let room = room.saturating_sub(u32::try_from(again.len()).unwrap_or(u32::MAX));
    let upto = fork.launched + room.min(fork.children - fork.launched);
    if (upto > fork.launched || !again.is_empty()) && !fork.released {
        decider.push(Event::ChildrenLaunched { upto, again });
    }
    Some(Next::Park)
}

fn cancelled(fork: &Fork) -> Option<Event> {
    fork.first_failed?;
    fork.ended.values().find_map(|(_, outcome)| match outcome {
        Some(Outcome::Cancelled { reason }) => {
            Some(Event::CancelRequested { by: None, reason: reason.clone(), inherited: None })
        }
        _ => None,
    })
}

/// The failure that counts: the first in declared order of those waited for, else the first in time.
fn failure(decider: &Decider<'_>, fork: &Fork, state: &model::State, on_failure: OnFailure) -> Error {
    let failed = |index: &u32| match fork.ended.get(index) {
        Some((_, Some(Outcome::Failed { error } | Outcome::TimedOut { error }))) => {
            Some((*index, error.clone()))
        }
        _ => None,
    };
    let first = match on_failure {
        OnFailure::FailFast => fork.first_failed.as_ref().and_then(failed),
        OnFailure::Wait => None,
    };
    match first.or_else(|| fork.ended.keys().find_map(failed)) {
        Some((index, error)) => {
            let key =
                decider.scope.fork(decider.workflow).map_or(ChildKey::Index(index), |view| view.key(index));
            error.through(&state.name, &key.to_string())
        }
        None => decider.error_here(error_type::CANCELLED, "its children were cancelled"),
    }
}

fn output(fork: &Fork, kind: &Kind) -> Value {
    let of = |index: u32| match fork.ended.get(&index) {
        Some((_, Some(Outcome::Completed { output }))) => Some(output),
        _ => None,
    };
    match kind {
        Kind::Parallel(parallel) => {
            let outputs = (0..).zip(&parallel.branches).map(|(index, branch)| (branch, of(index)));
            match parallel.aggregation {
                Aggregation::Merge => {
                    let finished =
                        outputs.filter_map(|(branch, output)| Some((branch.name.clone(), output?.clone())));
                    Value::from(finished.collect::<Object>())
                }
                Aggregation::Array => Value::from(
                    outputs.map(|(_, output)| output.cloned().unwrap_or_default()).collect::<Vec<_>>(),
                ),
            }
        }
        Kind::Foreach(foreach) => {
            let results = (0..fork.children).map(|index| of(index).cloned().unwrap_or_default());
            match foreach.aggregation {
                Aggregation::Merge => {
                    let mut output = Object::new();
                    output.insert("results", Value::from(results.collect::<Vec<_>>()));
                    output.insert("count", Value::Int(fork.children.into()));
                    Value::from(output)
                }
                Aggregation::Array => {
                    let items = fork.items.as_ref().and_then(Value::as_array).unwrap_or_default();
                    let rows = (0_i64..).zip(items).zip(results).map(|((index, item), output)| {
                        let mut row = Object::new();
                        row.insert("item", item.clone());
                        row.insert("index", Value::Int(index));
                        row.insert("output", output);
                        Value::from(row)
                    });
                    Value::from(rows.collect::<Vec<_>>())
                }
            }
        }
        _ => Value::Null,
    }
}

/// A child run: goes on when it has ended.
pub(crate) fn subworkflow(decider: &mut Decider<'_>) -> Option<Next> {
    let Some(Phase::Subworkflow(child)) = decider.scope.top().map(|frame| &frame.phase) else { return None };
    let Some(state) = decider.here() else { return Some(Next::Park) };
    let error = match child.ended.as_ref().map(|(_, outcome)| outcome) {
        None => return Some(Next::Park),
        Some(Outcome::Completed { output }) => {
            let output = output.clone();
            return advance::complete(decider, Some(output));
        }
        Some(Outcome::Cancelled { reason }) => {
            let message = match reason {
                Some(reason) => format!("the child run {} was cancelled: {reason}", child.run),
                None => format!("the child run {} was cancelled", child.run),
            };
            Error::new(error_type::CANCELLED, message).with_code(code::CHILD_CANCELLED)
        }
        Some(Outcome::Failed { error } | Outcome::TimedOut { error }) => {
            let error = error.cause.as_deref().unwrap_or(error);
            let mut error = error.clone().through(&state.name, &child.workflow);
            // What timed out a child run does not time out its parent; there it is an error like any other.
            error.code = error.code.filter(|code| {
                !matches!(
                    code.as_ref(),
                    code::APPROVAL_TIMED_OUT | code::SIGNAL_TIMED_OUT | code::RUN_TIMED_OUT
                )
            });
            error.attempts = 0;
            error
        }
    };
    let error = Error { state: Some(state.name.clone()), ..error };
    decider.raise(error);
    None
}
