//! Entering a state: what each kind does first.

use std::sync::Arc;

use expression::Object;
use expression::Rendered;
use expression::Value;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use model::Action;
use model::Kind;
use model::Operation;
use model::State;
use model::Wait;

use crate::ApprovalRequested;
use crate::BlockRole;
use crate::Error;
use crate::Event;
use crate::Next;
use crate::RunId;
use crate::code;
use crate::decide::Decider;
use crate::error_type;
use crate::evaluate::Evaluator;
use crate::evaluate::Unevaluated;
use crate::evaluate::unfit;
use crate::fold::is_composite;
use crate::fold::later;

/// What a state does on entry, decided before anything of it is in the journal.
enum Entry {
    /// This happens; then the scope goes on.
    Do(Event),
    /// It passes its input on.
    Pass,
    /// It is done, with this output.
    Complete(Value),
    /// The same, going on at this state.
    Route(model::StateId),
    /// Its list of states ends here, with this output or with what flowed in.
    EndList(Option<Value>),
}

/// Enters the state at the cursor.
pub(crate) fn enter(decider: &mut Decider<'_>) -> Option<Next> {
    let Some(state) = decider.here() else { return Some(Next::Park) };
    let workflow = decider.workflow;
    let visit = decider.scope.visit_of(&state.name) + 1;
    let now = decider.now();
    let (state_id, is_operation) = (state.id, matches!(state.kind, Kind::Operation(_)));
    let mut evaluator = Evaluator::new(decider.scope, workflow, decider.env, now);
    if let Some(condition) = &state.condition {
        match evaluator.holds("if", condition) {
            Ok(true) => {}
            Ok(false) => {
                let default = match &state.kind {
                    Kind::Switch(switch) => switch.default,
                    _ => None,
                };
                let next = state.next.or(default).and_then(|next| workflow.state(next));
                let next = next.map(|next| next.address.clone());
                decider.push(Event::StateSkipped { state: state.address.clone(), next });
                return None;
            }
            Err(Unevaluated::Heavy) => return Some(Next::Again { heavy: true }),
            Err(Unevaluated::Failed(error)) => return fail(decider, state_id, visit, error),
        }
    }
    if is_operation && !decider.env.may_begin(state.timeout) {
        return Some(Next::Ring);
    }
    let entry = match prepare(decider, state, visit, evaluator) {
        Ok(entry) => entry,
        Err(Unevaluated::Heavy) => return Some(Next::Again { heavy: true }),
        Err(Unevaluated::Failed(error)) => return fail(decider, state_id, visit, error),
    };
    entered(decider, state, visit);
    match entry {
        Entry::Do(event) => {
            let performs = matches!(event, Event::StepClaimed { .. });
            decider.push(event);
            performs.then_some(Next::Perform)
        }
        Entry::Pass => crate::advance::complete(decider, None),
        Entry::Complete(output) if state.output.is_empty() => crate::advance::complete(decider, Some(output)),
        Entry::Complete(output) => {
            // Its `output` mapping may take the full budget: what is known already must not get lost meanwhile.
            decider.push(Event::StateComputed { output });
            crate::advance::complete(decider, None)
        }
        Entry::Route(target) => crate::advance::complete_to(decider, None, Some(target)),
        Entry::EndList(output) => crate::advance::complete_to(decider, output, None),
    }
}

fn entered(decider: &mut Decider<'_>, state: &State, visit: u32) {
    let deadline =
        state.timeout.filter(|_| is_composite(state)).map(|timeout| later(decider.now(), timeout.0));
    decider.push(Event::StateEntered { state: state.address.clone(), visit, deadline });
}

fn fail(decider: &mut Decider<'_>, state: model::StateId, visit: u32, mut error: Error) -> Option<Next> {
    let state = decider.workflow.state(state)?;
    entered(decider, state, visit);
    error.state = Some(state.name.clone());
    decider.raise(error);
    None
}

