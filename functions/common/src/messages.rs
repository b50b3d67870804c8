//! Messages of the queues: each a doorbell, each answered or to come again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::SqsBatchResponse;
use aws_lambda_events::event::sqs::SqsEvent;
use aws_lambda_events::event::sqs::SqsMessage;
use expression::Value;
use lambda_runtime::Error;
use runtime::Runtime;
use runtime::handlers;
use runtime::handlers::Unanswered;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::Catalog;
use runtime::ports::Delivery;
use runtime::ports::Queue;
use tracing::Instrument as _;

use crate::Configuration;
use crate::Function;
use crate::Invocation;

/// A message that cannot be read is delivered again after this time.
const UNREADABLE: Duration = Duration::from_secs(5);

/// Performs steps: woken by the queue `steps`.
pub struct Step(Runtime);

impl Function for Step {
    const NAME: &'static str = "step";

    fn agents(definitions: Arc<dyn Catalog>) -> Result<Arc<dyn Agents>, Error> {
        let actions = agents::Options::new("/tmp").without_programs().build(Arc::new(definitions))?;
        Ok(Arc::new(Marked(actions)))
    }

    fn new(runtime: Runtime, _: &Configuration) -> Self {
        Self(runtime)
    }

    async fn answer(
        &self,
        payload: serde_json::Value,
        invocation: Invocation,
    ) -> Result<serde_json::Value, Error> {
        let event = serde_json::from_value(payload)?;
        Ok(serde_json::to_value(step(&self.0, event, invocation.remaining).await)?)
    }
}

/// Appends what has become true: woken by the queue `resume`.
pub struct Resume(Runtime);

impl Function for Resume {
    const NAME: &'static str = "resume";

    fn new(runtime: Runtime, _: &Configuration) -> Self {
        Self(runtime)
    }

    async fn answer(
        &self,
        payload: serde_json::Value,
        invocation: Invocation,
    ) -> Result<serde_json::Value, Error> {
        let event = serde_json::from_value(payload)?;
        Ok(serde_json::to_value(resume(&self.0, event, invocation.remaining).await)?)
    }
}

/// Answers messages of the queue `steps`. A batch has one, so that a crash costs one; more are answered side by side.
async fn step(runtime: &Runtime, event: SqsEvent, remaining: Duration) -> SqsBatchResponse {
    let (letters, response) = open(runtime, Queue::Steps, event).await;
    let work = async {
        let answers = letters.iter().map(async |letter| {
            let scope = &letter.delivery.scope;
            let span = tracing::error_span!("step", run = %scope.run, scope = %scope.path);
            let step = handlers::step(runtime, &letter.delivery, Some(remaining));
            (vec![letter.delivery.clone()], handlers::guarded(scope, step).instrument(span).await)
        });
        futures::future::join_all(answers).await
    };
    answer(runtime, &letters, response, work).await
}

/// Answers messages of the queue `resume`; those of one scope with one visit.
async fn resume(runtime: &Runtime, event: SqsEvent, remaining: Duration) -> SqsBatchResponse {
    let (letters, response) = open(runtime, Queue::Resume, event).await;
    let deliveries = letters.iter().map(|letter| letter.delivery.clone()).collect();
    let work = handlers::resume_all(runtime, deliveries, Some(remaining));
    answer(runtime, &letters, response, work).await
}

/// A message that could be read.
struct Letter {
    id: String,
    delivery: Delivery,
}

/// Reads the messages. One that is none of ours cannot be answered by anybody: it comes again until it is put where people look,
/// and that soon, not after twenty times the visibility of its queue.
async fn open(runtime: &Runtime, queue: Queue, event: SqsEvent) -> (Vec<Letter>, SqsBatchResponse) {
    let mut response = SqsBatchResponse::default();
    let mut letters = Vec::new();
    for message in event.records {
        let id = message.message_id.clone().unwrap_or_default();
        match read(queue, &message) {
            Ok(delivery) => letters.push(Letter { id, delivery }),
            Err(error) => {
                tracing::error!(id, %error, "a message cannot be read");
                let receipt = message.receipt_handle.as_deref().unwrap_or_default();
                if let Err(error) = runtime.ports().doorbell.put_back(queue, receipt, UNREADABLE).await {
                    tracing::warn!(id, %error, "a message comes again later than it might");
                }
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

/// What is logged while an attempt is performed says which.
struct Marked(agents::Actions);

#[async_trait]
impl Agents for Marked {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        let (state, attempt) = (call.state.clone(), call.attempt);
        // A span is there at every level, or lines would lack it where less is logged.
        let span = tracing::error_span!("attempt", state = &*state, attempt);
        let attempt = async {
            let answer = self.0.perform(call).await;
            match &answer {
                Ok(_) => tracing::info!("an attempt succeeded"),
                Err(failed) => {
                    let error = &failed.error;
                    tracing::info!(error = &*error.kind, code = error.code.as_deref(), "an attempt failed");
                }
            }
            answer
        };
        attempt.instrument(span).await
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use runtime::ports::DefinitionKind;
    use runtime::ports::Doorbell;
    use runtime::ports::Ring;
    use runtime::ports::RunStatus;
    use runtime::ports::StoreError;

    use super::*;
    use crate::home;

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

        async fn put_back(&self, _: Queue, receipt: &str, after: Duration) -> Result<(), StoreError> {
            self.0.lock().push(format!("put back {receipt} for {} s", after.as_secs()));
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
        let runtime = home::in_memory::<Step>(&Configuration::of_nothing(), acts.clone());
        let source = "id: w\nstates:\n  - {id: a, type: inject, data: {x: 1}, next: b}\n  - {id: b, type: operation, action: log, message: hi}\n";
        runtime.register(DefinitionKind::Workflow, source, None, false).await.unwrap();
        let request = runtime::StartRequest::new("w", expression::Value::object());
        let run = runtime.start(request).await.unwrap().run;
        assert_eq!(std::mem::take(&mut *acts.0.lock()), ["ring Steps /"]);
        let body = format!(r#"{{"v":1,"r":"{run}","s":"/"}}"#);
        let messages = event(&[("1", "no doorbell"), ("2", &body)]);
        let response = step(&runtime, messages, Duration::from_mins(1)).await;
        let failed: Vec<&str> =
            response.batch_item_failures.iter().map(|failure| &*failure.item_identifier).collect();
        assert_eq!(failed, ["1"]);
        assert_eq!(*acts.0.lock(), ["put back r-1 for 5 s", "extend r-2 by 60 s"]);
        assert_eq!(runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
    }
}
