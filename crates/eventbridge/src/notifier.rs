//! Telling the bus: batches within its limits, and what it did not take once more.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use runtime::ports::Notice;
use runtime::ports::StoreError;
use tokio::sync::Mutex;

use crate::error;
use crate::event;

/// Entries of one request at most.
const BATCH: usize = 10;
/// Bytes of one request at most, with some room: AWS counts source, detail type and detail in UTF-8, and 14 for a time.
const BYTES: usize = 240 << 10;
/// Tries for what the bus did not take.
const TRIES: u32 = 3;
/// The pause before the first of them, doubling.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one request may take. Whoever tells has other work to do, and what must be told is told again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells one bus.
pub struct Notifier {
    client: Client,
    bus: String,
    jitter: Mutex<fastrand::Rng>,
}

impl Notifier {
    /// Over a ready client. `bus` is the bus's name or its ARN; `seed` is what pauses are drawn from: unlike that of other
    /// processes.
    pub fn new(client: Client, bus: impl Into<String>, seed: u64) -> Self {
        Self { client, bus: bus.into(), jitter: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }

    /// Tells one batch; what of it was not taken, again.
    async fn put(&self, mut entries: Vec<PutEventsRequestEntry>) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            let request = self.client.put_events().set_entries(Some(entries.clone())).send();
            let problem = match tokio::time::timeout(PATIENCE, request).await {
                Err(_) => format!("telling the bus `{}` took longer than {PATIENCE:?}", self.bus),
                Ok(Err(problem)) => {
                    format!("telling the bus `{}` failed: {}", self.bus, DisplayErrorContext(&problem))
                }
                Ok(Ok(answer)) => {
                    // An answer has as many entries as the request, in its order.
                    let refused = answer.entries().iter().map(|entry| entry.error_code().is_some());
                    let mut refused = refused.collect::<Vec<_>>().into_iter();
                    entries.retain(|_| refused.next().unwrap_or(true));
                    if entries.is_empty() {
                        return Ok(());
                    }
                    let first = answer.entries().iter().find_map(|entry| entry.error_code());
                    let (count, reason) = (entries.len(), first.unwrap_or("no answer"));
                    format!("the bus `{}` did not take {count} events, the first for {reason}", self.bus)
                }
            };
            if tries >= TRIES {
                return Err(error::unavailable(problem));
            }
            tracing::debug!(tries, "{problem}; trying again");
            self.pause(tries).await;
            tries += 1;
        }
    }

    /// Somewhere up to a pause that doubles with each try.
    async fn pause(&self, tries: u32) {
        let most = PAUSE.saturating_mul(1 << tries.min(6));
        let share = self.jitter.lock().await.f32();
        tokio::time::sleep(most.mul_f32(share)).await;
    }

    fn entry(&self, notice: &Notice) -> (PutEventsRequestEntry, usize) {
        let (kind, detail) = (event::detail_type(notice), event::detail(notice).to_string());
        let size = event::SOURCE.len() + kind.len() + detail.len() + 14;
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus)
            .source(event::SOURCE)
            .detail_type(kind)
            .detail(detail)
            .time(DateTime::from_millis(notice.at.as_millisecond()))
            .build();
        (entry, size)
    }
}

#[async_trait]
impl runtime::ports::Notifier for Notifier {
    /// One batch after the other, so that those of one run keep their order as far as a bus has any.
    async fn notify(&self, notices: Vec<Notice>) -> Result<(), StoreError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for notice in &notices {
            let (entry, size) = self.entry(notice);
            if batch.len() >= BATCH || (bytes + size > BYTES && !batch.is_empty()) {
                self.put(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push(entry);
        }
        if batch.is_empty() { Ok(()) } else { self.put(batch).await }
    }
}
