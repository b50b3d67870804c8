//! Sending, receiving and visibilities, in batches of ten.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::BatchResultErrorEntry;
use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry as Visible;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Sent;
use futures::StreamExt as _;
use futures::stream;
use runtime::ports::Delivery;
use runtime::ports::Queue;
use runtime::ports::Ring;
use runtime::ports::StoreError;
use tokio::sync::Mutex;

use crate::error;
use crate::message;

/// Entries of one request at most.
const BATCH: usize = 10;
/// Bytes of the bodies of one request at most; the service's limit is no lower, and has been as low.
const BATCH_BYTES: usize = 256 << 10;
/// Requests at once for one call.
const AT_ONCE: usize = 4;
/// Tries for the entries of a batch that SQS could not take. Whole requests are the client's to repeat.
const TRIES: u32 = 4;
/// The pause before the first of them, doubling.
const PAUSE: Duration = Duration::from_millis(100);
/// SQS delays a message no longer. What is due later has an entry in the catalog that rings again.
const LONGEST_DELAY: Duration = Duration::from_mins(15);
/// SQS hides a message no longer.
const LONGEST_HIDDEN: Duration = Duration::from_hours(12);
/// How long a receiver waits for a message.
const WAIT: Duration = Duration::from_secs(20);
/// How long a message that was received is hidden, unless it is extended.
const HIDDEN: Duration = Duration::from_mins(1);

/// The URLs of the two queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queues {
    /// For the `step` handler.
    pub steps: String,
    /// For the `resume` handler.
    pub resume: String,
}

impl Queues {
    fn url(&self, queue: Queue) -> &str {
        match queue {
            Queue::Steps => &self.steps,
            Queue::Resume => &self.resume,
        }
    }
}

/// The doorbells of two standard queues.
pub struct Doorbell {
    client: Client,
    queues: Queues,
    wait: Duration,
    hidden: Duration,
    jitter: Mutex<fastrand::Rng>,
}

impl Doorbell {
    /// Over a ready client, which repeats requests that fail as a whole. `seed` is what pauses are drawn from: unlike that of
    /// other processes.
    pub fn new(client: Client, queues: Queues, seed: u64) -> Self {
        let jitter = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { client, queues, wait: WAIT, hidden: HIDDEN, jitter }
    }

    /// The same for a process that polls: `receive` waits so long for a message and hides it for so long, both in whole seconds.
    #[must_use]
    pub fn polling(self, wait: Duration, hidden: Duration) -> Self {
        Self { wait: wait.min(WAIT), hidden: hidden.min(LONGEST_HIDDEN), ..self }
    }

    /// Sends what goes to one queue.
    async fn send(&self, queue: Queue, rings: Vec<Ring>) -> Result<(), StoreError> {
        let url = self.queues.url(queue);
        let mut entries = Vec::with_capacity(rings.len());
        for (number, ring) in rings.iter().enumerate() {
            let unfit = |problem: String| error::refused(format!("a doorbell of {}: {problem}", ring.scope));
            let body = message::body(ring).map_err(|problem| unfit(problem.to_string()))?;
            let entry = Sent::builder()
                .id(number.to_string())
                .message_body(body)
                // Late rather than early: who comes too early finds nothing due.
                .set_delay_seconds(Some(seconds(ring.after.min(LONGEST_DELAY))).filter(|delay| *delay > 0))
                .message_group_id(message::group(&ring.scope.run));
            entries.push(entry.build().map_err(|problem| unfit(problem.to_string()))?);
        }
        let sending = batches(entries).into_iter().map(|batch| self.send_batch(url, batch));
        let results: Vec<_> = stream::iter(sending).buffer_unordered(AT_ONCE).collect().await;
        results.into_iter().collect()
    }

