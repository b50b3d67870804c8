//! Messages of the queues: each a doorbell, each answered or to come again.

use std::time::Duration;

use aws_lambda_events::event::sqs::SqsBatchResponse;
use aws_lambda_events::event::sqs::SqsEvent;
use aws_lambda_events::event::sqs::SqsMessage;
use runtime::Runtime;
use runtime::handlers;
use runtime::handlers::Unanswered;
use runtime::ports::Delivery;
use runtime::ports::Queue;
use tracing::Instrument as _;

/// One invocation, as far as the handlers are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Invocation {
    /// The time that is left of it.
    pub remaining: Duration,
}

/// Answers messages of the queue `steps`. A batch has one, so that a crash costs one; more are answered side by side.
pub async fn step(runtime: &Runtime, event: SqsEvent, invocation: Invocation) -> SqsBatchResponse {
    let (letters, response) = open(Queue::Steps, event);
    let work = async {
        let answers = letters.iter().map(async |letter| {
            let scope = &letter.delivery.scope;
            let span = tracing::error_span!("step", run = %scope.run, scope = %scope.path);
            let step = handlers::step(runtime, &letter.delivery, Some(invocation.remaining));
            (vec![letter.delivery.clone()], handlers::guarded(scope, step).instrument(span).await)
        });
        futures::future::join_all(answers).await
    };
    answer(runtime, &letters, response, work).await
}

/// Answers messages of the queue `resume`; those of one scope with one visit.
pub async fn resume(runtime: &Runtime, event: SqsEvent, invocation: Invocation) -> SqsBatchResponse {
    let (letters, response) = open(Queue::Resume, event);
    let deliveries = letters.iter().map(|letter| letter.delivery.clone()).collect();
    let work = handlers::resume_all(runtime, deliveries, Some(invocation.remaining));
    answer(runtime, &letters, response, work).await
}

/// A message that could be read.
struct Letter {
    id: String,
    delivery: Delivery,
}

/// Reads the messages. One that is none of ours cannot be answered by anybody: it comes again until it is put where people look.
fn open(queue: Queue, event: SqsEvent) -> (Vec<Letter>, SqsBatchResponse) {
    let mut response = SqsBatchResponse::default();
    let mut letters = Vec::new();
    for message in event.records {
        let id = message.message_id.clone().unwrap_or_default();
        match read(queue, &message) {
            Ok(delivery) => letters.push(Letter { id, delivery }),
            Err(error) => {
                tracing::error!(id, %error, "a message cannot be read");
                response.add_failure(id);
            }
        }
    }
    (letters, response)
}

fn read(queue: Queue, message: &SqsMessage) -> Result<Delivery, sqs::Unreadable> {
    let received = message.attributes.get("ApproximateReceiveCount");
    let received = received.and_then(|count| count.parse().ok()).unwrap_or(1);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    sqs::delivery(queue, &text(&message.body), &text(&message.receipt_handle), received)
}

