//! A server that really answers, byte for byte as a test says.

use std::collections::VecDeque;
use std::fs;

use hyper::StatusCode;
use model::agent::Http;
use parking_lot::Mutex;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpListener;

use super::*;

/// What the server does with a request.
#[derive(Clone)]
enum Reply {
    Bytes(Vec<u8>),
    /// Writes this and closes the connection.
    Close(&'static str),
    /// Never answers.
    Silence,
}

struct Server {
    address: String,
    /// The connection's number and the request, headers in lower case.
    seen: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Server {
    /// Gives each request the next reply, the last one for ever; over TLS if there is an acceptor.
    async fn start(replies: &[Reply], tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(VecDeque::from(replies.to_vec())));
        let log = seen.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, replies, tls) = (log.clone(), replies.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, connection, &log, &replies).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, connection, &log, &replies).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    log: &Mutex<Vec<(usize, String)>>,
    replies: &Mutex<VecDeque<Reply>>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        log.lock().push((connection, head + &String::from_utf8(body).unwrap()));
        let reply = {
            let mut replies = replies.lock();
            if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() }
        };
        match reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Reply::Close(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Silence => std::future::pending().await,
        }
    }
}

fn reply(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into())
}

fn endpoint(url: &str) -> Http {
    Http {
        method: "POST".into(),
        url: template(url),
        headers: Vec::new(),
        body: None,
        expect: Vec::new(),
        connect_timeout: None,
        output_limit: 1 << 20,
        follow_redirects: true,
        ca_file: None,
    }
}

