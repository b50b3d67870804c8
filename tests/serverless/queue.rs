//! A queue whose delays are real, under a clock that jumps.
//!
//! Each ring is sent through the adapter, received and decoded again, and deleted when it is acknowledged; what comes a second
//! time is made visible and received a second time. The waits in between are not SQS's: a message is sent without a delay, and
//! held back here until its virtual time has come.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use runtime::ports;
use runtime::ports::Delivery;
use runtime::ports::Doorbell as _;
use runtime::ports::Queue;
use runtime::ports::Ring;
use runtime::ports::StoreError;
use sqs::Queues;
use testing::at_once;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::servers;

/// SQS delays a message no longer.
const LONGEST_DELAY: Duration = Duration::from_mins(15);
/// How long a message that was received is hidden, unless it is extended.
const HIDDEN: Duration = Duration::from_mins(1);

/// Doorbells in SQS, at their virtual times.
pub(crate) struct Held {
    sqs: sqs::Doorbell,
    queues: Queues,
    /// Where they go when they are no longer used.
    free: &'static Mutex<Vec<Queues>>,
    state: Mutex<State>,
    rung: Notify,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    count: u64,
}

/// A message of the queue, hidden from it.
struct Message {
    delivery: Delivery,
    /// When it is visible.
    at: Instant,
    /// In the order of their coming.
    number: u64,
    /// How often it was delivered.
    delivered: u32,
}

impl Held {
    /// In these queues, which nobody else uses until they are free again.
    pub(crate) fn new(queues: Queues, free: &'static Mutex<Vec<Queues>>) -> Self {
        let sqs = sqs::Doorbell::new(servers::queue_client(), queues.clone(), 1)
            .polling(Duration::from_secs(1), Duration::from_hours(12));
        Self { sqs, queues, free, state: Mutex::default(), rung: Notify::new() }
    }

    /// What is in the queue now: so many messages.
    async fn fetch(&self, queue: Queue, count: usize) -> Result<Vec<Delivery>, StoreError> {
        let mut fetched = Vec::new();
        while fetched.len() < count {
            fetched.extend(self.sqs.receive(queue, count - fetched.len()).await?);
        }
        Ok(fetched)
    }

    /// What can be received now; else the time from which on something can.
    fn take(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut ours: Vec<&mut Message> =
            state.messages.iter_mut().filter(|message| message.delivery.queue == queue).collect();
        ours.sort_by_key(|message| (message.at, message.number));
        let first = ours.first().map(|message| message.at);
        let mut taken = Vec::new();
        for message in ours.into_iter().filter(|message| message.at <= now).take(max.clamp(1, 10)) {
            if message.delivered > 0 {
                message.delivery = self.again(&message.delivery);
            }
            message.delivered += 1;
            message.at = now + HIDDEN;
            taken.push(message.delivery.clone());
        }
        if taken.is_empty() { Err(first) } else { Ok(taken) }
    }

    /// The same message, received a second time.
    fn again(&self, delivery: &Delivery) -> Delivery {
        let again = at_once(Some(servers::network()), async {
            self.sqs.retry(delivery.clone(), Duration::ZERO).await?;
            self.fetch(delivery.queue, 1).await
        });
        let again = again.expect("LocalStack answers").remove(0);
        assert_eq!((&again.scope, &again.hints), (&delivery.scope, &delivery.hints));
        assert_eq!(again.redeliveries, delivery.redeliveries + 1);
        again
    }

    /// A message is visible again after this time.
    fn hide(&self, delivery: &Delivery, by: Duration) {
        let mut state = self.state.lock();
        let at = Instant::now() + by;
        // One that came again meanwhile has another receipt.
        let ours = state.messages.iter_mut().filter(|message| message.delivery.receipt == delivery.receipt);
        ours.for_each(|message| message.at = at);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What is left in them is hidden for longer than the tests take.
        self.free.lock().push(self.queues.clone());
    }
}

#[async_trait]
impl ports::Doorbell for Held {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        let sent = rings.iter().map(|ring| Ring { after: Duration::ZERO, ..ring.clone() }).collect();
        let same = |ring: &Ring, other: &Ring| {
            (ring.queue, &ring.scope, &ring.hint) == (other.queue, &other.scope, &other.hint)
        };
        // The adapter sends one of those that say the same.
        let mut kept: Vec<Ring> = Vec::new();
        for ring in rings {
            match kept.iter_mut().find(|kept| same(kept, &ring)) {
                Some(kept) => kept.after = kept.after.min(ring.after),
                None => kept.push(ring),
            }
        }
        let of = |queue| kept.iter().filter(|ring| ring.queue == queue).count();
        let received = at_once(Some(servers::network()), async {
            self.sqs.ring(sent).await?;
            let mut received = self.fetch(Queue::Steps, of(Queue::Steps)).await?;
            received.extend(self.fetch(Queue::Resume, of(Queue::Resume)).await?);
            Ok::<_, StoreError>(received)
        })?;
        let mut state = self.state.lock();
        // In the order in which they were rung.
        for ring in kept {
            let says = |delivery: &&Delivery| {
                (delivery.queue, &delivery.scope, &delivery.hints[..])
                    == (ring.queue, &ring.scope, std::slice::from_ref(&ring.hint))
            };
            let delivery = received.iter().find(says).expect("what was rung is received").clone();
            state.count += 1;
            let number = state.count;
            let at = Instant::now() + ring.after.min(LONGEST_DELAY);
            state.messages.push(Message { delivery, at, number, delivered: 0 });
        }
        drop(state);
        self.rung.notify_waiters();
        Ok(())
    }

    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        loop {
            let rung = self.rung.notified();
            match self.take(queue, max) {
                Ok(taken) => return Ok(taken),
                Err(Some(next)) => tokio::select! {
                    biased;
                    () = rung => {}
                    () = tokio::time::sleep_until(next) => {}
                },
                Err(None) => rung.await,
            }
        }
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let place = state.messages.iter().position(|message| message.delivery.receipt == delivery.receipt);
        if let Some(place) = place {
            state.messages.remove(place);
            drop(state);
            at_once(Some(servers::network()), self.sqs.acknowledge(delivery))?;
        }
        Ok(())
    }

    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
        for delivery in deliveries {
            self.hide(delivery, by);
        }
        Ok(())
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        self.hide(&delivery, after);
        self.rung.notify_waiters();
        Ok(())
    }
}
