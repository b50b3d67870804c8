//! The API over a real socket: what it answers, and what it refuses.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // What is not as expected ends the test.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expression::Value;
use http_api::Api;
use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::Service;
use runtime::ServiceOptions;
use runtime::SystemClock;
use runtime::memory;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use stepwell_http as http_api;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const GREET: &str = r#"{"id": "greet", "version": "1", "inputSchema": {"type": "object", "required": ["who"], "properties": {"who": {"type": "string"}}},
    "states": [{"name": "hello", "type": "inject", "data": {"hello": "{{ ctx.who }}"}}]}"#;
const GATE: &str = r#"{"id": "gate", "states": [{"name": "ask", "type": "human_approval", "message": "Go?", "approvers": ["user:alice"], "next": "go"},
    {"name": "go", "type": "signal", "signal": "go"}]}"#;

/// No workflow here calls one.
struct Nobody;

#[async_trait]
impl Agents for Nobody {
    async fn perform(&self, _: Call) -> Result<Value, CallError> {
        Ok(Value::Null)
    }
}

struct Server {
    address: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let clock = Arc::new(SystemClock);
        let store = Arc::new(memory::Store::default());
        let ports = Ports {
            journal: store.clone(),
            catalog: store,
            doorbell: Arc::new(memory::Doorbell::new(clock.clone())),
            agents: Arc::new(Nobody),
            clock,
            ids: Arc::new(memory::SeededIds::new(7)),
        };
        let runtime = Runtime::new(ports, Options::exclusive("test"));
        tokio::spawn(Service::new(runtime.clone(), ServiceOptions::default()).run(std::future::pending()));
        let listener = http_api::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopping) = tokio::sync::oneshot::channel();
        let served = tokio::spawn(http_api::serve(listener, Api::new(runtime), async {
            let _ = stopping.await;
        }));
        Self { address, stop: Some(stop), served }
    }

    /// One request on a connection of its own; `headers` end with a line break each.
    async fn send(&self, line: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let host =
            if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let head = format!(
            "{line} HTTP/1.1\r\n{host}{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a large body may close before it has read it.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        Answer::read(&String::from_utf8(bytes).unwrap())
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(&format!("POST /api/v1{path}"), "Content-Type: application/json\r\n", body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET /api/v1{path}"), "", "").await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: serde_json::Value,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { status, head: head.to_ascii_lowercase(), body }
    }

    fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_is_a_coded_json_error() {
    let server = Server::start().await;
    assert_eq!(server.post("/workflows", GREET).await.status, 201);
    let json = "Content-Type: application/json\r\n";
    let huge = format!(r#"{{"workflowId": "greet", "input": {{"who": "{}"}}}}"#, "x".repeat(9 << 20));
    let runs = "POST /api/v1/workflow-runs";
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("GET /", "", "", 404, "UNKNOWN_PATH"),
        ("GET /api/v1/nothing", "", "", 404, "UNKNOWN_PATH"),
        ("PATCH /api/v1/workflow-runs", "", "", 405, "METHOD_NOT_ALLOWED"),
        (runs, "", "{}", 415, "CONTENT_TYPE"),
        (runs, "Content-Type: text/plain\r\n", "{}", 415, "CONTENT_TYPE"),
        (runs, json, "{", 400, "BODY_NOT_JSON"),
        (runs, json, "{}", 422, "BODY_INVALID"),
        (runs, json, r#"{"workflowId": "greet", "inputs": {}}"#, 422, "BODY_INVALID"),
        (runs, json, &huge, 413, "BODY_TOO_LARGE"),
        (runs, json, r#"{"workflowId": "gret"}"#, 404, "WORKFLOW_NOT_FOUND"),
        (runs, json, r#"{"workflowId": "greet", "input": {}}"#, 422, "INPUT_SCHEMA_VIOLATION"),
        ("POST /api/v1/workflow-runs?wait=soon", json, r#"{"workflowId": "greet"}"#, 400, "QUERY_INVALID"),
        ("POST /api/v1/workflow-runs?wait=2h", json, r#"{"workflowId": "greet"}"#, 400, "QUERY_INVALID"),
        ("POST /api/v1/workflow-runs?wiat=1s", json, r#"{"workflowId": "greet"}"#, 400, "QUERY_INVALID"),
        (
            runs,
            "Content-Type: application/json\r\nIdempotency-Key: \r\n",
            r#"{"workflowId": "greet"}"#,
            400,
            "HEADER_INVALID",
        ),
        ("GET /api/v1/workflow-runs?limit=0", "", "", 400, "QUERY_INVALID"),
        ("GET /api/v1/workflow-runs?status=done", "", "", 400, "QUERY_INVALID"),
        ("GET /api/v1/workflow-runs/none", "", "", 404, "RUN_NOT_FOUND"),
        ("GET /api/v1/workflow-runs/none/events", "", "", 404, "RUN_NOT_FOUND"),
        ("GET /api/v1/workflow-runs/none/approvals", "", "", 404, "RUN_NOT_FOUND"),
        ("POST /api/v1/workflow-runs/none/pause", "", "", 404, "RUN_NOT_FOUND"),
        ("POST /api/v1/workflow-runs/none/signals", json, r#"{"name": "go"}"#, 404, "RUN_NOT_FOUND"),
        ("POST /api/v1/workflow-runs/none/approvals/a/approve", json, "{}", 404, "APPROVAL_NOT_FOUND"),
        ("GET /api/v1/workflows/none", "", "", 404, "WORKFLOW_NOT_FOUND"),
        ("POST /api/v1/workflows", json, r#"{"id": "x", "states": []}"#, 422, "DEFINITION_INVALID"),
        ("PUT /api/v1/workflows/other", json, GREET, 422, "BODY_INVALID"),
        ("POST /api/v1/workflows", json, &GREET.replace("hello", "hullo"), 409, "VERSION_TAKEN"),
        ("GET /api/v1/sync", "", "", 409, "NO_PROJECT_SERVED"),
        // A page elsewhere, by another name of this address or by a request from another origin.
        ("GET /api/v1/workflow-runs", "Host: evil.example\r\n", "", 403, "HOST_NOT_ALLOWED"),
        (
            "POST /api/v1/workflow-runs/none/cancel",
            "Origin: https://evil.example\r\n",
            "",
            403,
            "ORIGIN_NOT_ALLOWED",
        ),
    ];
    for (line, headers, body, status, code) in cases {
        let answer = server.send(line, headers, body).await;
        assert_eq!((answer.status, answer.text("code")), (*status, *code), "{line}: {answer:?}");
        assert!(
            !answer.text("message").is_empty() && answer.head.contains("content-type: application/json"),
            "{line}: {answer:?}"
        );
    }
    let refused = http_api::bind("0.0.0.0:0").await.unwrap_err();
    assert_eq!(refused.code, "NOT_LOOPBACK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_repeats_and_conflicts() {
    let server = Server::start().await;
    let yaml = server
        .send(
            "POST /api/v1/workflows/validate",
            "Content-Type: application/yaml\r\n",
            "id: y\nstates: [{name: a, type: nothing}]\n",
        )
        .await;
    assert_eq!(
        (&yaml.body["valid"], &yaml.body["issues"][0]["code"]),
        (&false.into(), &"UNKNOWN_TYPE".into()),
        "{yaml:?}"
    );
    assert_eq!(server.post("/workflows", GREET).await.status, 201);
    assert_eq!(server.post("/workflows", GREET).await.status, 200, "the same again changes nothing");

    let start = r#"{"workflowId": "greet", "input": {"who": "you"}}"#;
    let keyed = "Content-Type: application/json\r\nIdempotency-Key: k\r\n";
    let first = server.send("POST /api/v1/workflow-runs?wait=10s", keyed, start).await;
    assert_eq!(
        (first.status, first.text("status"), &first.body["output"]["hello"]),
        (200, "COMPLETED", &"you".into()),
        "{first:?}"
    );
    let again = server.send("POST /api/v1/workflow-runs", keyed, start).await;
    assert_eq!(
        (again.status, &again.body["created"], again.text("runId")),
        (200, &false.into(), first.text("runId"))
    );
    let other = server.send("POST /api/v1/workflow-runs", keyed, &start.replace("you", "me")).await;
    assert_eq!((other.status, other.text("code")), (409, "KEY_REUSED"), "{other:?}");
    let over = server.post(&format!("/workflow-runs/{}/pause", first.text("runId")), "").await;
    assert_eq!(
        (over.status, over.text("code"), &over.body["details"]["status"]),
        (409, "RUN_OVER", &"COMPLETED".into())
    );

    let disabled = server.send("DELETE /api/v1/workflows/greet", "", "").await;
    assert_eq!((disabled.status, &disabled.body["disabled"]), (200, &true.into()), "{disabled:?}");
    let pinned = r#"{"workflowId": "greet", "version": "1", "input": {"who": "you"}}"#;
    assert_eq!(server.post("/workflow-runs", pinned).await.text("code"), "WORKFLOW_DISABLED");
    assert_eq!(server.post("/workflows/greet/enable", "").await.status, 200);
    assert_eq!(server.post("/workflow-runs", start).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_asked_told_listed_and_left_waiting_by_a_server_that_ends() {
    let mut server = Server::start().await;
    assert_eq!(server.post("/workflows", GATE).await.status, 201);
    let started = server.post("/workflow-runs?wait=50ms", r#"{"workflowId": "gate"}"#).await;
    assert_eq!((started.status, started.text("status")), (202, "WAITING_APPROVAL"), "{started:?}");
    let run = format!("/workflow-runs/{}", started.text("runId"));

    let asked = server.get(&format!("{run}/approvals")).await;
    let approval = asked.body["items"][0]["approvalId"].as_str().unwrap().to_owned();
    assert_eq!(server.get("/workflow-approvals").await.body["items"][0]["message"], "Go?");
    let approve = format!("{run}/approvals/{approval}/approve");
    let stranger = server.post(&approve, r#"{"approver": "user:eve"}"#).await;
    assert_eq!((stranger.status, stranger.text("code")), (403, "NOT_AN_APPROVER"), "{stranger:?}");
    let alice = r#"{"approver": "user:alice", "comment": "fine"}"#;
    let decided = server.post(&approve, alice).await;
    assert_eq!(
        (decided.status, &decided.body["changed"], &decided.body["decision"]["approved"]),
        (200, &true.into(), &true.into()),
        "{decided:?}"
    );
    let same = server.post(&approve, alice).await;
    assert_eq!(
        (same.status, &same.body["changed"]),
        (200, &false.into()),
        "the same by the same person: {same:?}"
    );
    let otherwise = server.post(&format!("{run}/approvals/{approval}/reject"), alice).await;
    assert_eq!((otherwise.status, otherwise.text("code")), (409, "APPROVAL_SETTLED"), "{otherwise:?}");

    for (verb, status) in [("pause", "PAUSED"), ("resume", "WAITING_SIGNAL")] {
        let answer = server.post(&format!("{run}/{verb}"), r#"{"by": "user:alice"}"#).await;
        assert_eq!((answer.status, answer.text("status")), (200, status), "{verb}: {answer:?}");
    }
    let signalled = server.post(&format!("{run}/signals"), r#"{"name": "go", "payload": {"n": 1}}"#).await;
    assert_eq!(signalled.status, 200, "{signalled:?}");
    let ended = server.get(&format!("{run}?wait=10s")).await;
    assert_eq!(
        (ended.status, ended.text("status"), &ended.body["output"]["n"]),
        (200, "COMPLETED", &1.into()),
        "{ended:?}"
    );
    let listed = server.get("/workflow-runs?workflowId=gate&status=completed&limit=10").await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);

    // The whole timeline, page by page.
    let mut types = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("{run}/events?limit=2{cursor}")).await;
        let items = page.body["items"].as_array().unwrap().clone();
        if items.is_empty() {
            break;
        }
        types.extend(items.iter().map(|item| item["event"]["type"].as_str().unwrap().to_owned()));
        cursor = format!("&cursor={}", page.text("next").replace('/', "%2F"));
    }
    for expected in
        ["runStarted", "approvalRequested", "approvalVoted", "paused", "resumed", "signalReceived", "ended"]
    {
        assert_eq!(types.iter().filter(|kind| *kind == expected).count(), 1, "{expected}: {types:?}");
    }

    // Whoever waits when the server ends is answered.
    let waits = server.post("/workflow-runs", r#"{"workflowId": "gate"}"#).await;
    let path = format!("/workflow-runs/{}?wait=60s", waits.text("runId"));
    let stop = server.stop.take().unwrap();
    let (answer, ()) = tokio::join!(server.get(&path), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = stop.send(());
    });
    assert_eq!((answer.status, answer.text("status")), (202, "WAITING_APPROVAL"), "{answer:?}");
    tokio::time::timeout(Duration::from_secs(10), server.served).await.unwrap().unwrap();
}
