//! What goes over the wire, and what becomes of answers that are not all good.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::BehaviorVersion;
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::config::Region;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use engine::RunId;
use engine::ScopeKey;
use runtime::ports::Delivery;
use runtime::ports::Doorbell as _;
use runtime::ports::Hint;
use runtime::ports::Queue;
use runtime::ports::Ring;
use runtime::ports::StoreErrorKind;
use serde_json::Value;
use serde_json::json;
use stepwell_sqs::Doorbell;
use stepwell_sqs::Queues;

/// Every request: its operation and its body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// What is answered.
type Answer = dyn Fn(&str, &Value, usize) -> Value + Send + Sync;

/// An HTTP client that asks `answer`: the operation, the body, how many came before.
#[derive(Clone)]
struct Wire {
    seen: Seen,
    answer: Arc<Answer>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let operation = request.headers().get("x-amz-target").unwrap().rsplit('.').next().unwrap().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let mut seen = self.seen.lock().unwrap();
        let answer = (self.answer)(&operation, &body, seen.len());
        seen.push((operation, body));
        let body = SdkBody::from(answer.to_string());
        HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), body)))
    }
}

/// A doorbell over such a client.
fn doorbell(answer: impl Fn(&str, &Value, usize) -> Value + Send + Sync + 'static) -> (Doorbell, Seen) {
    let seen = Seen::default();
    let http = Wire { seen: seen.clone(), answer: Arc::new(answer) };
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(http)
        .build();
    let queues = Queues { steps: "http://q/steps".into(), resume: "http://q/resume".into() };
    (Doorbell::new(Client::from_conf(config), queues, 7), seen)
}

fn ring(run: &str, after: Duration) -> Ring {
    Ring { queue: Queue::Steps, scope: ScopeKey::root(RunId::new(run)), after, hint: Hint::None }
}

fn all_good(body: &Value) -> Value {
    let entries = body["Entries"].as_array().unwrap().iter();
    let entries: Vec<Value> = entries
        .map(|entry| json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": md5(&entry["MessageBody"])}))
        .collect();
    json!({"Successful": entries, "Failed": []})
}

/// Nobody checks it.
fn md5(_: &Value) -> &'static str {
    "00000000000000000000000000000000"
}

#[tokio::test]
async fn rings_go_in_batches_of_ten_to_their_queue_in_whole_seconds_and_by_run() {
    let (doorbell, seen) = doorbell(|_, body, _| all_good(body));
    let mut rings: Vec<Ring> = (0..21).map(|n| ring(&format!("run {n}"), Duration::from_millis(1))).collect();
    // Those that say the same are one, the sooner; a hint makes a difference.
    rings.push(ring("run 0", Duration::from_hours(1)));
    rings.push(Ring { hint: Hint::Missed, ..ring("run 0", Duration::from_hours(1)) });
    rings.push(Ring { queue: Queue::Resume, ..ring("run 0", Duration::ZERO) });
    doorbell.ring(rings).await.unwrap();
    let seen = seen.lock().unwrap();
    let mut sizes: Vec<_> = seen
        .iter()
        .map(|(_, body)| (body["QueueUrl"].as_str().unwrap(), body["Entries"].as_array().unwrap().len()))
        .collect();
    sizes.sort_unstable();
    assert_eq!(
        sizes,
        [("http://q/resume", 1), ("http://q/steps", 2), ("http://q/steps", 10), ("http://q/steps", 10)]
    );
    let entries: Vec<&Value> =
        seen.iter().flat_map(|(_, body)| body["Entries"].as_array().unwrap()).collect();
    let of = |text: &str| {
        let found: Vec<_> =
            entries.iter().filter(|entry| entry["MessageBody"].as_str().unwrap().contains(text)).collect();
        found
    };
    assert_eq!(of("\"run 1\"")[0]["DelaySeconds"], 1, "late rather than early");
    let groups: Vec<_> = of("\"run 0\"").iter().map(|entry| entry["MessageGroupId"].clone()).collect();
    assert!(groups.len() == 3 && groups.iter().all(|group| *group == groups[0]), "{groups:?}");
    assert_ne!(of("\"run 1\"")[0]["MessageGroupId"], groups[0]);
    assert_eq!(of("Missed")[0]["DelaySeconds"], 900, "SQS holds nothing longer");
    let at_once = of("\"run 0\"").into_iter().filter(|entry| entry["DelaySeconds"].is_null()).count();
    assert_eq!(at_once, 1, "what is due now has no delay");
}

