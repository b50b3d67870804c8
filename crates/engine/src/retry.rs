//! What follows a failed attempt.

use model::Millis;
use model::Retry;

use crate::Error;
use crate::Event;
use crate::Failure;
use crate::decide::Decider;
use crate::error_type;
use crate::fold::later;

/// Epochs without an answer after which an attempt has failed as `interrupted`.
const MAX_EPOCHS: u32 = 5;

/// The event for an attempt that failed: with a time for the next one, if the policy grants one.
pub(crate) fn failed(decider: &Decider<'_>, failure: Failure) -> Event {
    let Some(claim) = decider.scope.claim(decider.workflow) else {
        return Event::ErrorRaised { error: failure.error, floor: None };
    };
    let made = claim.attempt.saturating_sub(attempt_base(decider));
    let rule =
        claim.operation.retry.iter().find(|rule| applies(rule, &failure.error, claim.operation.at_most_once));
    let retry_at = rule.filter(|rule| made < rule.max_attempts).map(|rule| {
        let pause =
            backoff(rule, made, decider.env.entropy).0.max(failure.retry_after.map_or(0, |after| after.0));
        later(decider.now(), pause)
    });
    let mut error = failure.error;
    error.state = Some(claim.state.name.clone());
    error.attempts = claim.attempt;
    Event::StepFailed {
        attempt: claim.attempt,
        epoch: claim.epoch,
        error,
        definite: failure.definite,
        retry_at,
    }
}

/// What a worker does that meets the claim of a dead one: takes it over, or fails it.
pub(crate) fn take_over(decider: &Decider<'_>) -> Option<Event> {
    let claim = decider.scope.claim(decider.workflow)?;
    let epochs = claim.epoch.saturating_sub(epoch_base(decider));
    if claim.operation.at_most_once || epochs >= MAX_EPOCHS {
        let what = if claim.operation.at_most_once {
            "the worker died while performing it, and atMostOnce forbids to perform it again".to_owned()
        } else {
            format!("{epochs} workers died while performing it")
        };
        let error = Error::new(error_type::INTERRUPTED, what).with_code(crate::code::STEP_INTERRUPTED);
        return Some(failed(decider, Failure { error, definite: false, retry_after: None }));
    }
    Some(Event::StepClaimed {
        attempt: claim.attempt,
        epoch: claim.epoch + 1,
        key: claim.key,
        worker: decider.env.worker.clone(),
        request: None,
        secrets: Vec::new(),
    })
}

fn attempt_base(decider: &Decider<'_>) -> u32 {
    claimed(decider).map_or(0, |claimed| claimed.attempt_base)
}

fn epoch_base(decider: &Decider<'_>) -> u32 {
    claimed(decider).map_or(0, |claimed| claimed.epoch_base)
}

fn claimed<'a>(decider: &'a Decider<'_>) -> Option<&'a crate::scope::Claimed> {
    match decider.scope.top().map(|frame| &frame.phase) {
        Some(crate::scope::Phase::Claimed(claimed)) => Some(claimed),
        _ => None,
    }
}

fn applies(rule: &Retry, error: &Error, at_most_once: bool) -> bool {
    match &rule.retry_on {
        Some(kinds) => kinds.contains(&error.kind),
        None => match error.kind.as_ref() {
            error_type::VALIDATION | error_type::REJECTED | error_type::CANCELLED => false,
            error_type::INTERRUPTED => !at_most_once,
            _ => true,
        },
    }
}

/// The pause after the `made`th attempt. The random bits take up to `jitter` of it off.
fn backoff(rule: &Retry, made: u32, entropy: u64) -> Millis {
    let doublings = if rule.exponential { made.saturating_sub(1).min(63) } else { 0 };
    let pause = rule.backoff.0.saturating_mul(1 << doublings).min(rule.max_backoff.0);
    // 53 bits: as many as a float holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let share = (entropy >> 11) as f64 / (1_u64 << 53) as f64;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let off = (pause as f64 * rule.jitter.clamp(0.0, 1.0) * share) as u64;
    Millis(pause.saturating_sub(off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_limit_and_jitter_only_shortens() {
        let rule = Retry {
            max_attempts: 9,
            backoff: Millis(1_000),
            exponential: true,
            max_backoff: Millis(5_000),
            jitter: 0.5,
            retry_on: None,
        };
        let pauses: Vec<_> = (1..=4).map(|made| backoff(&rule, made, 0).0).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 5_000]);
        assert_eq!(backoff(&rule, 200, u64::MAX).0, 2_501);
        assert_eq!(backoff(&Retry { exponential: false, jitter: 0.0, ..rule }, 7, u64::MAX).0, 1_000);
    }
}
