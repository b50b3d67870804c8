//! `control-reaches-all`.

use super::*;

fn look(story: &mut Story, hours: i64) -> Seen {
    story.pass(3600 * hours);
    let due = vec![DueRow { at: story.now, scope: root(), seq: 1, visits: 0 }];
    story.checker.findable(story.now, &due)
}

#[test]
fn within_the_sweepers_bound() {
    for control in [cancelled, paused] {
        let mut story = Story::forked();
        story.put(&root(), vec![control()]).unwrap();
        story.put(&child(0), vec![control()]).unwrap();
        // While things fail it may take as long as it takes.
        look(&mut story, 9).unwrap();
        story.see(What::FaultsOver).unwrap();
        look(&mut story, 1).unwrap();
        breaks("control-reaches-all", &look(&mut story, 1));
        story.put(&child(1), vec![control()]).unwrap();
        look(&mut story, 1).unwrap();
    }
}

#[tokio::test]
async fn at_rest() {
    let resting = |told: &[u32]| {
        let mut story = Story::forked();
        let summary = Extra::Summary(Box::new(story.summary(RunStatus::Paused)));
        story.put_with(&root(), vec![paused()], vec![summary]).unwrap();
        for index in told {
            story.put(&child(*index), vec![paused()]).unwrap();
        }
        story
    };
    resting(&[0, 1]).finish().await.unwrap();
    breaks("control-reaches-all", &resting(&[0]).finish().await);

    // Nobody waits for it any more.
    let mut story = Story::forked();
    for index in [0, 1] {
        story.put(&child(index), vec![cancelled(), cancelled_end()]).unwrap();
    }
    story.put(&root(), vec![cancelled()]).unwrap();
    let outcome = Outcome::Cancelled { reason: None };
    let ended = [0, 1].map(|index| ChildEnded { index, seq: 2, outcome: outcome.clone() }).to_vec();
    story.put(&root(), vec![Event::ChildrenEnded { fork: 2, ended }, cancelled_end()]).unwrap();
    story.notify("end/0", super::over_as(RunStatus::Cancelled)).unwrap();
    story.finish().await.unwrap();
    story.put(&child(0), vec![redriven()]).unwrap();
    breaks("control-reaches-all", &story.finish().await);
}

#[tokio::test]
async fn a_run_is_pausing_as_long_as_something_is_performed() {
    for (over, shows, right) in [
        (false, RunStatus::Pausing, true),
        (false, RunStatus::Paused, false),
        (true, RunStatus::Pausing, false),
        (true, RunStatus::Paused, true),
    ] {
        let mut story = Story::claimed("pay");
        if over {
            story.see(What::Dropped { call: 0 }).unwrap();
            story.pass(60);
        }
        let summary = Extra::Summary(Box::new(story.summary(shows)));
        story.put_with(&root(), vec![paused()], vec![summary]).unwrap();
        let seen = story.finish().await;
        assert_eq!(seen.is_ok(), right, "{shows} {over}: {seen:?}");
    }
}
