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

const HOOKED: &str = r#"{"id": "hooked", "version": "1", "inputSchema": {"type": "object", "properties": {"tag": {"type": "string"}}},
    "triggers": [{"type": "webhook", "name": "push", "secret": "${env:PUSH}", "headers": ["X-Kind"]},
        {"type": "webhook", "name": "hub", "secret": "${env:HUB}", "signature": "github"},
        {"type": "webhook", "name": "lost", "secret": "${env:LOST}"}],
    "states": [{"name": "keep", "type": "inject", "data": {"tag": "{{ ctx.tag }}"}}]}"#;

/// No workflow here calls one.
struct Nobody;

/// Every secret but one is its own name.
struct Names;

#[async_trait]
impl runtime::ports::Secrets for Names {
    async fn secret(&self, reference: &expression::SecretRef) -> Result<String, String> {
        if reference.name == "LOST" { Err("it is lost".to_owned()) } else { Ok(reference.name.clone()) }
    }
}

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
        Self::start_as(http_api::Home::embedded()).await
    }

    async fn start_as(home: http_api::Home) -> Self {
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
        let api = Api::new(runtime).with_secrets(Arc::new(Names)).with_home(home);
        let served = tokio::spawn(http_api::serve(listener, api, async {
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

fn signed(secret: &str, pieces: &[&str]) -> String {
    use hmac::KeyInit;
    use hmac::Mac;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(pieces.join(".").as_bytes());
    let digest = mac.finalize().into_bytes();
    digest.iter().fold("sha256=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// A delivery to `/hooks/hooked/push`, signed rightly, so many seconds from now.
fn push(id: &str, body: &str, seconds: i64) -> String {
    use runtime::ports::Clock;
    let time = (SystemClock.now().as_second() + seconds).to_string();
    let signature = signed("PUSH", &[&time, id, body]);
    format!(
        "Host: hooks.example\r\nContent-Type: application/json\r\nX-Kind: tag\r\nStepwell-Timestamp: {time}\r\n\
         Stepwell-Delivery: {id}\r\nStepwell-Signature: {signature}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_delivery_starts_one_run_however_often_it_comes() {
    let server = Server::start().await;
    assert_eq!(server.post("/workflows", HOOKED).await.status, 201);
    let line = "POST /hooks/hooked/push";
    let body = r#"{"tag": "v2"}"#;
    let headers = push("d-1", body, 0);

    // At once, so that both are under way before either is done.
    let (one, other) = tokio::join!(server.send(line, &headers, body), server.send(line, &headers, body));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!((statuses, one.text("runId")), ([200, 202], other.text("runId")), "{one:?} {other:?}");
    // Signed again for another attempt: the id is the same.
    let again = server.send(line, &push("d-1", body, -60), body).await;
    assert_eq!((again.status, again.text("runId")), (200, one.text("runId")), "{again:?}");
    assert_eq!(server.send(line, &push("d-2", body, 0), body).await.status, 202, "another delivery");

    let run = server.get(&format!("/workflow-runs/{}?wait=10s", one.text("runId"))).await;
    assert_eq!((run.text("status"), &run.body["output"]["tag"]), ("COMPLETED", &"v2".into()), "{run:?}");
    assert_eq!(run.body["input"]["headers"]["x-kind"], "tag", "{run:?}");
    assert_eq!(
        (&run.body["trigger"]["name"], &run.body["trigger"]["delivery"]),
        (&"push".into(), &"d-1".into())
    );

    let hub = |body: &str, kind: &str| {
        format!(
            "Content-Type: application/json\r\nX-GitHub-Event: {kind}\r\nX-GitHub-Delivery: g-1\r\n\
             X-Hub-Signature-256: {}\r\n",
            signed("HUB", &[body])
        )
    };
    let ping = server.send("POST /hooks/hooked/hub", &hub("{}", "ping"), "{}").await;
    assert_eq!((ping.status, ping.text("status")), (200, "ok"), "a ping starts nothing: {ping:?}");
    let pushed = server.send("POST /hooks/hooked/hub", &hub(body, "push"), body).await;
    assert_eq!((pushed.status, pushed.text("workflowId")), (202, "hooked"), "{pushed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_rightly_starts_nothing() {
    let server = Server::start().await;
    assert_eq!(server.post("/workflows", HOOKED).await.status, 201);
    let body = r#"{"tag": "v2"}"#;
    let right = push("d-1", body, 0);
    let other = r#"{"tag": "v3"}"#;
    let text = "tag=v2";
    let form = push("d-1", text, 0).replace("application/json", "application/x-www-form-urlencoded");
    let huge = format!(r#"{{"tag": "{}"}}"#, "x".repeat(3 << 20));
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("hooked/push", "", body, 401, "WEBHOOK_SIGNATURE"),
        ("hooked/push", &right, other, 401, "WEBHOOK_SIGNATURE"),
        ("hooked/push", &right.replace("d-1", "d-2"), body, 401, "WEBHOOK_SIGNATURE"),
        ("hooked/push", &push("d-1", body, -400), body, 401, "WEBHOOK_TIMESTAMP"),
        ("hooked/push", &push("d-1", body, 400), body, 401, "WEBHOOK_TIMESTAMP"),
        ("hooked/push", &push("{}", body, 0), body, 400, "HEADER_INVALID"),
        ("hooked/push", &push("d-1", &huge, 0), &huge, 413, "BODY_TOO_LARGE"),
        ("hooked/push", &form, text, 415, "CONTENT_TYPE"),
        ("hooked/push", &push("d-1", "{", 0), "{", 400, "BODY_NOT_JSON"),
        ("hooked/push", &push("d-1", "[]", 0), "[]", 422, "INPUT_NOT_AN_OBJECT"),
        ("hooked/push", &push("d-1", r#"{"tag": 1}"#, 0), r#"{"tag": 1}"#, 422, "INPUT_SCHEMA_VIOLATION"),
        ("hooked/lost", &right, body, 503, "WEBHOOK_NO_SECRET"),
        ("hooked/none", &right, body, 404, "WEBHOOK_NOT_FOUND"),
        ("none/push", &right, body, 404, "WEBHOOK_NOT_FOUND"),
    ];
    for (path, headers, body, status, code) in cases {
        let answer = server.send(&format!("POST /hooks/{path}"), headers, body).await;
        assert_eq!((answer.status, answer.text("code")), (*status, *code), "{path} {headers}: {answer:?}");
    }
    assert_eq!(server.get("/workflow-runs").await.body["items"].as_array().map(Vec::len), Some(0));

    assert_eq!(server.send("POST /hooks/hooked/push", &right, body).await.status, 202);
    let reused = server.send("POST /hooks/hooked/push", &push("d-1", other, 0), other).await;
    assert_eq!((reused.status, reused.text("code")), (409, "KEY_REUSED"), "{reused:?}");
    assert_eq!(server.send("DELETE /api/v1/workflows/hooked", "", "").await.status, 200);
    let disabled = server.send("POST /hooks/hooked/push", &push("d-3", body, 0), body).await;
    assert_eq!((disabled.status, disabled.text("code")), (409, "WORKFLOW_DISABLED"), "{disabled:?}");
    let stranger = server.send("POST /hooks/hooked/push", "", body).await;
    assert_eq!(stranger.text("code"), "WEBHOOK_SIGNATURE", "only who signs rightly is told: {stranger:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_takes_over_its_api_what_it_can_hold() {
    let command = "type: command\nargv: [/bin/true]\n";
    let fixed = "type: static\noutput: {n: 1}\n";
    let slow = "type: http\nurl: https://example.com\ntimeoutSeconds: 3600\n";
    let yaml = "Content-Type: application/yaml\r\n";
    let long = r#"{"id": "long", "states": [{"name": "call", "type": "operation", "action": "http.call", "input": {"url": "https://example.com"}, "timeoutSeconds": 1200}]}"#;

    let embedded = Server::start().await;
    let refused = embedded.send("PUT /api/v1/agents/fixed", yaml, fixed).await;
    assert_eq!((refused.status, refused.text("code")), (403, "AGENT_NOT_REMOTE"), "{refused:?}");
    assert_eq!(embedded.post("/workflows", long).await.status, 201);
    assert_eq!(embedded.get("/home").await.text("kind"), "embedded");

    let server = Server::start_as(http_api::Home::serverless(890, 20)).await;
    assert_eq!(server.get("/home").await.body["maxStepSeconds"], 890);
    let cases: &[(&str, &str, u16, &str)] = &[
        ("PUT /api/v1/agents/bad", command, 403, "AGENT_NOT_REMOTE"),
        ("PUT /api/v1/agents/slow", slow, 422, "STEP_TOO_LONG"),
        ("PUT /api/v1/agents/other?file=agents/fixed.agent.yaml", fixed, 422, "BODY_INVALID"),
        ("PUT /api/v1/agents/fixed?file=../fixed.agent.yaml", fixed, 400, "QUERY_INVALID"),
        ("POST /api/v1/agents", fixed, 400, "QUERY_INVALID"),
        ("GET /api/v1/agents/none", "", 404, "AGENT_NOT_FOUND"),
        ("PUT /api/v1/agents/fixed", "type: nothing", 422, "DEFINITION_INVALID"),
    ];
    for (line, body, status, code) in cases {
        let answer = server.send(line, yaml, body).await;
        assert_eq!((answer.status, answer.text("code")), (*status, *code), "{line}: {answer:?}");
    }
    let program = server.send("PUT /api/v1/agents/bad", yaml, command).await;
    assert!(program.text("message").contains("agent `bad` is of type command"), "{program:?}");
    assert!(program.text("hint").contains("nothing to run programs on: put it behind HTTP"), "{program:?}");
    let refused = server.post("/workflows", long).await;
    assert_eq!((refused.status, refused.text("code")), (422, "STEP_TOO_LONG"), "{refused:?}");
    let post = "POST /api/v1/agents?file=agents/fixed.agent.yaml";
    assert_eq!(server.send(post, yaml, fixed).await.status, 201);
    let same = server.send("PUT /api/v1/agents/fixed?file=agents/fixed.agent.yaml", yaml, fixed).await;
    assert_eq!((same.status, &same.body["created"]), (200, &false.into()), "{same:?}");
    assert_eq!(server.get("/agents/fixed").await.text("source"), fixed);
    let prompt = server
        .send("PUT /api/v1/agents/ask", "Content-Type: text/plain\r\n", "---\nmodel: a/b\n---\nHello")
        .await;
    assert_eq!((prompt.status, prompt.text("file")), (201, "ask.prompt"), "{prompt:?}");
    let names = server.get("/agents").await;
    assert_eq!(
        (&names.body["items"][0]["name"], &names.body["items"][1]["name"]),
        (&"ask".into(), &"fixed".into())
    );
    let disabled = server.send("DELETE /api/v1/agents/fixed", "", "").await;
    assert_eq!((disabled.status, &disabled.body["disabled"]), (200, &true.into()), "{disabled:?}");
    assert_eq!(server.post("/agents/fixed/enable", "").await.body["disabled"], false);
}