fn prepare(
    decider: &Decider<'_>,
    state: &State,
    visit: u32,
    mut evaluator: Evaluator<'_>,
) -> Result<Entry, Unevaluated> {
    let scope = &*decider.scope;
    let now = decider.now();
    Ok(match &state.kind {
        Kind::Operation(operation) => {
            let Rendered { value, secrets } = request(operation, &scope.flow.value, &mut evaluator)?;
            Entry::Do(Event::StepClaimed {
                attempt: 1,
                epoch: 1,
                key: 1,
                worker: decider.env.worker.clone(),
                request: Some(value),
                secrets,
            })
        }
        Kind::Approval(approval) => {
            let summary =
                approval.summary_path.as_ref().map(|path| evaluator.read("summaryPath", path)).transpose()?;
            let mut approvers = Vec::with_capacity(approval.approvers.len());
            for approver in &approval.approvers {
                approvers.push(evaluator.text("approvers", approver)?);
            }
            let starter = scope.run.as_ref().and_then(|run| run.starter.clone());
            Entry::Do(Event::ApprovalRequested(Box::new(ApprovalRequested {
                id: scope.step_id(&state.name, visit).as_str().into(),
                message: evaluator.text("message", &approval.message)?,
                title: approval.title.as_ref().map(|title| evaluator.text("title", title)).transpose()?,
                summary,
                approvers,
                quorum: approval.quorum,
                excluded: starter.filter(|_| approval.separation_of_duties),
                deadline: later(now, approval.deadline.0),
            })))
        }
        Kind::Switch(switch) => {
            evaluator.about(switch.data_path.as_ref())?;
            for (index, (condition, target)) in switch.cases.iter().enumerate() {
                if evaluator.condition(&format!("conditions[{index}].if"), condition)? {
                    return Ok(Entry::Route(*target));
                }
            }
            let Some(default) = switch.default else {
                let message =
                    format!("none of its {} conditions holds and it has no defaultNext", switch.cases.len());
                let error = Error::new(error_type::EXPRESSION, message).with_code(code::SWITCH_NO_MATCH);
                return Err(Unevaluated::Failed(error));
            };
            Entry::Route(default)
        }
        Kind::Parallel(parallel) => {
            let children = u32::try_from(parallel.branches.len()).unwrap_or(u32::MAX);
            Entry::Do(Event::Forked { children, items: None })
        }
        Kind::Foreach(foreach) => {
            let items = evaluator.read("itemsPath", &foreach.items)?;
            let Some(count) = items.as_array().map(<[Value]>::len) else {
                return Err(unfit(format!("itemsPath: {} is {}, not an array", foreach.items, items.kind())));
            };
            let children = u32::try_from(count).map_err(|_| unfit(format!("{count} items are too many")))?;
            Entry::Do(Event::Forked { children, items: Some(items) })
        }
        Kind::While(state) => {
            if evaluator.condition("condition", &state.condition)? {
                Entry::Do(Event::BlockEntered { block: BlockRole::While })
            } else {
                Entry::Complete(rounds(0, Value::Null))
            }
        }
        Kind::Inject(data) => Entry::Complete(evaluator.tree("data", data)?.value),
        Kind::Transform(transform) => {
            evaluator.with_input(transform.input_path.as_ref())?;
            Entry::Complete(evaluator.program(&transform.program)?)
        }
        Kind::Wait(wait) => {
            let (until, absolute) = wait_until(wait, now, &mut evaluator)?;
            Entry::Do(Event::TimerStarted { until, absolute })
        }
        Kind::Signal(signal) => {
            let deadline = signal.timeout.map(|timeout| later(now, timeout.0));
            Entry::Do(Event::SignalAwaited { name: evaluator.text("signal", &signal.name)?, deadline })
        }
        Kind::Try(_) => Entry::Do(Event::BlockEntered { block: BlockRole::Try }),
        Kind::Workflow(child) => {
            let input = match &child.input {
                Some(input) => evaluator.tree("input", input)?.value,
                None => scope.flow.value.clone(),
            };
            Entry::Do(Event::SubworkflowRequested {
                run: RunId::from_step(&scope.step_id(&state.name, visit), 1),
                workflow: evaluator.text("workflow", &child.workflow)?,
                version: child.version.clone(),
                input,
            })
        }
        Kind::Cron => Entry::Pass,
        Kind::Fail(fail) => {
            let kind = evaluator.text("error", &fail.error)?;
            let message = match &fail.message {
                Some(message) => evaluator.text("message", message)?,
                None => format!("raised by {}", state.name).into(),
            };
            return Err(Unevaluated::Failed(Error::new(kind, message)));
        }
        Kind::Succeed(output) => Entry::EndList(
            output.as_ref().map(|output| evaluator.tree("output", output)).transpose()?.map(|it| it.value),
        ),
    })
}

