//! `retries-by-policy`.

use super::*;

/// Attempts fail, each so many seconds before the next; all but the last one are made again.
fn tried(error: &Error, pauses: &[Option<u64>], asked: Option<Duration>) -> Seen {
    let mut story = Story::started();
    story.put(&root(), vec![entered("pay")]).unwrap();
    for (attempt, pause) in (1..).zip(pauses) {
        story.put(&root(), vec![claim((attempt, 1, attempt))])?;
        story.call("pay", (attempt, 1, attempt)).unwrap();
        story.answer(Err(CallError { error: error.clone(), definite: true, retry_after: asked })).unwrap();
        let retry_at = pause.map(|pause| story.now + Duration::from_secs(pause));
        let failed = Event::StepFailed { attempt, epoch: 1, error: error.clone(), definite: true, retry_at };
        story.put(&root(), vec![failed])?;
        story.now = retry_at.unwrap_or(story.now);
    }
    Ok(())
}

#[test]
fn an_attempt_follows_where_the_policy_grants_one() {
    let declined = agent_error();
    tried(&declined, &[Some(10), Some(15), None], None).unwrap();
    breaks("retries-by-policy", &tried(&declined, &[Some(10), Some(15), Some(15)], None));
    breaks("retries-by-policy", &tried(&declined, &[Some(10), None], None));
    // Only what `retryOn` names.
    let other = Error::new("other", "no");
    tried(&other, &[None], None).unwrap();
    breaks("retries-by-policy", &tried(&other, &[Some(10)], None));
    // Of an `atMostOnce` without a policy nothing is tried again.
    let mut story = Story::claimed("once");
    story.answer(Err(CallError { error: declined, definite: true, retry_after: None })).unwrap();
    let retry_at = Some(story.now + Duration::from_secs(1));
    breaks("retries-by-policy", &story.put(&root(), vec![failed(agent_error(), true, retry_at)]));
}

#[test]
fn it_follows_after_the_pause_that_the_policy_says() {
    let declined = agent_error();
    tried(&declined, &[Some(5), Some(8), None], None).unwrap();
    breaks("retries-by-policy", &tried(&declined, &[Some(4)], None));
    breaks("retries-by-policy", &tried(&declined, &[Some(11)], None));
    // Twice as long, up to the longest.
    breaks("retries-by-policy", &tried(&declined, &[Some(10), Some(7)], None));
    breaks("retries-by-policy", &tried(&declined, &[Some(10), Some(16)], None));
    // The agent may ask for more.
    let asked = Some(Duration::from_secs(40));
    tried(&declined, &[Some(40)], asked).unwrap();
    breaks("retries-by-policy", &tried(&declined, &[Some(39)], asked));
    breaks("retries-by-policy", &tried(&declined, &[Some(41)], asked));
}
