//! `retries-by-policy`.

use engine::Error;
use engine::Event;
use engine::error_type;
use jiff::Timestamp;
use model::Millis;
use model::Retry;

use super::Held;
use super::broken;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::line::Leaf;
use super::line::Step;
use super::steps::claim_of;
use super::steps::is_same;
use super::steps::operation;

const NAME: &str = "retries-by-policy";

/// The first rule of the state's `retry` that covers an error decides: while fewer attempts were made than it allows, another
/// one follows, else none does. `retryOn` says what a rule covers; without it, everything but `validation`, `rejected`,
/// `cancelled`, and the interruption of an `atMostOnce`. Attempts are counted anew after a redrive.
///
/// The next attempt is granted for a time not before the pause that the rule says, less its jitter, and not after that pause;
/// or for when the agent asked for it, if that is later. (That it does not begin sooner is checked with `pause-holds`, that it
/// begins at all with `findable` and `rest-is-named`.) Holds always, by the times of records.
pub(super) fn check(ledger: &Ledger, moment: &Moment<'_>) -> Held {
    let Leaf::Step(step) = &moment.line.leaf else { return Ok(()) };
    let Some(operation) = operation(moment.line) else { return Ok(()) };
    match moment.event {
        Event::StepClaimed { attempt, .. } => {
            let most = operation.retry.iter().map(|rule| rule.max_attempts).max().unwrap_or(1).max(1);
            let made = attempt.saturating_sub(step.attempts_before);
            if made <= most {
                return Ok(());
            }
            broken(NAME, format!("{}: {made} attempts, and the policy allows {most}", moment.place()))
        }
        Event::StepFailed { error, retry_at, .. } => {
            let made = step.attempt.saturating_sub(step.attempts_before);
            let rule = operation.retry.iter().find(|rule| covers(rule, error, operation.at_most_once));
            match (rule.filter(|rule| made < rule.max_attempts), retry_at) {
                (None, None) => Ok(()),
                (Some(rule), Some(at)) => in_time(rule, made, *at, asked(ledger, step, error), moment),
                (granted, _) => {
                    let (says, does) =
                        if granted.is_some() { ("another", "none") } else { ("no other", "one") };
                    let what = format!(
                        "{}: after {made} attempts and {} the policy grants {says} attempt, and {does} follows",
                        moment.place(),
                        error.kind
                    );
                    broken(NAME, what)
                }
            }
        }
        _ => Ok(()),
    }
}

fn covers(rule: &Retry, error: &Error, at_most_once: bool) -> bool {
    let kind = &*error.kind;
    match &rule.retry_on {
        Some(kinds) => kinds.iter().any(|known| **known == *kind),
        None if kind == error_type::INTERRUPTED => !at_most_once,
        None => ![error_type::VALIDATION, error_type::REJECTED, error_type::CANCELLED].contains(&kind),
    }
}

/// How many milliseconds the agent wants not to be called again.
fn asked(ledger: &Ledger, step: &Step, error: &Error) -> u64 {
    let claim = claim_of(ledger, &step.id, (step.attempt, step.epoch));
    let call = claim.and_then(|claim| claim.call).and_then(|call| ledger.calls.get(&call));
    match call.and_then(|call| call.answer.as_ref()) {
        Some(Err(answer)) if is_same(&answer.error, error) => {
            answer.retry_after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX))
        }
        _ => 0,
    }
}

fn in_time(rule: &Retry, made: u32, at: Timestamp, asked: u64, moment: &Moment<'_>) -> Held {
    let pauses = u64::try_from(at.duration_since(moment.record.at).as_millis()).unwrap_or_default();
    let (least, most) = pause(rule, made);
    if (least.max(asked)..=most.max(asked)).contains(&pauses) {
        return Ok(());
    }
    let what = format!(
        "{}: the next attempt is {pauses} ms later; {least} to {most} ms are the policy's after {made}, {asked} ms the agent's",
        moment.place()
    );
    broken(NAME, what)
}

/// The shortest and the longest pause after so many attempts, in milliseconds.
fn pause(rule: &Retry, made: u32) -> (u64, u64) {
    let Millis(first) = rule.backoff;
    let Millis(longest) = rule.max_backoff;
    let mut pause = first;
    if rule.exponential {
        for _ in 1..made {
            pause = pause.saturating_mul(2).min(longest);
        }
    }
    pause = pause.min(longest);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let off = (pause as f64 * rule.jitter).ceil() as u64;
    (pause.saturating_sub(off), pause)
}