/// What an action is asked: the rendered request, for an agent without an `input` with what flows in.
fn request(
    operation: &Operation,
    flow: &Value,
    evaluator: &mut Evaluator<'_>,
) -> Result<Rendered, Unevaluated> {
    let mut rendered = evaluator.tree("input", &operation.request)?;
    if operation.receives_input && matches!(operation.action, Action::Agent(_)) {
        let mut request = rendered.value.as_object().cloned().unwrap_or_else(Object::new);
        request.insert("input", flow.clone());
        rendered.value = Value::from(request);
    }
    Ok(rendered)
}

/// A `while` after a round: another one, or its end.
pub(crate) fn next_round(decider: &mut Decider<'_>, done: u64, last: Value) -> Option<Next> {
    let Some(state) = decider.here() else { return Some(Next::Park) };
    let Kind::While(body) = &state.kind else { return Some(Next::Park) };
    let mut evaluator = Evaluator::new(decider.scope, decider.workflow, decider.env, decider.now());
    match evaluator.condition("condition", &body.condition) {
        Ok(false) => crate::advance::complete(decider, Some(rounds(done, last))),
        Ok(true) if done >= body.max_iterations => {
            let message = format!("its condition still holds after {done} rounds, its maxIterations");
            let error = decider.error_here(error_type::EXPRESSION, message).with_code(code::LOOP_LIMIT);
            decider.raise(error);
            None
        }
        Ok(true) => {
            decider.push(Event::BlockEntered { block: BlockRole::While });
            None
        }
        Err(Unevaluated::Heavy) => Some(Next::Again { heavy: true }),
        Err(Unevaluated::Failed(mut error)) => {
            error.state = Some(state.name.clone());
            decider.raise(error);
            None
        }
    }
}

fn rounds(count: u64, last: Value) -> Value {
    let mut output = Object::new();
    output.insert("count", Value::Int(i64::try_from(count).unwrap_or(i64::MAX)));
    output.insert("last", last);
    Value::from(output)
}

/// When a wait ends, and whether that is a time of day rather than a length of time.
fn wait_until(
    wait: &Wait,
    now: Timestamp,
    evaluator: &mut Evaluator<'_>,
) -> Result<(Timestamp, bool), Unevaluated> {
    match wait {
        Wait::For(length) => Ok((later(now, length.0), false)),
        Wait::ForTemplate(template) => {
            let value = evaluator.template("duration", template)?;
            let length = model::duration(&value).map_err(|error| unfit(format!("duration: {error}")))?;
            Ok((later(now, length.0), false))
        }
        Wait::Until(template) => {
            let text = evaluator.text("until", template)?;
            let until = next_time(&text, now).ok_or_else(|| {
                unfit(format!(
                    "until: {text:?} is no time; expected RFC 3339 (2026-01-31T09:00:00Z) or a time of day in UTC (09:00)"
                ))
            })?;
            Ok((until, true))
        }
    }
}

/// The time that `text` names: RFC 3339, or the next such time of day in UTC.
fn next_time(text: &Arc<str>, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let time: Time = text.parse().ok()?;
    let today = now.to_zoned(TimeZone::UTC).date();
    let at = |date: jiff::civil::Date| {
        date.to_datetime(time).to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
    };
    at(today).filter(|time| *time > now).or_else(|| at(today.tomorrow().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let now: Timestamp = "2026-01-31T09:00:00Z".parse().unwrap();
        let until = |text: &str| next_time(&text.into(), now).map(|time| time.to_string());
        assert_eq!(until("09:00").as_deref(), Some("2026-02-01T09:00:00Z"));
        assert_eq!(until("09:00:01").as_deref(), Some("2026-01-31T09:00:01Z"));
        assert_eq!(until("2026-01-30T10:00:00+02:00").as_deref(), Some("2026-01-30T08:00:00Z"));
        assert_eq!((until("25:00"), until("soon")), (None, None));
    }
}
