//! What a doorbell must do, and what of it depends on the kind of queue: its [`Manners`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::ScopeKey;

use super::scope;
use crate::ports::Delivery;
use crate::ports::Doorbell;
use crate::ports::Hint;
use crate::ports::Queue;
use crate::ports::Ring;

/// How a doorbell may differ from one in memory, which is the default.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Within this much time, on the doorbell's own clock, what rings is delivered; and where nothing does, that is known.
    pub soon: Duration,
    /// A run with little to do has its turn before one with much is through.
    pub fair: bool,
    /// Who waits may be dropped at any time, and takes nothing along. Otherwise `receive` answers by itself, with nothing,
    /// within about `soon`.
    pub gives_back_at_once: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self { soon: Duration::from_millis(100), fair: true, gives_back_at_once: true }
    }
}

/// A doorbell delivers at least once, keeps its queues apart, waits as long as it was told, and is fair among runs. Best run
/// under tokio's paused time, unless it is far away.
pub async fn doorbell_suite<D: Doorbell>(doorbell: Arc<D>, manners: Manners) {
    let subject = &Subject { doorbell: doorbell.clone(), manners };
    what_rings_is_delivered_with_its_hint(subject).await;
    queues_are_apart(subject).await;
    what_is_not_answered_comes_again(subject).await;
    what_rings_while_it_is_answered_is_not_lost(subject).await;
    what_rings_later_rings_later(subject).await;
    no_run_starves(subject).await;
    names_may_be_odd(subject).await;
    if manners.gives_back_at_once {
        waiting_may_be_given_up(subject).await;
    }
}

struct Subject<D> {
    doorbell: Arc<D>,
    manners: Manners,
}

impl<D> std::ops::Deref for Subject<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.doorbell
    }
}

fn ring(queue: Queue, scope: &ScopeKey, hint: Hint) -> Ring {
    Ring { queue, scope: scope.clone(), after: Duration::ZERO, hint }
}

async fn next<D: Doorbell>(doorbell: &Subject<D>, queue: Queue) -> Option<Delivery> {
    within(doorbell, queue, doorbell.manners.soon).await
}

async fn within<D: Doorbell>(doorbell: &Subject<D>, queue: Queue, time: Duration) -> Option<Delivery> {
    let end = tokio::time::Instant::now() + time;
    loop {
        let receive = doorbell.receive(queue, 1);
        let received = if doorbell.manners.gives_back_at_once {
            tokio::time::timeout_at(end, receive).await.ok()?.unwrap()
        } else {
            receive.await.unwrap()
        };
        assert!(received.len() <= 1, "no more than was asked for");
        if let Some(delivery) = received.into_iter().next() {
            return Some(delivery);
        }
        if tokio::time::Instant::now() >= end {
            return None;
        }
    }
}

async fn nothing<D: Doorbell>(doorbell: &Subject<D>) {
    assert_eq!(next(doorbell, Queue::Steps).await, None);
    assert_eq!(next(doorbell, Queue::Resume).await, None);
}

async fn what_rings_is_delivered_with_its_hint<D: Doorbell>(doorbell: &Subject<D>) {
    let root = scope("hints", "/");
    doorbell.ring(vec![ring(Queue::Resume, &root, Hint::ChildEnded(7))]).await.unwrap();
    let delivery = next(doorbell, Queue::Resume).await.unwrap();
    assert_eq!((&delivery.scope, delivery.queue, delivery.redeliveries), (&root, Queue::Resume, 0));
    assert!(delivery.hints.contains(&Hint::ChildEnded(7)));
    doorbell.extend(std::slice::from_ref(&delivery), Duration::from_mins(1)).await.unwrap();
    doorbell.acknowledge(delivery).await.unwrap();
    nothing(doorbell).await;
}

async fn queues_are_apart<D: Doorbell>(doorbell: &Subject<D>) {
    let root = scope("apart", "/");
    doorbell
        .ring(vec![ring(Queue::Steps, &root, Hint::None), ring(Queue::Resume, &root, Hint::Signal)])
        .await
        .unwrap();
    let step = next(doorbell, Queue::Steps).await.unwrap();
    // A step may take an hour; what became true meanwhile must not wait for it.
    let resume = next(doorbell, Queue::Resume).await.unwrap();
    assert!(resume.hints.contains(&Hint::Signal));
    doorbell.acknowledge(step).await.unwrap();
    doorbell.acknowledge(resume).await.unwrap();
    nothing(doorbell).await;
}

