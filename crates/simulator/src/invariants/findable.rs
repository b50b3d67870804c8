//! `findable`.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::ports::DueRow;

use super::Held;
use super::broken;
use super::decisions;
use super::ledger::Ledger;
use super::line::Leaf;
use super::line::Line;
use super::line::StepPhase;

const NAME: &str = "findable";
/// The sweeper looks at whatever is not at rest again within an hour, and sweeps each minute or so.
pub(super) const BOUND: Duration = Duration::from_mins(65);

/// Asked at any moment, as if every doorbell were lost and every process dead: each scope not at rest has a due entry, of its
/// own or of a scope above it (for a child run also of the runs that wait for it), or where a signal waits for it of its run's
/// inbox; and that entry is due within the sweeper's bound: an hour, or the scope's own deadline if that is later and it only
/// waits for it.
///
/// At rest are: a scope that has ended (its parent, which waits for it, is not), a paused scope (a resume makes an entry), and
/// one that waits for a signal that was not sent, without a deadline.
///
/// An embedded home that starts again also rings for the root of every run that has not ended. It is held to the same without
/// that: the entries alone are enough.
pub(super) fn check(ledger: &Ledger, now: Timestamp, due: &[DueRow]) -> Held {
    let due: BTreeMap<&ScopeKey, Timestamp> = due.iter().map(|row| (&row.scope, row.at)).collect();
    let bound = now.checked_add(BOUND + ledger.skew(now, BOUND)).unwrap_or(Timestamp::MAX);
    for line in ledger.lines.values() {
        if line.workflow.is_none() || is_at_rest(ledger, line) {
            continue;
        }
        let is_signalled = decisions::is_signalled(ledger, line);
        let waits = waits_until(line).filter(|_| !is_signalled).map_or(bound, |until| until.max(bound));
        let mut chain = std::iter::once(line).chain(ledger.ancestors(line));
        let mut found = chain.any(|line| due.get(&line.key).is_some_and(|at| *at <= waits));
        if is_signalled {
            let inbox = ScopeKey::new(line.key.run.clone(), ScopePath::inbox());
            found |= due.get(&inbox).is_some_and(|at| *at <= waits);
        }
        if !found {
            let entry = match due.get(&line.key) {
                Some(at) => format!("its entry is at {at}"),
                None => "it has no entry".to_owned(),
            };
            let what =
                format!("{} ({}) is not found by {waits}: {entry}, now is {now}", line.key, doing(line));
            return broken(NAME, what);
        }
    }
    Ok(())
}

fn is_at_rest(ledger: &Ledger, line: &Line) -> bool {
    if line.is_over() {
        return true;
    }
    if line.ending {
        return false;
    }
    if line.is_paused() {
        return true;
    }
    match &line.leaf {
        Leaf::Signal { deadline: None, over: false, .. } if !line.failed && line.due().is_none() => {
            !decisions::is_signalled(ledger, line)
        }
        _ => false,
    }
}

/// The time that a scope waits for, if it does nothing else.
fn waits_until(line: &Line) -> Option<Timestamp> {
    if line.failed || line.ending {
        return None;
    }
    match &line.leaf {
        Leaf::Timer { over: false, .. } | Leaf::Signal { over: false, .. } => line.due(),
        Leaf::Approval(_) if line.question().is_some() => line.due(),
        Leaf::Step(step) if matches!(step.phase, StepPhase::Backoff { .. }) => line.due(),
        _ => None,
    }
}

/// What a scope does, for people.
pub(super) fn doing(line: &Line) -> &'static str {
    match &line.leaf {
        _ if line.is_over() => "ended",
        _ if line.ending => "ending",
        _ if line.failed => "failing",
        Leaf::Step(step) => match step.phase {
            StepPhase::Claimed => "performing",
            StepPhase::Backoff { .. } => "between attempts",
            StepPhase::Failed { .. } => "failed",
            StepPhase::Succeeded => "about to go on",
        },
        Leaf::Timer { over: false, .. } => "waiting for a time",
        Leaf::Signal { over: false, .. } => "waiting for a signal",
        Leaf::Approval(question) if question.decided.is_none() && !question.timed_out => "waiting for people",
        Leaf::None | Leaf::Timer { .. } | Leaf::Signal { .. } | Leaf::Approval(_) => "about to go on",
        Leaf::Fork(_) => "waiting for its children",
        Leaf::ChildRun { .. } => "waiting for a child run",
    }
}