/// Waits for the answers, and keeps the messages from coming again meanwhile: from the first moment on for two leases, so that
/// those of an invocation that dies come back soon, whatever the queue's own visibility is.
async fn answer(
    runtime: &Runtime,
    letters: &[Letter],
    mut response: SqsBatchResponse,
    work: impl Future<Output = Vec<(Vec<Delivery>, Result<(), Unanswered>)>>,
) -> SqsBatchResponse {
    let deliveries: Vec<Delivery> = letters.iter().map(|letter| letter.delivery.clone()).collect();
    let doorbell = &runtime.ports().doorbell;
    if let Err(error) = doorbell.extend(&deliveries, runtime.options().lease * 2).await {
        tracing::warn!(%error, "messages may come again while they are worked on");
    }
    for (deliveries, result) in handlers::held(runtime, &deliveries, Box::pin(work)).await {
        let Err(unanswered) = result else { continue };
        for delivery in deliveries {
            let of = |letter: &&Letter| letter.delivery.receipt == delivery.receipt;
            let id = letters.iter().find(of).map(|letter| letter.id.clone()).unwrap_or_default();
            tracing::warn!(scope = %delivery.scope, id, error = %unanswered, "a message comes again");
            // Lambda leaves the visibility of a message that failed as it is.
            if let Err(error) = doorbell.retry(delivery, unanswered.retry_after).await {
                tracing::warn!(id, %error, "a message comes again later than it might");
            }
            response.add_failure(id);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use runtime::SystemIds;
    use runtime::memory;
    use runtime::ports::DefinitionKind;
    use runtime::ports::Doorbell;
    use runtime::ports::Ring;
    use runtime::ports::RunStatus;
    use runtime::ports::StoreError;
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::Configuration;
    use crate::Home;

    /// A queue of which only the acts are kept.
    #[derive(Default)]
    struct Acts(Mutex<Vec<String>>);

    #[async_trait]
    impl Doorbell for Acts {
        async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
            self.0
                .lock()
                .extend(rings.iter().map(|ring| format!("ring {:?} {}", ring.queue, ring.scope.path)));
            Ok(())
        }

        async fn receive(&self, _: Queue, _: usize) -> Result<Vec<Delivery>, StoreError> {
            Ok(Vec::new())
        }

        async fn acknowledge(&self, _: Delivery) -> Result<(), StoreError> {
            Ok(())
        }

        async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
            let receipts: Vec<&str> = deliveries.iter().map(|delivery| &*delivery.receipt).collect();
            self.0.lock().push(format!("extend {} by {} s", receipts.join(" "), by.as_secs()));
            Ok(())
        }

        async fn retry(&self, delivery: Delivery, _: Duration) -> Result<(), StoreError> {
            self.0.lock().push(format!("retry {}", delivery.receipt));
            Ok(())
        }
    }

    fn event(bodies: &[(&str, &str)]) -> SqsEvent {
        let records = bodies.iter().map(|(id, body)| {
            serde_json::json!({
                "messageId": id, "receiptHandle": format!("r-{id}"), "body": body,
                "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {}
            })
        });
        serde_json::from_value(serde_json::json!({"Records": records.collect::<Vec<_>>()})).unwrap()
    }

    /// A message that nobody can read comes again and ends where people look; those beside it are answered, after they were
    /// kept from coming again.
    #[tokio::test]
    async fn a_poison_message_fails_alone() {
        let acts = Arc::new(Acts::default());
        let configuration = Configuration {
            table: String::new(),
            bucket: String::new(),
            steps: String::new(),
            resume: String::new(),
            bus: None,
            retention: None,
            log: LevelFilter::OFF,
            longest_step: Duration::from_mins(1),
        };
        let ids = SystemIds::new().unwrap();
        let store = Arc::new(memory::Store::new());
        let home = Home::over(&configuration, store, acts.clone(), None, ids).unwrap();
        let source = "id: w\nstates:\n  - {id: a, type: inject, data: {x: 1}, next: b}\n  - {id: b, type: operation, action: log, message: hi}\n";
        home.runtime.register(DefinitionKind::Workflow, source, None, false).await.unwrap();
        let request = runtime::StartRequest::new("w", expression::Value::object());
        let run = home.runtime.start(request).await.unwrap().run;
        assert_eq!(std::mem::take(&mut *acts.0.lock()), ["ring Steps /"]);
        let body = format!(r#"{{"v":1,"r":"{run}","s":"/"}}"#);
        let messages = event(&[("1", "no doorbell"), ("2", &body)]);
        let invocation = Invocation { remaining: Duration::from_mins(1) };
        let response = step(&home.runtime, messages, invocation).await;
        let failed: Vec<&str> =
            response.batch_item_failures.iter().map(|failure| &*failure.item_identifier).collect();
        assert_eq!(failed, ["1"]);
        assert_eq!(*acts.0.lock(), ["extend r-2 by 60 s"]);
        assert_eq!(home.runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
    }
}