#[tokio::test(start_paused = true)]
async fn what_a_queue_could_not_take_is_sent_again_and_nothing_else() {
    let (doorbell, seen) = doorbell(|_, body, before| {
        let mut answer = all_good(body);
        if before < 2 {
            let lost = answer["Successful"].as_array_mut().unwrap().pop().unwrap();
            answer["Failed"] = json!([{"Id": lost["Id"], "Code": "InternalError", "SenderFault": false}]);
        }
        answer
    });
    doorbell.ring(vec![ring("a", Duration::ZERO), ring("b", Duration::ZERO)]).await.unwrap();
    let bodies: Vec<Vec<String>> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(_, body)| {
            let entries = body["Entries"].as_array().unwrap().iter();
            entries.map(|entry| entry["MessageBody"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    assert_eq!(bodies.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    assert!(bodies[1] == bodies[2] && bodies[1][0].contains("\"b\""), "{bodies:?}");
}

#[tokio::test(start_paused = true)]
async fn what_no_queue_takes_is_told() {
    for (fault, kind) in [(false, StoreErrorKind::Unavailable), (true, StoreErrorKind::Permanent)] {
        let (doorbell, seen) = doorbell(
            move |_, _, _| json!({"Successful": [], "Failed": [{"Id": "0", "Code": "No", "SenderFault": fault}]}),
        );
        let error = doorbell.ring(vec![ring("a", Duration::ZERO)]).await.unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.contains("http://q/steps"), "{error}");
        assert_eq!(seen.lock().unwrap().len(), if fault { 1 } else { 4 });
    }
}

#[tokio::test]
async fn deliveries_are_hidden_together_and_one_that_is_gone_is_no_error() {
    let (doorbell, seen) = doorbell(
        |_, _, _| json!({"Successful": [], "Failed": [{"Id": "0", "Code": "ReceiptHandleIsInvalid", "SenderFault": true}]}),
    );
    let delivery = |n: usize| Delivery {
        scope: ScopeKey::root(RunId::new("a")),
        queue: Queue::Resume,
        hints: vec![Hint::None],
        redeliveries: 0,
        receipt: format!("receipt {n}").into(),
    };
    let deliveries: Vec<Delivery> = (0..12).map(delivery).collect();
    doorbell.extend(&deliveries, Duration::from_mins(1)).await.unwrap();
    doorbell.retry(delivery(0), Duration::from_millis(100)).await.unwrap();
    let seen = seen.lock().unwrap();
    let told: Vec<_> = seen
        .iter()
        .map(|(operation, body)| {
            let entries = body["Entries"].as_array().unwrap();
            (operation.as_str(), entries.len(), entries[0]["VisibilityTimeout"].as_i64().unwrap())
        })
        .collect();
    let operation = "ChangeMessageVisibilityBatch";
    assert_eq!(told, [(operation, 10, 60), (operation, 2, 60), (operation, 1, 1)]);
}

#[tokio::test]
async fn what_was_received_often_says_so_and_what_cannot_be_read_is_left_alone() {
    let (doorbell, _) = doorbell(|_, _, _| {
        let message = |body: &str, count: &str| json!({"MessageId": "m", "ReceiptHandle": "h", "Body": body, "Attributes": {"ApproximateReceiveCount": count}});
        json!({"Messages": [message(r#"{"v":1,"r":"a","s":"/","h":{"ChildEnded":7}}"#, "3"), message("?", "1")]})
    });
    let received = doorbell.receive(Queue::Resume, 10).await.unwrap();
    assert_eq!(received.len(), 1);
    let first = &received[0];
    assert_eq!((first.redeliveries, &first.hints[..], &*first.receipt), (2, &[Hint::ChildEnded(7)][..], "h"));
}