async fn what_is_not_answered_comes_again<D: Doorbell>(doorbell: &Subject<D>) {
    let root = scope("again", "/");
    doorbell.ring(vec![ring(Queue::Resume, &root, Hint::ChildEnded(1))]).await.unwrap();
    let first = next(doorbell, Queue::Resume).await.unwrap();
    doorbell.retry(first, Duration::from_secs(1)).await.unwrap();
    assert_eq!(next(doorbell, Queue::Resume).await, None, "not before its time");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let second = next(doorbell, Queue::Resume).await.unwrap();
    assert!(second.redeliveries > 0);
    assert!(second.hints.contains(&Hint::ChildEnded(1)), "with the same hints");
    doorbell.acknowledge(second).await.unwrap();
    nothing(doorbell).await;
}

async fn what_rings_while_it_is_answered_is_not_lost<D: Doorbell>(doorbell: &Subject<D>) {
    let root = scope("meanwhile", "/");
    doorbell.ring(vec![ring(Queue::Resume, &root, Hint::None)]).await.unwrap();
    let first = next(doorbell, Queue::Resume).await.unwrap();
    let more = [Hint::ChildEnded(1), Hint::ChildEnded(2)].map(|hint| ring(Queue::Resume, &root, hint));
    doorbell.ring(more.into()).await.unwrap();
    doorbell.acknowledge(first).await.unwrap();
    let mut hints = Vec::new();
    while let Some(delivery) = next(doorbell, Queue::Resume).await {
        hints.extend(delivery.hints.clone());
        doorbell.acknowledge(delivery).await.unwrap();
    }
    assert!(hints.contains(&Hint::ChildEnded(1)) && hints.contains(&Hint::ChildEnded(2)), "{hints:?}");
}

async fn what_rings_later_rings_later<D: Doorbell>(doorbell: &Subject<D>) {
    let (early, late) = (scope("early", "/"), scope("late", "/"));
    let unit = Duration::from_secs(1).max(doorbell.manners.soon * 3);
    let after =
        |scope: &ScopeKey, units| Ring { after: unit * units, ..ring(Queue::Steps, scope, Hint::None) };
    doorbell.ring(vec![after(&late, 3), after(&early, 1)]).await.unwrap();
    nothing(doorbell).await;
    for expected in [early, late] {
        let delivery = within(doorbell, Queue::Steps, unit * 10).await.expect("it rings by itself");
        assert_eq!(delivery.scope, expected);
        doorbell.acknowledge(delivery).await.unwrap();
    }
}

async fn no_run_starves<D: Doorbell>(doorbell: &Subject<D>) {
    let many = (0..200).map(|n| ring(Queue::Steps, &scope("large", &format!("/each#1[{n}]")), Hint::None));
    doorbell.ring(many.collect()).await.unwrap();
    doorbell.ring(vec![ring(Queue::Steps, &scope("small", "/"), Hint::None)]).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut turn = None;
    for number in 0..201 {
        let delivery = next(doorbell, Queue::Steps).await.expect("each of them");
        if delivery.scope.run.as_str() == "small" {
            turn = Some(number);
        }
        seen.insert(delivery.scope.clone());
        doorbell.acknowledge(delivery).await.unwrap();
    }
    assert_eq!(seen.len(), 201);
    assert!(
        !doorbell.manners.fair || turn.is_some_and(|turn| turn < 100),
        "a small run has its turn before a large one is through: {turn:?}"
    );
}

async fn names_may_be_odd<D: Doorbell>(doorbell: &Subject<D>) {
    let odd = scope("r/1 ü", "/a%20b#1/ü.x*>\u{1F600}");
    doorbell.ring(vec![ring(Queue::Steps, &odd, Hint::None)]).await.unwrap();
    let delivery = next(doorbell, Queue::Steps).await.unwrap();
    assert_eq!(delivery.scope, odd);
    doorbell.acknowledge(delivery).await.unwrap();
}

async fn waiting_may_be_given_up<D: Doorbell>(doorbell: &Subject<D>) {
    // A receiver that is dropped takes nothing with it: neither what rings at that moment nor what rings later.
    let given_up = scope("given-up", "/");
    for round in 0..20 {
        let waiting = doorbell.doorbell.clone();
        let waiter = tokio::spawn(async move { waiting.receive(Queue::Steps, 1).await });
        tokio::task::yield_now().await;
        let after = Duration::from_millis(round % 3);
        doorbell.ring(vec![Ring { after, ..ring(Queue::Steps, &given_up, Hint::None) }]).await.unwrap();
        waiter.abort();
        let delivery = match waiter.await {
            Ok(received) => received.unwrap().remove(0),
            Err(_) => next(doorbell, Queue::Steps).await.expect("somebody else receives it"),
        };
        doorbell.acknowledge(delivery).await.unwrap();
    }
}