async fn ask(url: &str) -> Result<Value, CallError> {
    perform(agent(Kind::Http(endpoint(url))), r#"{"task": "look"}"#).await
}

async fn http_call(request: &str) -> Result<Value, CallError> {
    let folder = tempfile::tempdir().unwrap();
    let actions = actions(agent(answers("{}")), folder.path());
    actions.perform(Call { action: Action::Http, ..call(request) }).await
}

#[tokio::test]
async fn an_endpoint_is_sent_the_request_over_a_kept_connection() {
    let server = Server::start(&[reply("200 OK", "", r#"{"ok": true}"#)], None).await;
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = endpoint(&server.url("/agents/{{ input.service }}?a=1"));
    endpoint.headers = vec![("Authorization".into(), template("Bearer ${env:SECRET}"))];
    let actions = actions(agent(Kind::Http(endpoint)), folder.path());
    for _ in 0..2 {
        let output =
            actions.perform(call(r#"{"task": "look", "input": {"service": "checkout"}}"#)).await.unwrap();
        assert_eq!(output, json(r#"{"ok": true}"#));
    }
    let seen = server.seen.lock();
    assert_eq!(seen.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 0]);
    let (head, body) = seen[1].1.split_once("\r\n\r\n").unwrap();
    let lines: Vec<_> = head.split("\r\n").collect();
    assert_eq!(lines[0], "POST /agents/checkout?a=1 HTTP/1.1");
    for header in [
        "authorization: Bearer hunter2-\"x",
        "content-type: application/json",
        "idempotency-key: run-1/step/1",
        &format!("host: {}", server.address),
    ] {
        assert!(lines.contains(&header), "{header}: {head}");
    }
    let body = json(body);
    assert_eq!(body.get("input"), Some(&json(r#"{"service": "checkout"}"#)));
    assert_eq!(body.get("idempotencyKey"), Some(&json(r#""run-1/step/1""#)));
}

#[tokio::test]
async fn a_status_says_whether_the_answer_is_definite() {
    // Status, headers, body; type, definite, wait; part of the message.
    let cases = [
        ("404 Not Found", "", "no such thing", ("agent_error", true), None, "404 Not Found: no such thing"),
        ("422 Unprocessable Entity", "", "", ("validation", true), None, "422"),
        (
            "402 Payment Required",
            "",
            r#"{"error": {"type": "quota", "message": "none left"}}"#,
            ("quota", true),
            None,
            ": none left",
        ),
        ("429 Too Many Requests", "retry-after: 7\r\n", "", ("agent_error", false), Some(7), "429"),
        ("409 Conflict", "", "", ("agent_error", false), None, "409"),
        ("500 Internal Server Error", "", r#"{"error": "boom"}"#, ("agent_error", false), None, ": boom"),
        ("503 Service Unavailable", "retry-after: 30\r\n", "", ("agent_error", false), Some(30), "503"),
    ];
    for (status, headers, body, (kind, definite), wait, part) in cases {
        let server = Server::start(&[reply(status, headers, body)], None).await;
        let error = ask(&server.url("/")).await.unwrap_err();
        assert_eq!(summary(&error), ("HTTP_STATUS", kind, definite), "{status}");
        assert_eq!(error.retry_after, wait.map(Duration::from_secs), "{status}");
        assert!(error.error.message.contains(part), "{}", error.error.message);
    }
    let server = Server::start(&[reply("404 Not Found", "", "[]")], None).await;
    let lenient = Http { expect: vec![200, 404], ..endpoint(&server.url("/")) };
    assert_eq!(perform(agent(Kind::Http(lenient)), "{}").await.unwrap(), json("[]"));
}

#[tokio::test]
async fn a_connection_that_fails_is_never_a_definite_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(&format!("http://{closed}/")).await.unwrap_err();
    assert_eq!(summary(&error), ("HTTP_NOT_CONNECTED", "agent_error", false));
    assert!(error.error.message.contains("refused"), "{}", error.error.message);

    for half in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\""] {
        let server = Server::start(&[Reply::Close(half)], None).await;
        let error = ask(&server.url("/")).await.unwrap_err();
        assert_eq!(summary(&error), ("HTTP_CONNECTION_LOST", "agent_error", false), "{half}");
    }

    let server = Server::start(&[Reply::Silence], None).await;
    let folder = tempfile::tempdir().unwrap();
    let actions = actions(agent(Kind::Http(endpoint(&server.url("/")))), folder.path());
    let error = actions.perform(Call { timeout: Duration::from_millis(50), ..call("{}") }).await.unwrap_err();
    assert_eq!(summary(&error), ("HTTP_TIMEOUT", "timeout", false));
}

#[tokio::test]
async fn answers_are_bounded_and_text() {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(17));
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n";
    for flood in [chunked.as_str(), announced] {
        let server = Server::start(&[Reply::Bytes(flood.into())], None).await;
        let error = ask(&server.url("/")).await.unwrap_err();
        assert_eq!(summary(&error), ("HTTP_ANSWER_TOO_LARGE", "agent_error", false));
    }
    let exact = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(16));
    let server = Server::start(&[Reply::Bytes(exact.into())], None).await;
    assert_eq!(
        ask(&server.url("/")).await.unwrap().get("response").unwrap().as_str().unwrap().len(),
        1 << 20
    );

    let binary = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe".to_vec();
    let server = Server::start(&[Reply::Bytes(binary)], None).await;
    assert_eq!(summary(&ask(&server.url("/")).await.unwrap_err()).0, "HTTP_ANSWER_NOT_TEXT");
}

#[tokio::test]
async fn redirects_stay_within_the_origin() {
    let done = reply("200 OK", "", "[1]");
    let to = |location: &str| reply("307 Temporary Redirect", &format!("location: {location}\r\n"), "");
    let server = Server::start(&[to("/b/c"), to("d?x=1"), done.clone()], None).await;
    assert_eq!(ask(&server.url("/a")).await.unwrap(), json("[1]"));
    let lines: Vec<_> =
        server.seen.lock().iter().map(|(_, text)| text.lines().next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["POST /a HTTP/1.1", "POST /b/c HTTP/1.1", "POST /b/d?x=1 HTTP/1.1"]);

    let elsewhere = Server::start(std::slice::from_ref(&done), None).await;
    let server = Server::start(&[to(&elsewhere.url("/"))], None).await;
    assert_eq!(summary(&ask(&server.url("/")).await.unwrap_err()).0, "HTTP_REDIRECT");
    assert!(elsewhere.seen.lock().is_empty(), "credentials go to no other origin");

    let server = Server::start(&[to("/again")], None).await;
    assert_eq!(summary(&ask(&server.url("/")).await.unwrap_err()).0, "HTTP_REDIRECT");
    // The result of a POST that went well stands elsewhere; a POST that moved is not sent again as a GET.
    let see_other = reply("303 See Other", "location: /result\r\n", "");
    let server = Server::start(&[see_other, done], None).await;
    assert_eq!(ask(&server.url("/")).await.unwrap(), json("[1]"));
    assert!(server.seen.lock()[1].1.starts_with("GET /result HTTP/1.1"));
    let server = Server::start(&[reply("302 Found", "location: /b\r\n", "")], None).await;
    assert_eq!(summary(&ask(&server.url("/")).await.unwrap_err()).0, "HTTP_STATUS");
}

#[tokio::test]
async fn http_call_answers_with_status_headers_and_body() {
    let server = Server::start(
        &[reply("201 Created", "content-type: application/json\r\nx-a: 1\r\nX-A: 2\r\n", "7")],
        None,
    )
    .await;
    let request = format!(
        r#"{{"method": "put", "url": "{}", "query": {{"q": "a b&c", "n": [1, true], "none": null}},
            "headers": {{"X-Trace": 5}}, "body": {{"n": 1}}}}"#,
        server.url("/things?old=1#part")
    );
    let output = http_call(&request).await.unwrap();
    let expected = r#"{"status": 201, "headers": {"content-type": "application/json", "x-a": "1, 2", "content-length": "1"}, "body": 7}"#;
    assert_eq!(output, json(expected));
    let seen = server.seen.lock()[0].1.clone();
    assert!(seen.starts_with("PUT /things?old=1&q=a%20b%26c&n=1&n=true HTTP/1.1"), "{seen}");
    for part in ["x-trace: 5", "idempotency-key: run-1/step/1", "\r\n\r\n{\"n\":1}"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }

    let server = Server::start(&[reply("404 Not Found", "", "gone")], None).await;
    let asked = |expect: &str| format!(r#"{{"url": "{}", "expect": {expect}}}"#, server.url("/"));
    for expect in ["404", r#"["2xx", "4xx"]"#, "[200, 404]"] {
        let output = http_call(&asked(expect)).await.unwrap();
        assert_eq!(
            (output.get("status"), output.get("body")),
            (Some(&json("404")), Some(&json(r#""gone""#)))
        );
    }
    assert_eq!(summary(&http_call(&asked("200")).await.unwrap_err()), ("HTTP_STATUS", "agent_error", true));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let cases = [
        ("{}", "url"),
        (r#"{"url": "ftp://localhost/"}"#, "http://"),
        (r#"{"url": "http:///x"}"#, ""),
        (r#"{"url": "http://a b/"}"#, "percent-encode"),
        (r#"{"url": "http://user:pw@localhost/"}"#, "Authorization"),
        (r#"{"url": "http://localhost/", "method": "two words"}"#, "two words"),
        (r#"{"url": "http://localhost/", "headers": {"a b": "x"}}"#, "a b"),
        (r#"{"url": "http://localhost/", "headers": {"a": "x\r\ny: z"}}"#, "`a`"),
        (r#"{"url": "http://localhost/", "headers": {"Content-Length": 1}}"#, "connection"),
        (r#"{"url": "http://localhost/", "expect": "2yy"}"#, "2yy"),
    ];
    for (request, part) in cases {
        let error = http_call(request).await.unwrap_err();
        assert_eq!(summary(&error), ("HTTP_REQUEST_INVALID", "validation", false), "{request}");
        assert!(error.error.message.contains(part), "{}", error.error.message);
    }
}

#[tokio::test]
async fn tls_trusts_what_it_is_told_to() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = Server::start(&[reply("200 OK", "", "[1]")], Some(acceptor)).await;

    let url = server.url("/").replace("http:", "https:");
    let trusting = Http { ca_file: Some("ca.pem".into()), ..endpoint(&url) };
    let actions = actions(agent(Kind::Http(trusting)), folder.path());
    assert_eq!(actions.perform(call("{}")).await.unwrap(), json("[1]"));
    let error = ask(&url).await.unwrap_err();
    assert_eq!(summary(&error), ("HTTP_NOT_CONNECTED", "agent_error", false));
    assert!(error.error.message.contains("certificate"), "{}", error.error.message);
}

#[tokio::test]
async fn a_secret_that_a_server_echoes_goes_no_further() {
    let echo = r#"{"headers": {"authorization": "Bearer hunter2-\"x"}}"#.to_owned();
    // What is shown of a body is cut; here the cut would go through the secret.
    let long = format!("{}Bearer hunter2-\"x", "x".repeat(495));
    for (status, echo) in
        [(StatusCode::OK, &echo), (StatusCode::FORBIDDEN, &echo), (StatusCode::FORBIDDEN, &long)]
    {
        let server =
            Server::start(&[reply(&status.to_string(), "content-type: application/json\r\n", echo)], None)
                .await;
        let folder = tempfile::tempdir().unwrap();
        let actions = actions(agent(answers("{}")), folder.path());
        let request =
            format!(r#"{{"url": "{}", "headers": {{"authorization": "${{env:SECRET}}"}}}}"#, server.url("/"));
        let asked =
            Call { action: Action::Http, secrets: vec![secret("/headers/authorization")], ..call(&request) };
        let came_back = match actions.perform(asked).await {
            Ok(output) => output.to_string(),
            Err(error) => error.error.message.to_string(),
        };
        assert!(server.seen.lock()[0].1.contains("authorization: Bearer hunter2-\"x"));
        assert!(came_back.contains("[secret]") && !came_back.contains("hunt"), "{came_back}");
    }
}
