//! `control-reaches-all`.

use jiff::Timestamp;

use super::Held;
use super::broken;
use super::findable::BOUND;
use super::ledger::Ledger;
use super::line::Line;

const NAME: &str = "control-reaches-all";

/// A branch, iteration or child run that is live while its parent is cancelled, timed out or paused has that too, as the
/// sweeper finds the parent: within its bound after it was recorded there, or after faults were over. (Each level within the
/// bound of its own, and a level more where clocks differ.)
pub(super) fn reached(ledger: &Ledger, now: Timestamp) -> Held {
    let Some(calm) = ledger.calm_since else { return Ok(()) };
    check(ledger, |since| {
        since.max(calm).checked_add(BOUND + ledger.skew(now, BOUND)).is_ok_and(|until| until < now)
    })
}

/// At the end every live branch has it, however soon that came; and none goes on that nobody waits for.
pub(super) fn finish(ledger: &Ledger) -> Held {
    check(ledger, |_| true)?;
    for line in ledger.lines.values().filter(|line| line.workflow.is_some() && !line.is_over()) {
        let Some(parent) = line.parent.as_ref().and_then(|parent| ledger.line(parent)) else { continue };
        if !parent.live_children().contains(&line.key) {
            return broken(
                NAME,
                format!("{} has not ended, and {} does not wait for it", line.key, parent.key),
            );
        }
    }
    Ok(())
}

fn check(ledger: &Ledger, is_overdue: impl Fn(Timestamp) -> bool) -> Held {
    for line in ledger.lines.values() {
        let is_overdue = |since: Option<Timestamp>| since.is_some_and(&is_overdue);
        let (ends, rests) = (is_overdue(line.ending_since), is_overdue(line.paused_since));
        if !ends && !rests {
            continue;
        }
        for key in line.live_children() {
            let child = ledger.line(&key);
            let is = |what: fn(&Line) -> bool| child.is_some_and(|child| child.is_over() || what(child));
            let missing = if ends && !is(|child| child.ending) {
                "is to end"
            } else if rests && !is(Line::is_paused) {
                "is paused"
            } else {
                continue;
            };
            return broken(NAME, format!("{} {missing}, and {key} has not heard of it", line.key));
        }
    }
    Ok(())
}
