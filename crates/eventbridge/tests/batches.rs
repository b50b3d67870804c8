//! What goes over the wire, and what becomes of answers that are not all good.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::BehaviorVersion;
use aws_sdk_eventbridge::config::Credentials;
use aws_sdk_eventbridge::config::Region;
use aws_sdk_eventbridge::config::retry::RetryConfig;
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
use engine::ScopePath;
use runtime::ports::News;
use runtime::ports::Notice;
use runtime::ports::Notifier as _;
use runtime::ports::Place;
use runtime::ports::RunStatus;
use runtime::ports::Settled;
use serde_json::Value;
use serde_json::json;
use stepwell_eventbridge::Notifier;
use stepwell_eventbridge::event;

/// An HTTP client that answers each request by its entries and how many came before; `None`: never.
#[derive(Clone)]
struct Wire {
    seen: Arc<Mutex<Vec<Vec<Value>>>>,
    answer: Arc<Answer>,
}

type Answer = dyn Fn(&[Value], usize) -> Option<Value> + Send + Sync;

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
        assert_eq!(request.headers().get("x-amz-target").unwrap(), "AWSEvents.PutEvents");
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let entries = body["Entries"].as_array().unwrap().clone();
        let mut seen = self.seen.lock().unwrap();
        let answer = (self.answer)(&entries, seen.len());
        seen.push(entries);
        match answer {
            None => HttpConnectorFuture::new(std::future::pending()),
            Some(answer) => {
                let body = SdkBody::from(answer.to_string());
                HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), body)))
            }
        }
    }
}

fn notifier(answer: impl Fn(&[Value], usize) -> Option<Value> + Send + Sync + 'static) -> (Notifier, Wire) {
    let wire = Wire { seen: Arc::default(), answer: Arc::new(answer) };
    let config = aws_sdk_eventbridge::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(wire.clone())
        .build();
    (Notifier::new(Client::from_conf(config), "runs", 7), wire)
}

fn notice(number: usize, workflow: &str, news: News) -> Notice {
    Notice {
        id: format!("r{number}/end/0").into(),
        at: "2026-02-03T04:05:06.5Z".parse().unwrap(),
        run: RunId::new(format!("r{number}")),
        workflow: workflow.into(),
        version: "1".into(),
        news,
    }
}

fn ended(number: usize) -> Notice {
    let news = News::Status {
        status: RunStatus::Failed,
        previous: Some(RunStatus::Running),
        started_at: "2026-02-03T04:05:00Z".parse().unwrap(),
        error: Some(("http".into(), None)),
    };
    notice(number, "triage", news)
}

fn taken(entries: &[Value]) -> Value {
    let each: Vec<_> = entries.iter().map(|_| json!({"EventId": "e"})).collect();
    json!({"FailedEntryCount": 0, "Entries": each})
}

#[tokio::test]
async fn events_go_in_batches_of_ten_and_no_more_than_a_request_holds() {
    let (notifier, wire) = notifier(|entries, _| Some(taken(entries)));
    notifier.notify((0..23).map(ended).collect()).await.unwrap();
    let sizes: Vec<_> = wire.seen.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 3]);
    let first = wire.seen.lock().unwrap()[0][0].clone();
    assert_eq!(
        (&first["Source"], &first["DetailType"], &first["EventBusName"], &first["Time"]),
        (&json!("stepwell"), &json!("Workflow Run Status Change"), &json!("runs"), &json!(1_770_091_506.5))
    );
    let detail: Value = serde_json::from_str(first["Detail"].as_str().unwrap()).unwrap();
    let wanted = json!({
        "id": "r0/end/0", "runId": "r0", "workflowId": "triage", "version": "1",
        "status": "FAILED", "previousStatus": "RUNNING", "error": {"type": "http"},
        "startedAt": "2026-02-03T04:05:00Z", "changedAt": "2026-02-03T04:05:06.5Z", "endedAt": "2026-02-03T04:05:06.5Z",
    });
    assert_eq!(detail, wanted);
    wire.seen.lock().unwrap().clear();
    // However long names are.
    let long = "w".repeat(100 << 10);
    let news = || News::Stuck { code: "NO_PROGRESS".into() };
    notifier.notify((0..5).map(|number| notice(number, &long, news())).collect()).await.unwrap();
    let sizes: Vec<_> = wire.seen.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    notifier.notify(Vec::new()).await.unwrap();
    assert_eq!(wire.seen.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_taken_is_told_again() {
    let (notifier, wire) = notifier(|entries, before| {
        let mut answer = taken(entries);
        if before == 0 {
            answer["FailedEntryCount"] = json!(2);
            for failed in [1, 3] {
                answer["Entries"][failed] =
                    json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "less"});
            }
        }
        Some(answer)
    });
    notifier.notify((0..5).map(ended).collect()).await.unwrap();
    let seen = wire.seen.lock().unwrap().clone();
    let of = |entry: &Value| {
        serde_json::from_str::<Value>(entry["Detail"].as_str().unwrap()).unwrap()["runId"].clone()
    };
    assert_eq!(seen[1].iter().map(of).collect::<Vec<_>>(), ["r1", "r3"]);
    assert_eq!(seen.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_take_them_is_given_up_within_seconds() {
    let refuses = |entries: &[Value], _| {
        let each: Vec<_> = entries.iter().map(|_| json!({"ErrorCode": "InternalFailure"})).collect();
        Some(json!({"FailedEntryCount": each.len(), "Entries": each}))
    };
    let (refusing, _) = notifier(refuses);
    let error = refusing.notify(vec![ended(1)]).await.unwrap_err();
    assert_eq!(error.code, "BUS_UNAVAILABLE");
    assert!(error.message.contains("`runs` did not take 1 events, the first for InternalFailure"), "{error}");
    let (silent, wire) = notifier(|_, _| None);
    let begun = tokio::time::Instant::now();
    silent.notify(vec![ended(1)]).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(wire.seen.lock().unwrap().len(), 3);
}

#[test]
fn an_approval_says_where_and_until_when_and_what_came_of_it() {
    let place = || Place { approval: "a1".into(), state: "ok".into(), scope: ScopePath::root() };
    let deadline = "2026-02-04T00:00:00Z".parse().unwrap();
    let asked = notice(1, "triage", News::ApprovalRequested { approval: place(), deadline });
    assert_eq!(event::detail_type(&asked), "Workflow Approval Requested");
    let detail = event::detail(&asked);
    assert_eq!((&detail["approvalId"], &detail["deadline"]), (&json!("a1"), &json!("2026-02-04T00:00:00Z")));
    let settled = News::ApprovalSettled { approval: place(), settled: Settled::TimedOut };
    let settled = event::detail(&notice(1, "triage", settled));
    assert_eq!(
        (&settled["settled"], &settled["state"], &settled["scope"]),
        (&json!("TIMED_OUT"), &json!("ok"), &json!("/"))
    );
}
