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

/// A message that cannot be read is delivered again after this time: soon, and not after the visibility of its queue, twenty times.
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
    let batch = Batch::of(Queue::Steps, event);
    let deliveries = batch.deliveries();
    let work = async {
        let answers = deliveries.iter().map(async |delivery| {
            let scope = &delivery.scope;
            let span = tracing::error_span!("step", run = %scope.run, scope = %scope.path);
            let step = handlers::step(runtime, delivery, Some(remaining));
            (vec![delivery.clone()], handlers::guarded(scope, step).instrument(span).await)
        });
        futures::future::join_all(answers).await
    };
    answer(runtime, batch, work).await
}

/// Answers messages of the queue `resume`; those of one scope with one visit.
async fn resume(runtime: &Runtime, event: SqsEvent, remaining: Duration) -> SqsBatchResponse {
    let batch = Batch::of(Queue::Resume, event);
    let work = handlers::resume_all(runtime, batch.deliveries(), Some(remaining));
    answer(runtime, batch, work).await
}

/// A message that could be read.
struct Letter {
    id: String,
    delivery: Delivery,
}

/// The messages of one invocation.
struct Batch {
    queue: Queue,
    letters: Vec<Letter>,
    /// The receipts of those that cannot be read.
    unreadable: Vec<String>,
    response: SqsBatchResponse,
}

impl Batch {
    /// Reads them. One that is none of ours cannot be answered by anybody: it comes again until it is put where people look.
    fn of(queue: Queue, event: SqsEvent) -> Self {
        let mut batch = Self {
            queue,
            letters: Vec::new(),
            unreadable: Vec::new(),
            response: SqsBatchResponse::default(),
        };
        for message in event.records {
            let id = message.message_id.clone().unwrap_or_default();
            match read(queue, &message) {
                Ok(delivery) => batch.letters.push(Letter { id, delivery }),
                Err(error) => {
                    tracing::error!(id, %error, "a message cannot be read");
                    batch.unreadable.extend(message.receipt_handle);
                    batch.response.add_failure(id);
                }
            }
        }
        batch
    }

    fn deliveries(&self) -> Vec<Delivery> {
        self.letters.iter().map(|letter| letter.delivery.clone()).collect()
    }
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
    batch: Batch,
    work: impl Future<Output = Vec<(Vec<Delivery>, Result<(), Unanswered>)>>,
) -> SqsBatchResponse {
    let deliveries = batch.deliveries();
    let Batch { queue, letters, unreadable, mut response } = batch;
    let doorbell = &runtime.ports().doorbell;
    if let Err(error) = doorbell.extend(&deliveries, runtime.options().lease * 2).await {
        tracing::warn!(%error, "messages may come again while they are worked on");
    }
    let give_up = async {
        if unreadable.is_empty() {
            return;
        }
        if let Err(error) = doorbell.put_back(queue, &unreadable, UNREADABLE).await {
            tracing::warn!(%error, "messages that cannot be read come again later than they might");
        }
    };
    let (results, ()) = futures::join!(handlers::held(runtime, &deliveries, Box::pin(work)), give_up);
    for (deliveries, result) in results {
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

        async fn put_back(&self, _: Queue, receipts: &[String], after: Duration) -> Result<(), StoreError> {
            self.0.lock().push(format!("put back {} for {} s", receipts.join(" "), after.as_secs()));
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
        let mixed = || event(&[("1", "no doorbell"), ("2", &body)]);
        let messages = mixed();
        let response = step(&runtime, messages, Duration::from_mins(1)).await;
        let failed: Vec<&str> =
            response.batch_item_failures.iter().map(|failure| &*failure.item_identifier).collect();
        assert_eq!(failed, ["1"]);
        assert_eq!(*acts.0.lock(), ["extend r-2 by 60 s", "put back r-1 for 5 s"]);
        assert_eq!(runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);

        acts.0.lock().clear();
        let response = resume(&runtime, mixed(), Duration::from_mins(1)).await;
        let failed: Vec<&str> =
            response.batch_item_failures.iter().map(|failure| &*failure.item_identifier).collect();
        assert_eq!(failed, ["1"]);
        assert_eq!(*acts.0.lock(), ["extend r-2 by 60 s", "put back r-1 for 5 s"]);
    }

    /// A step that takes longer than its message is hidden: it is hidden again and again, until it is answered.
    #[tokio::test(start_paused = true)]
    async fn a_message_is_hidden_as_long_as_its_step_takes() {
        let acts = Arc::new(Acts::default());
        let runtime = home::in_memory::<Step>(&Configuration::of_nothing(), acts.clone());
        let agent = r#"{"type": "static", "output": 1, "delaySeconds": 100}"#;
        runtime.register(DefinitionKind::Agent, agent, Some("slow.agent.yaml"), false).await.unwrap();
        let source = "id: w\nstates:\n  - {id: a, type: agent, agent: slow, task: hi}\n";
        runtime.register(DefinitionKind::Workflow, source, None, false).await.unwrap();
        let request = runtime::StartRequest::new("w", expression::Value::object());
        let run = runtime.start(request).await.unwrap().run;
        acts.0.lock().clear();
        let body = format!(r#"{{"v":1,"r":"{run}","s":"/"}}"#);
        let response = step(&runtime, event(&[("1", &body)]), Duration::from_mins(10)).await;
        assert!(response.batch_item_failures.is_empty());
        assert_eq!(runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
        assert_eq!(*acts.0.lock(), ["extend r-1 by 60 s"; 4], "at 0, 30, 60 and 90 s");
    }
}