    /// Sends one batch; what of it could not be taken, again.
    async fn send_batch(&self, url: &str, mut entries: Vec<Sent>) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            let request = self.client.send_message_batch().queue_url(url).set_entries(Some(entries.clone()));
            let answer =
                request.send().await.map_err(|problem| error::request("sending to", url, &problem))?;
            let failed = answer.failed();
            let Some(first) = failed.first() else { return Ok(()) };
            let told = told("sending to", url, first, failed.len());
            if failed.iter().any(BatchResultErrorEntry::sender_fault) {
                return Err(error::refused(told));
            }
            if tries >= TRIES {
                return Err(error::unavailable(told));
            }
            tracing::warn!(tries, "{told}; trying again");
            entries.retain(|entry| failed.iter().any(|failed| failed.id() == entry.id()));
            self.pause(tries).await;
            tries += 1;
        }
    }

    /// Hides deliveries of one queue for so long from now on.
    async fn hide(&self, queue: Queue, receipts: Vec<&str>, by: Duration) -> Result<(), StoreError> {
        let url = self.queues.url(queue);
        for chunk in receipts.chunks(BATCH) {
            let mut entries = Vec::with_capacity(chunk.len());
            for (number, receipt) in chunk.iter().enumerate() {
                let entry = Visible::builder()
                    .id(number.to_string())
                    .receipt_handle(*receipt)
                    .visibility_timeout(seconds(by.min(LONGEST_HIDDEN)));
                entries.push(entry.build().map_err(|problem| error::refused(problem.to_string()))?);
            }
            let request =
                self.client.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
            let answer = request
                .send()
                .await
                .map_err(|problem| error::request("hiding messages of", url, &problem))?;
            if let Some(first) = answer.failed().first() {
                let told = told("hiding messages of", url, first, answer.failed().len());
                // It is over, or visible again: then it is somebody else's by now, and nothing is to be done about it.
                if answer.failed().iter().all(|failed| failed.sender_fault() || error::is_gone(failed.code()))
                {
                    tracing::info!("{told}; it may have come again already");
                } else {
                    return Err(error::unavailable(told));
                }
            }
        }
        Ok(())
    }

    /// Somewhere up to a pause that doubles with each try.
    async fn pause(&self, tries: u32) {
        let most = PAUSE.saturating_mul(1 << tries.min(6));
        let share = self.jitter.lock().await.f32();
        tokio::time::sleep(most.mul_f32(share)).await;
    }
}

#[async_trait]
impl runtime::ports::Doorbell for Doorbell {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        let (steps, resume): (Vec<Ring>, Vec<Ring>) =
            sooner(rings).into_iter().partition(|ring| ring.queue == Queue::Steps);
        let (steps, resume) =
            futures::join!(self.send(Queue::Steps, steps), self.send(Queue::Resume, resume));
        steps.and(resume)
    }

    /// Waits as long as [`polling`](Doorbell::polling) says, and then answers with nothing.
    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let url = self.queues.url(queue);
        let request = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(max.clamp(1, BATCH)).unwrap_or(1))
            .wait_time_seconds(seconds(self.wait))
            .visibility_timeout(seconds(self.hidden))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let answer =
            request.send().await.map_err(|problem| error::request("receiving from", url, &problem))?;
        let read = answer.messages().iter().filter_map(|message| {
            let received = message
                .attributes()
                .and_then(|known| known.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                .and_then(|count| count.parse().ok())
                .unwrap_or(1);
            let (body, receipt) = (message.body().unwrap_or_default(), message.receipt_handle()?);
            // Left alone, it comes again until its queue gives it up.
            message::delivery(queue, body, receipt, received)
                .inspect_err(|error| tracing::error!(%error, "a message cannot be read"))
                .ok()
        });
        Ok(read.collect())
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        let url = self.queues.url(delivery.queue);
        let request = self.client.delete_message().queue_url(url).receipt_handle(&*delivery.receipt);
        request.send().await.map_err(|problem| error::request("deleting from", url, &problem))?;
        Ok(())
    }

    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
        for queue in [Queue::Steps, Queue::Resume] {
            let ours = deliveries.iter().filter(|delivery| delivery.queue == queue);
            self.hide(queue, ours.map(|delivery| &*delivery.receipt).collect(), by).await?;
        }
        Ok(())
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        self.hide(delivery.queue, vec![&*delivery.receipt], after).await
    }

    async fn put_back(&self, queue: Queue, receipts: &[String], after: Duration) -> Result<(), StoreError> {
        self.hide(queue, receipts.iter().map(|receipt| &**receipt).collect(), after).await
    }
}

/// One of each that ring for the same with the same hint: the sooner.
fn sooner(rings: Vec<Ring>) -> Vec<Ring> {
    let mut kept: Vec<Ring> = Vec::with_capacity(rings.len());
    let mut places = std::collections::HashMap::new();
    for ring in rings {
        let place = (ring.queue, ring.scope.clone(), format!("{:?}", ring.hint));
        if let Some(same) = places.get(&place).and_then(|place: &usize| kept.get_mut(*place)) {
            same.after = same.after.min(ring.after);
        } else {
            places.insert(place, kept.len());
            kept.push(ring);
        }
    }
    kept
}

/// As many as one request holds in each.
fn batches(entries: Vec<Sent>) -> Vec<Vec<Sent>> {
    let mut batches: Vec<Vec<Sent>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let more = entry.message_body().len();
        let room = |batch: &&mut Vec<Sent>| batch.len() < BATCH && bytes + more <= BATCH_BYTES;
        if let Some(batch) = batches.last_mut().filter(room) {
            batch.push(entry);
        } else {
            batches.push(vec![entry]);
            bytes = 0;
        }
        bytes += more;
    }
    batches
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> i32 {
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(up).unwrap_or(i32::MAX)
}

fn told(what: &str, url: &str, first: &BatchResultErrorEntry, count: usize) -> String {
    let reason = first.message().unwrap_or_else(|| first.code());
    format!("{what} `{url}`: {count} entries of a batch failed, the first with {reason}")
}
