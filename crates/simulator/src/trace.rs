//! What happened in a history, for people: a line for each observation, and for what was made to go wrong between them.

use std::fmt::Write as _;
use std::sync::Arc;

use engine::ChildEnded;
use engine::Error;
use engine::Event;
use engine::Outcome;
use engine::Record;
use engine::RunId;
use expression::Value;
use jiff::Timestamp;
use runtime::ports::Extra;

use crate::observation::Asked;
use crate::observation::Observation;
use crate::observation::ProcessId;
use crate::observation::What;
use crate::plan::Blow;
use crate::plan::Fault;

/// Characters of a value that are shown.
const SHOWN: usize = 100;

/// One line of a trace.
#[derive(Clone, Debug)]
pub enum Line {
    /// Something was observed.
    Seen(Observation),
    /// A call was made to go wrong.
    Made {
        /// When.
        at: Timestamp,
        /// Whose call it was.
        by: Option<ProcessId>,
        /// What becomes of it.
        fault: Fault,
    },
    /// Something was done to a process.
    Struck {
        /// When.
        at: Timestamp,
        /// What.
        blow: Blow,
    },
}

/// The trace as text. Runs are called `run1`, `run2`, … in the order in which they appear.
pub fn render(lines: &[Line]) -> String {
    let mut runs: Vec<RunId> = Vec::new();
    let mut text = String::new();
    for line in lines {
        if let Line::Seen(Observation { what: What::Appended { scope, .. }, .. }) = line
            && !runs.contains(&scope.run)
        {
            runs.push(scope.run.clone());
        }
        let mut line = one(line);
        for (number, run) in (1..).zip(&runs) {
            if line.contains(run.as_str()) {
                line = line.replace(run.as_str(), &format!("run{number}"));
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn one(line: &Line) -> String {
    match line {
        Line::Seen(seen) => {
            let clock = seen.clock.duration_since(seen.at).as_millis();
            let off = if clock == 0 { String::new() } else { format!(" [clock {clock:+} ms]") };
            format!("{} {}{off}", time(seen.at), what(&seen.what))
        }
        Line::Made { at, by, fault } => {
            let by = by.map(|by| format!("p{} ", by.0)).unwrap_or_default();
            format!("{}   !! {by}{} (nth {}): {:?}", time(*at), fault.call, fault.nth, fault.what)
        }
        Line::Struck { at, blow } => format!("{}   !! process {}: {:?}", time(*at), blow.process, blow.what),
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%jd %H:%M:%S%.3f").to_string()
}

fn what(what: &What) -> String {
    match what {
        What::ProcessStarted(process) => format!("p{} begins", process.0),
        What::ClockJumped(process) => format!("p{}'s clock has jumped", process.0),
        What::ProcessDied(process) => format!("p{} dies", process.0),
        What::Appended { by, scope, record, extras } => {
            let events = match Record::decode(&record.body) {
                Ok(record) => record.events.iter().map(event).collect::<Vec<_>>().join(", "),
                Err(error) => format!("unreadable: {error}"),
            };
            let mut line = format!("p{} {scope} #{} {events}", by.0, record.seq);
            for extra in extras {
                match extra {
                    Extra::Due(at) => drop(write!(line, " +due {}", time(*at))),
                    Extra::NoDue => line.push_str(" +no due"),
                    Extra::Waiter(_) => line.push_str(" +waiter"),
                    Extra::WaiterGone => line.push_str(" -waiter"),
                    Extra::Summary(_) | Extra::Approval(_) | Extra::ForkContext(_) => {}
                }
            }
            line
        }
        What::Called { call, by, scope, state, attempt, epoch, key, request, .. } => {
            let key = key.rsplit('/').next().unwrap_or_default();
            format!(
                "p{} {scope} call {call}: {state}, attempt {attempt}, epoch {epoch}, key {key}: {}",
                by.0,
                value(request)
            )
        }
        What::Answered { call, answer } => match answer {
            Ok(output) => format!("call {call} answers {}", value(output)),
            Err(failed) => {
                let vague = if failed.definite { "" } else { ", nobody knows" };
                format!("call {call} fails: {}{vague}", error(&failed.error))
            }
        },
        What::Dropped { call } => format!("call {call} is no longer waited for"),
        What::Renewed { by, scope, lease } => {
            format!("p{} {scope} renews its lease of #{} until {}", by.0, lease.claim, time(lease.until))
        }
        What::Summary(summary) => {
            let stuck = summary.stuck.as_deref().map(|stuck| format!(", stuck: {stuck}")).unwrap_or_default();
            format!("{} is {}{stuck}", summary.run, summary.status)
        }
        What::DueMoved { row, to } => match to {
            Some(to) => format!("{} due {} moves to {}", row.scope, time(row.at), time(*to)),
            None => format!("{} due {} is removed", row.scope, time(row.at)),
        },
        What::Notified(notice) => format!("the world is told {}: {:?}", notice.id, notice.news),
        What::DoorbellLost => "a doorbell is lost".to_owned(),
        What::Told { run, asked, answer, lost } => {
            let run = run.as_ref().map(ToString::to_string).unwrap_or_default();
            let tries = if *lost == 0 { String::new() } else { format!(", asked {} times", lost + 1) };
            let answer = answer.as_ref().map_or_else(String::as_str, |()| "done");
            format!("a client of {run} asks to {}: {answer}{tries}", ask(asked))
        }
        What::FaultsOver => "=== from here on nothing fails".to_owned(),
    }
}

fn ask(asked: &Asked) -> String {
    match asked {
        Asked::Start(key) => format!("start {}", key.as_deref().unwrap_or_default()),
        Asked::Pause => "pause".to_owned(),
        Asked::Resume => "resume".to_owned(),
        Asked::Cancel => "cancel".to_owned(),
        Asked::Redrive => "redrive".to_owned(),
        Asked::Signal(id) => format!("take signal {id}"),
        Asked::Vote { approval, approve, approver } => {
            let vote = if *approve { "approve" } else { "reject" };
            format!("{vote} {approval} as {approver}")
        }
    }
}

/// An event in short words.
pub fn event(event: &Event) -> String {
    let at = |name: &str, time_: Option<Timestamp>| match time_ {
        Some(until) => format!("{name} until {}", time(until)),
        None => name.to_owned(),
    };
    let inherited =
        |name: &str, inherited: bool| if inherited { format!("{name} (inherited)") } else { name.to_owned() };
    let to = |next: &Option<Arc<str>>| next.as_deref().map(|next| format!(" → {next}")).unwrap_or_default();
    match event {
        Event::RunStarted(run) => format!("RunStarted {} {}", run.workflow, value(&run.input)),
        Event::ScopeStarted(scope) => format!("ScopeStarted {} of #{}", scope.key, scope.fork),
        Event::StateEntered { state, visit, deadline } => {
            at(&format!("StateEntered {state}#{visit}"), *deadline)
        }
        Event::StateSkipped { state, next } => format!("StateSkipped {state}{}", to(next)),
        Event::StepClaimed { attempt, epoch, key, worker, .. } => {
            format!("StepClaimed {attempt}.{epoch} key {key} by {worker}")
        }
        Event::StepSucceeded { attempt, epoch, output } => {
            format!("StepSucceeded {attempt}.{epoch} {}", value(output))
        }
        Event::StepFailed { attempt, epoch, error: failed, retry_at, .. } => {
            let again = retry_at.map(|at| format!(", again {}", time(at))).unwrap_or_default();
            format!("StepFailed {attempt}.{epoch} {}{again}", error(failed))
        }
        Event::TimerStarted { until, .. } => at("TimerStarted", Some(*until)),
        Event::TimerFired {} => "TimerFired".to_owned(),
        Event::SignalAwaited { name, deadline } => at(&format!("SignalAwaited {name}"), *deadline),
        Event::SignalReceived { name, number, payload } => {
            format!("SignalReceived {name} number {number} {}", value(payload))
        }
        Event::ApprovalRequested(request) => at(
            &format!("ApprovalRequested {} of {:?}", request.quorum, request.approvers),
            Some(request.deadline),
        ),
        Event::ApprovalVoted { vote } => format!("ApprovalVoted {} by {}", vote.approve, vote.approver),
        Event::ApprovalDecided { approved, .. } => format!("ApprovalDecided {approved}"),
        Event::WaitTimedOut {} => "WaitTimedOut".to_owned(),
        Event::Forked { children, .. } => format!("Forked {children}"),
        Event::ChildrenLaunched { upto, again } if again.is_empty() => {
            format!("ChildrenLaunched up to {upto}")
        }
        Event::ChildrenLaunched { upto, again } => format!("ChildrenLaunched up to {upto}, again {again:?}"),
        Event::ChildrenEnded { fork, ended } => {
            let ended: Vec<_> = ended.iter().map(child).collect();
            format!("ChildrenEnded of #{fork}: {}", ended.join(", "))
        }
        Event::ChildrenReleased {} => "ChildrenReleased".to_owned(),
        Event::SubworkflowRequested { run, workflow, .. } => {
            format!("SubworkflowRequested {workflow} as {run}")
        }
        Event::BlockEntered { block } => format!("BlockEntered {block:?}"),
        Event::ErrorCaught { clause, error: caught } => format!("ErrorCaught by {clause}: {}", error(caught)),
        Event::BlockLeft {} => "BlockLeft".to_owned(),
        Event::ErrorRaised { error: raised, .. } => format!("ErrorRaised {}", error(raised)),
        Event::StateComputed { output } => format!("StateComputed {}", value(output)),
        Event::StateCompleted { output, next, .. } => {
            let output = output.as_ref().map(|output| format!(" {}", value(output))).unwrap_or_default();
            format!("StateCompleted{output}{}", to(next))
        }
        Event::Paused { inherited: from, .. } => inherited("Paused", from.is_some()),
        Event::Resumed { shift, inherited: from, .. } => {
            inherited(&format!("Resumed, shifted by {shift} ms"), from.is_some())
        }
        Event::CancelRequested { inherited: from, .. } => inherited("CancelRequested", from.is_some()),
        Event::DeadlinePassed {} => "DeadlinePassed".to_owned(),
        Event::Redriven { inherited: from, .. } => inherited("Redriven", from.is_some()),
        Event::Ended { outcome: ended } => format!("Ended {}", outcome(ended)),
        Event::LateResult { state, visit, attempt, epoch, .. } => {
            format!("LateResult {state}#{visit} {attempt}.{epoch}")
        }
        Event::SignalSent { id, name, payload, .. } => {
            format!("SignalSent {name} id {id} {}", value(payload))
        }
    }
}

fn child(child: &ChildEnded) -> String {
    format!("{} (#{}) {}", child.index, child.seq, outcome(&child.outcome))
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed { output } => format!("COMPLETED {}", value(output)),
        Outcome::Failed { error: failed } => format!("FAILED {}", error(failed)),
        Outcome::Cancelled { .. } => "CANCELLED".to_owned(),
        Outcome::TimedOut { error: late } => format!("TIMED_OUT {}", error(late)),
    }
}

fn error(error: &Error) -> String {
    cut(format!("{error:?}"))
}

fn value(value: &Value) -> String {
    cut(value.to_string())
}

fn cut(text: String) -> String {
    if text.chars().count() <= SHOWN {
        return text;
    }
    let mut short: String = text.chars().take(SHOWN).collect();
    short.push('…');
    short
}
