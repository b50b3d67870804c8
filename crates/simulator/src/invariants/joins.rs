//! `join-once`.

use engine::Event;
use engine::Outcome;
use engine::ScopeKey;

use super::Held;
use super::broken;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::line::Fork;
use super::line::Leaf;

const NAME: &str = "join-once";

/// A fork's children are launched in order, each once (once more after a redrive, if it had not succeeded), and no more of them are live at once than `maxConcurrency` says. A
/// child begins only while its fork waits for it. What is recorded of a child's end stands in the child's journal, and each
/// child counts once (once more after a redrive, if it had not succeeded). The state completes only when as many succeeded as
/// were needed and none is live any more; it fails by itself only when so many can no longer succeed. Ends after
/// `ChildrenReleased` count for neither. A child run is one child.
pub(super) fn check(ledger: &Ledger, moment: &Moment<'_>) -> Held {
    let line = moment.line;
    match (moment.event, &line.leaf) {
        (Event::ChildrenLaunched { upto, again }, Leaf::Fork(fork)) => launched(moment, fork, *upto, again),
        (Event::ChildrenLaunched { .. }, _) => broken(NAME, format!("{}: there is no fork", moment.place())),
        (Event::ChildrenEnded { fork, ended }, leaf) => ends(ledger, moment, leaf, *fork, ended),
        (Event::StateCompleted { .. }, Leaf::Fork(fork)) if !line.failed => {
            if !fork.live.is_empty() {
                return broken(NAME, format!("{}: {} children are live", moment.place(), fork.live.len()));
            }
            if !fork.is_joined() {
                let what = format!(
                    "{}: {} of {} children succeeded before it was decided, {} are needed",
                    moment.place(),
                    fork.succeeded,
                    fork.children,
                    fork.needed
                );
                return broken(NAME, what);
            }
            Ok(())
        }
        (Event::StateCompleted { .. }, Leaf::ChildRun { ended, .. }) if !line.failed => match ended {
            Some((_, Outcome::Completed { .. })) => Ok(()),
            _ => broken(NAME, format!("{}: the child run has not completed", moment.place())),
        },
        (Event::ErrorRaised { floor, .. }, Leaf::Fork(fork)) if !line.failed => {
            if !fork.live.is_empty() {
                return broken(NAME, format!("{}: {} children are live", moment.place(), fork.live.len()));
            }
            // A result that cannot be written fails the state too.
            if floor.is_none() && !fork.is_joined() && !fork.is_lost() {
                let what = format!(
                    "{}: only {} of {} children failed, {} are needed",
                    moment.place(),
                    fork.failed,
                    fork.children,
                    fork.needed
                );
                return broken(NAME, what);
            }
            Ok(())
        }
        (Event::ScopeStarted(started), _) => begun(ledger, moment, started.fork, started.index),
        (Event::RunStarted(started), _) => match &started.parent {
            Some(parent) => {
                let parent = ScopeKey::new(parent.run.clone(), parent.scope.clone());
                let waits = ledger.line(&parent).is_some_and(|parent| {
                    matches!(&parent.leaf, Leaf::ChildRun { run, ended: None, .. } if *run == line.key.run)
                });
                if waits {
                    return Ok(());
                }
                broken(NAME, format!("{}: {parent} does not wait for this run", moment.place()))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn launched(moment: &Moment<'_>, fork: &Fork, upto: u32, again: &[u32]) -> Held {
    if fork.released {
        return broken(NAME, format!("{}: no more children are needed", moment.place()));
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(index) = again.iter().find(|index| !fork.waiting.contains(index) || !seen.insert(**index)) {
        return broken(NAME, format!("{}: child {index} does not wait to go on", moment.place()));
    }
    let none = upto == fork.launched && again.is_empty();
    if none || upto < fork.launched || upto > fork.children {
        let what = format!("{}: up to {upto} after {} of {}", moment.place(), fork.launched, fork.children);
        return broken(NAME, what);
    }
    let live = fork.live.len() + again.len() + (upto - fork.launched) as usize;
    if live > fork.limit as usize {
        let what = format!("{}: {live} children are live, {} may be", moment.place(), fork.limit);
        return broken(NAME, what);
    }
    Ok(())
}

fn begun(ledger: &Ledger, moment: &Moment<'_>, seq: u64, index: u32) -> Held {
    let Some((path, _)) = moment.line.key.path.parent() else { return Ok(()) };
    let parent = ScopeKey::new(moment.line.key.run.clone(), path);
    let waits = ledger.line(&parent).is_some_and(|parent| match &parent.leaf {
        Leaf::Fork(fork) => {
            !parent.is_over()
                && !parent.failed
                && fork.seq == seq
                && fork.live.contains(&index)
                && fork.child(&parent.key, index) == moment.line.key
        }
        _ => false,
    });
    if waits { Ok(()) } else { broken(NAME, format!("{}: {parent} does not wait for it", moment.place())) }
}

fn ends(ledger: &Ledger, moment: &Moment<'_>, leaf: &Leaf, seq: u64, ended: &[engine::ChildEnded]) -> Held {
    let line = moment.line;
    let place = moment.place();
    match leaf {
        Leaf::Fork(fork) if fork.seq == seq && !line.failed => {
            let mut seen = std::collections::BTreeSet::new();
            for end in ended {
                let child = fork.child(&line.key, end.index);
                if !fork.live.contains(&end.index) || !seen.insert(end.index) {
                    return broken(
                        NAME,
                        format!("{place}: {child} is not live; it counted before, or never ran"),
                    );
                }
                let completed = matches!(end.outcome, Outcome::Completed { .. });
                if !completed && fork.stale.get(&end.index).is_some_and(|stale| end.seq <= *stale) {
                    return broken(
                        NAME,
                        format!("{place}: the end of {child} is one from before the redrive"),
                    );
                }
                said(ledger, &place, &child, end)?;
            }
            Ok(())
        }
        Leaf::ChildRun { seq: asked, run, ended: None, stale, .. } if *asked == seq && !line.failed => {
            let [end] = ended else {
                return broken(NAME, format!("{place}: {} ends of one child run", ended.len()));
            };
            let completed = matches!(end.outcome, Outcome::Completed { .. });
            if !completed && stale.is_some_and(|stale| end.seq <= stale) {
                return broken(NAME, format!("{place}: the end of run {run} is one from before the redrive"));
            }
            let root = ScopeKey::root(run.clone());
            if ledger.line(&root).is_none() && matches!(end.outcome, Outcome::Failed { .. }) {
                // It could not be started.
                return Ok(());
            }
            said(ledger, &place, &root, end)
        }
        _ => broken(NAME, format!("{place}: nothing waits for the children of record {seq}")),
    }
}

/// The child's journal says so itself.
fn said(ledger: &Ledger, place: &str, child: &ScopeKey, end: &engine::ChildEnded) -> Held {
    let record = usize::try_from(end.seq).ok().and_then(|seq| seq.checked_sub(1));
    let record = record.and_then(|index| ledger.line(child)?.records.get(index));
    let outcome = record.and_then(|record| record.events.last());
    match outcome {
        Some(Event::Ended { outcome }) if *outcome == end.outcome => Ok(()),
        _ => broken(NAME, format!("{place}: record {} of {child} does not say so", end.seq)),
    }
}
