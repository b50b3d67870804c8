//! The queue as it is: real delays, real visibilities.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use runtime::conformance;
use runtime::conformance::Manners;
use runtime::ports::Delivery;
use runtime::ports::Doorbell as _;
use runtime::ports::Hint;
use runtime::ports::Queue;
use runtime::ports::Ring;
use sqs::Doorbell;
use sqs::Queues;

use crate::servers;

/// One that looks and does not wait, and hides for so many seconds what it finds.
fn doorbell(queues: &Queues, hidden: u64) -> Doorbell {
    let client = servers::queue_client();
    Doorbell::new(client, queues.clone(), 1).polling(Duration::ZERO, Duration::from_secs(hidden))
}

fn ring(path: &str, after: Duration) -> Ring {
    let scope = ScopeKey::new(RunId::new("run"), ScopePath::from_stored(path));
    Ring { queue: Queue::Steps, scope, after, hint: Hint::None }
}

/// The next delivery, as soon as there is one.
async fn next(doorbell: &Doorbell) -> Delivery {
    let received = async {
        loop {
            if let Some(delivery) = doorbell.receive(Queue::Steps, 1).await.unwrap().pop() {
                return delivery;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), received).await.expect("it is delivered")
}

/// How many messages wait for their delay, and how many are hidden.
async fn unseen(url: &str) -> [u32; 2] {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    ];
    let request = servers::queue_client().get_queue_attributes().queue_url(url);
    let known = request.set_attribute_names(Some(names.to_vec())).send().await.unwrap().attributes.unwrap();
    names.map(|name| known[&name].parse().unwrap())
}

#[test]
fn it_is_a_doorbell() {
    servers::online(async {
        let manners = Manners { soon: Duration::from_millis(700), fair: false, gives_back_at_once: false };
        conformance::doorbell_suite(Arc::new(doorbell(&servers::queues().await, 30)), manners).await;
    });
}

#[test]
fn what_is_asked_for_beyond_the_limits_is_done_up_to_them() {
    servers::online(async {
        let queues = servers::queues().await;
        let doorbell = doorbell(&queues, 30);
        doorbell.ring(vec![ring("/", Duration::from_hours(2))]).await.unwrap();
        assert_eq!(unseen(&queues.steps).await, [1, 0], "it is delayed for as long as can be");
        doorbell.ring(vec![ring("/soon", Duration::ZERO), ring("/later", Duration::ZERO)]).await.unwrap();
        let deliveries = [next(&doorbell).await, next(&doorbell).await];
        doorbell.extend(&deliveries, Duration::from_hours(13)).await.unwrap();
        let [_, other] = deliveries;
        doorbell.retry(other, Duration::from_hours(13)).await.unwrap();
        assert_eq!(unseen(&queues.steps).await, [1, 2], "they are hidden for as long as can be");
    });
}

#[test]
fn the_receipt_of_a_message_that_came_again_is_no_error() {
    servers::online(async {
        let queues = servers::queues().await;
        let doorbell = doorbell(&queues, 1);
        doorbell.ring(vec![ring("/", Duration::ZERO)]).await.unwrap();
        let first = next(&doorbell).await;
        let second = next(&doorbell).await;
        assert_eq!((first.redeliveries, second.redeliveries), (0, 1));
        assert_ne!(first.receipt, second.receipt);
        doorbell.extend(std::slice::from_ref(&first), Duration::from_mins(1)).await.unwrap();
        doorbell.acknowledge(second.clone()).await.unwrap();
        // Who was thought dead, and whoever is told twice.
        doorbell.retry(first.clone(), Duration::from_secs(1)).await.unwrap();
        doorbell.extend(&[first.clone(), second.clone()], Duration::from_mins(1)).await.unwrap();
        doorbell.acknowledge(first).await.unwrap();
        doorbell.acknowledge(second).await.unwrap();
        assert_eq!(unseen(&queues.steps).await, [0, 0], "it is gone");
    });
}

#[test]
fn scopes_far_down_ring_together_whatever_their_names() {
    servers::online(async {
        let queues = servers::queues().await;
        let doorbell = doorbell(&queues, 30);
        // Ten of them are more than one request holds.
        let deep = |number: usize| format!("/{}{number}#1", "ü%20\u{1F600}*\"\\ /".repeat(8_000));
        doorbell.ring((0..10).map(|number| ring(&deep(number), Duration::ZERO)).collect()).await.unwrap();
        let mut paths = Vec::new();
        for _ in 0..10 {
            let delivery = next(&doorbell).await;
            paths.push(delivery.scope.path.to_string());
            doorbell.acknowledge(delivery).await.unwrap();
        }
        paths.sort();
        assert!((0..10).all(|number| paths[number] == deep(number)), "each as it was");
    });
}
