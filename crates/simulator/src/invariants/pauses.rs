//! `pause-holds`: what a pause stops, by how much it moves the clocks, and that no clock runs out before its time.

use engine::Event;
use engine::Inherited;
use jiff::Timestamp;

use super::Held;
use super::broken;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::ledger::begins;
use super::line::Leaf;
use super::line::Line;
use super::line::Step;
use super::line::StepPhase;

const NAME: &str = "pause-holds";

/// Between `Paused` and `Resumed` of a scope nothing is begun, fired, timed out, joined or ended in it; recorded may be: the
/// answers of attempts in flight, ends of children, votes and decisions, a cancel and the end it brings.
///
/// Once a run's summary says PAUSED, nothing begins or runs out in any scope of it or of its child runs until its root is resumed.
///
/// A resume moves every clock of the scope by the length of the pause: `resumed - stopped` by the records' own times (from the
/// redrive on, where one came during the pause, since deadlines begin anew with it); where a
/// branch missed the pause itself, by as much as its parent's clocks moved meanwhile. Deadlines of runs, composite states,
/// waits, approvals and signals, and pauses between attempts end only at their time so moved; absolute ones
/// (`until: 09:00`) are not moved. All by the times of records: a clock that jumps makes them right for its journal, not for
/// the world. An attempt's own timeout does not stand still.
pub(super) fn check(ledger: &Ledger, moment: &Moment<'_>) -> Held {
    let Moment { line, event, .. } = moment;
    if line.is_paused() && !may_follow_a_pause(event, line) {
        return broken(NAME, format!("{}: the scope is paused", moment.place()));
    }
    if begins(event) || matches!(event, Event::TimerFired {} | Event::WaitTimedOut {}) {
        let mut above = std::iter::once(*line).chain(ledger.ancestors(line));
        let paused = above.find(|line| ledger.runs.get(&line.key.run).is_some_and(|run| run.shown_paused));
        if let Some(paused) = paused {
            let what = format!("{}: the summary of run {} says PAUSED", moment.place(), paused.key.run);
            return broken(NAME, what);
        }
    }
    if let Event::Resumed { shift, inherited, .. } = event {
        resumed(ledger, moment, *shift, *inherited)?;
    }
    in_time(moment)
}

fn may_follow_a_pause(event: &Event, line: &Line) -> bool {
    match event {
        Event::StepSucceeded { .. }
        | Event::StepFailed { .. }
        | Event::LateResult { .. }
        | Event::ApprovalVoted { .. }
        | Event::ApprovalDecided { .. }
        | Event::ChildrenEnded { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::CancelRequested { .. }
        | Event::Redriven { .. }
        | Event::SignalSent { .. } => true,
        Event::Ended { .. } => line.ending,
        _ => false,
    }
}

fn resumed(ledger: &Ledger, moment: &Moment<'_>, shift: u64, inherited: Option<Inherited>) -> Held {
    let Moment { line, record, .. } = moment;
    let pauses = &line.pauses;
    let expected = match inherited {
        None if !pauses.own => return broken(NAME, format!("{}: it was not paused", moment.place())),
        None if pauses.by_parent => 0,
        None => since(pauses.since, record.at),
        Some(_) if pauses.own => 0,
        Some(_) if pauses.mixed => since(pauses.since, record.at),
        Some(parent) => parent.shift.saturating_sub(pauses.parent_shift),
    };
    if shift != expected {
        let what = format!("{}: the clocks are moved by {shift} ms, not {expected} ms", moment.place());
        return broken(NAME, what);
    }
    if let (Some(inherited), Some(parent)) =
        (inherited, line.parent.as_ref().and_then(|parent| ledger.line(parent)))
        && !parent.pauses.shifts.contains(&inherited.shift)
    {
        let what = format!(
            "{}: its parent's clocks were never moved by {} ms in all",
            moment.place(),
            inherited.shift
        );
        return broken(NAME, what);
    }
    Ok(())
}

fn since(stopped: Option<Timestamp>, at: Timestamp) -> u64 {
    stopped.map_or(0, |stopped| u64::try_from(at.duration_since(stopped).as_millis()).unwrap_or_default())
}

/// What time brings, it brings in time.
fn in_time(moment: &Moment<'_>) -> Held {
    let Moment { line, record, event, .. } = moment;
    let (what, due) = match (event, &line.leaf) {
        (Event::TimerFired {}, Leaf::Timer { until, over: false, .. }) => ("the timer", Some(*until)),
        (Event::TimerFired {}, _) => return broken(NAME, format!("{}: no timer runs", moment.place())),
        (Event::WaitTimedOut {}, Leaf::Approval(question)) if !question.timed_out => {
            ("the question's deadline", Some(question.deadline))
        }
        (Event::WaitTimedOut {}, Leaf::Signal { deadline: Some(deadline), over: false, .. }) => {
            ("the signal's deadline", Some(*deadline))
        }
        (Event::WaitTimedOut {}, _) => {
            return broken(NAME, format!("{}: nothing waits that could time out", moment.place()));
        }
        (Event::DeadlinePassed {}, _) if line.deadline.is_none() => {
            return broken(NAME, format!("{}: the scope has no deadline", moment.place()));
        }
        (Event::DeadlinePassed {}, _) => ("the run's deadline", line.deadline),
        (Event::StepClaimed { .. }, Leaf::Step(Step { phase: StepPhase::Backoff { until, .. }, .. })) => {
            ("the next attempt", Some(*until))
        }
        (Event::ErrorRaised { floor: Some(floor), .. }, _) => {
            ("the state's deadline", frame_due(line, *floor))
        }
        _ => return Ok(()),
    };
    match due {
        Some(due) if record.at < due => {
            let at = record.at;
            broken(NAME, format!("{}: at {at}, but {what} is at {due}", moment.place()))
        }
        _ => Ok(()),
    }
}

/// The deadline of the state in this frame. One that has passed has passed, though a redrive gives the state a new one while
/// its `finally` runs.
fn frame_due(line: &Line, floor: u32) -> Option<Timestamp> {
    line.frames.get(floor as usize).filter(|frame| !frame.timed_out)?.deadline
}
