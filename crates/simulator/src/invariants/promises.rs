//! `told-is-true`, and the summaries' part of `never-backwards`.

use engine::Event;
use engine::Outcome;
use engine::RunId;
use runtime::ports::Extra;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;

use super::Held;
use super::broken;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::ledger::Requests;
use super::ledger::Shown;
use super::line::Line;

const BACK: &str = "never-backwards";
const TOLD: &str = "told-is-true";

/// The status of a run that ended so.
pub(super) fn status_of(outcome: &Outcome) -> RunStatus {
    match outcome {
        Outcome::Completed { .. } => RunStatus::Completed,
        Outcome::Failed { .. } => RunStatus::Failed,
        Outcome::Cancelled { .. } => RunStatus::Cancelled,
        Outcome::TimedOut { .. } => RunStatus::TimedOut,
    }
}

/// Each write of a run's summary raises its revision. A terminal status is the one that the root's journal ended with, and is
/// not replaced by another before the root was redriven. Seen after the record it was written with, if any.
pub(super) fn summary(ledger: &mut Ledger, summary: &RunSummary) -> Held {
    let run_id = &summary.run;
    let status = summary.status;
    let root = ledger.root(run_id);
    let Some(redrives) = root.map(|root| root.redrives) else {
        return broken(BACK, format!("the summary of run {run_id} says {status}, it has no journal"));
    };
    let ended = root.and_then(|root| root.outcome.as_ref()).map(|(_, outcome)| status_of(outcome));
    let is_paused = root.is_some_and(|root| root.is_paused() && !root.is_over());
    if status.is_terminal() && ended != Some(status) {
        return broken(BACK, format!("the summary of run {run_id} says {status}, its journal {ended:?}"));
    }
    let run = ledger.runs.entry(run_id.clone()).or_default();
    if let Some(before) = run.summary {
        if summary.revision <= before.revision {
            let (old, new) = (before.revision, summary.revision);
            return broken(BACK, format!("the summary of run {run_id} has revision {new} after {old}"));
        }
        if before.status.is_terminal() && before.status != status && before.redrives == redrives {
            let old = before.status;
            return broken(
                BACK,
                format!("the summary of run {run_id} says {status} after {old}, unredriven"),
            );
        }
    }
    run.summary = Some(Shown { status, revision: summary.revision, redrives });
    run.shown_paused = status == RunStatus::Paused && is_paused;
    Ok(())
}

/// A root's last record writes the terminal status that it makes, in the same transaction; no other record writes one.
pub(super) fn extras(ledger: &Ledger, line: &Line, extras: &[Extra]) -> Held {
    let Some(record) = line.records.last() else { return Ok(()) };
    let place = format!("record {} of {}", record.seq, line.key);
    let written = extras.iter().find_map(|extra| match extra {
        Extra::Summary(summary) => Some(summary),
        _ => None,
    });
    let ended = line.outcome.as_ref().map(|(_, outcome)| status_of(outcome));
    let ends = record.events.iter().any(|event| matches!(event, Event::Ended { .. }));
    let is_root = line.key.path.is_root();
    match written {
        Some(summary) if !is_root || summary.run != line.key.run => {
            broken(BACK, format!("{place} writes the summary of run {}", summary.run))
        }
        Some(summary) if summary.status.is_terminal() && ended != Some(summary.status) => {
            broken(BACK, format!("{place} writes {} into the summary, which it is not", summary.status))
        }
        Some(summary) if ends && ended != Some(summary.status) => {
            broken(BACK, format!("{place} ends the run, and writes {} into its summary", summary.status))
        }
        // A redriven run that ends the same way in the same record shows the same as before.
        None if is_root && ends && !shows(ledger, &line.key.run, ended) => {
            broken(BACK, format!("{place} ends the run, and its summary does not say so"))
        }
        _ => Ok(()),
    }
}

fn shows(ledger: &Ledger, run: &RunId, status: Option<RunStatus>) -> bool {
    let shown = ledger.runs.get(run).and_then(|run| run.summary);
    shown.is_some_and(|shown| Some(shown.status) == status)
}

/// Counts what clients asked for and a root's journal has.
pub(super) fn note(ledger: &mut Ledger, moment: &Moment<'_>) {
    if !moment.line.key.path.is_root() {
        return;
    }
    let run = ledger.runs.entry(moment.line.key.run.clone()).or_default();
    match moment.event {
        Event::Paused { inherited: None, .. } => run.done.pauses += 1,
        Event::Resumed { inherited, .. } => {
            run.shown_paused = false;
            run.done.resumes += u32::from(inherited.is_none());
        }
        Event::CancelRequested { inherited: None, .. } => run.done.cancels += 1,
        Event::Redriven { inherited, .. } => {
            run.shown_paused = false;
            run.done.redrives += u32::from(inherited.is_none());
        }
        _ => {}
    }
}

/// What a client was told was done stands in a journal by then: a start in the run's, under the same key the same run; as
/// many pauses, resumes, cancels and redrives in the root's as clients were told of (each was refused or is a record of its
/// own); a signal's id in the inbox; a vote of this person for this side in the approval's scope.
///
/// The converse does not hold: what failed to answer, or answered with an error of the store, may be done all the same.
pub(super) fn told(ledger: &mut Ledger, run: Option<&RunId>, asked: &crate::observation::Asked) -> Held {
    use crate::observation::Asked;

    let Some(id) = run else { return broken(TOLD, format!("{asked:?} was done, for no run")) };
    let Some(root) = ledger.root(id) else {
        return broken(TOLD, format!("{asked:?} was done for run {id}, which has no journal"));
    };
    let workflow = root.workflow.as_ref().map(|workflow| workflow.id.clone());
    let run = ledger.runs.entry(id.clone()).or_default();
    let count = |done: fn(&mut Requests) -> &mut u32, run: &mut super::ledger::Run| {
        let told = done(&mut run.told);
        *told += 1;
        let (told, done) = (*told, *done(&mut run.done));
        if told <= done {
            return Ok(());
        }
        broken(TOLD, format!("{asked:?} was done {told} times for run {id}; its journal has {done} of them"))
    };
    match asked {
        Asked::Start(None) => Ok(()),
        Asked::Start(Some(key)) => {
            let key = (workflow.unwrap_or_default(), key.clone());
            let first = ledger.started.entry(key.clone()).or_insert_with(|| id.clone());
            if first == id {
                return Ok(());
            }
            broken(TOLD, format!("key {} started run {first} and run {id}", key.1))
        }
        Asked::Pause => count(|requests| &mut requests.pauses, run),
        Asked::Resume => count(|requests| &mut requests.resumes, run),
        Asked::Cancel => count(|requests| &mut requests.cancels, run),
        Asked::Redrive => count(|requests| &mut requests.redrives, run),
        Asked::Signal(signal) => {
            let is_sent =
                ledger.inbox(id).is_some_and(|inbox| inbox.sent.iter().any(|sent| sent.id == *signal));
            if is_sent {
                return Ok(());
            }
            broken(TOLD, format!("signal {signal} was sent to run {id}; its inbox does not have it"))
        }
        Asked::Vote { approval, approve, approver } => {
            let asked = ledger.approvals.get(&(id.clone(), approval.clone()));
            if asked.is_some_and(|asked| asked.votes.contains(&(approver.clone(), *approve))) {
                return Ok(());
            }
            let what =
                format!("{approver} voted {approve} on approval {approval} of run {id}; no journal has it");
            broken(TOLD, what)
        }
    }
}
