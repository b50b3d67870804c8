//! `cancel-starts-nothing`.

use engine::Event;

use super::Held;
use super::broken;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::ledger::begins;

/// After `CancelRequested` or `DeadlinePassed` nothing new begins in that scope: no claim, timer, question, wait for a signal,
/// fork, launch or child run. After a scope's `Ended`, nothing begins in any scope below it, child runs included. Both until
/// `Redriven`. Only `Ended` itself, ends of children, what was in flight, and pauses may be recorded between the two.
///
/// The limit: a call for a claim that was recorded before may begin after it; the worker is stopped, or its result is late.
/// Between a root's cancel and the moment a branch has it, that branch may still begin something: the run is CANCELLING.
pub(super) fn check(ledger: &Ledger, moment: &Moment<'_>) -> Held {
    const NAME: &str = "cancel-starts-nothing";
    let Moment { line, event, .. } = moment;
    if line.ending {
        let allowed = matches!(
            event,
            Event::Ended { .. }
                | Event::ChildrenEnded { .. }
                | Event::StepSucceeded { .. }
                | Event::StepFailed { .. }
                | Event::LateResult { .. }
                | Event::Paused { .. }
                | Event::Resumed { .. }
        );
        if !allowed {
            return broken(NAME, format!("{}: the scope was cancelled or timed out before", moment.place()));
        }
    }
    if let Event::Ended { outcome } = event {
        let stopped = matches!(outcome, engine::Outcome::Cancelled { .. });
        let live = line.live_children();
        if let Some(child) = live.first() {
            return broken(NAME, format!("{}: it does not know yet that {child} has ended", moment.place()));
        }
        if stopped && !line.ending {
            return broken(NAME, format!("{}: nobody asked for its cancellation", moment.place()));
        }
    }
    if begins(event)
        && let Some(over) = ledger.ancestors(line).find(|above| above.is_over())
    {
        return broken(NAME, format!("{}: {} has ended", moment.place(), over.key));
    }
    Ok(())
}
