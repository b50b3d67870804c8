//! The way to runs: the API of the server that holds the database, or the same API in this process.
//!
//! A verb means the same either way, because both go through the same router.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::header;
use expression::Value;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::args::Global;
use crate::home;
use crate::home::Home;
use crate::output::Failure;

/// A server that does not answer in this time, beyond what it was asked to wait, is not there.
const TIMEOUT: Duration = Duration::from_mins(1);
/// No server waits longer when it is asked to.
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// Larger answers are not read.
const MAX_ANSWER: usize = 256 << 20;

/// The API, wherever it is.
pub(crate) enum Client {
    /// A server's.
    Server(Server),
    /// This process's own, over the open database.
    Here(Box<Home>),
}

/// A server's address.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// `127.0.0.1:7878`.
    authority: String,
}

impl Client {
    /// Runs `work` with the API that the options lead to.
    pub(crate) fn block_on<T>(
        global: &Global,
        work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime()?.block_on(async {
            let client = Self::connect(global)?;
            let result = work(&client).await;
            client.close().await;
            result
        })
    }

    /// The server that was named, or that holds the database; else the database itself, which must exist.
    pub(crate) fn connect(global: &Global) -> Result<Self, Failure> {
        if let Some(endpoint) = &global.endpoint {
            return Ok(Self::Server(Server::at(endpoint)?));
        }
        home::open_or_server(&home::database(global))
    }

    /// Whether runs are performed by somebody while this client does nothing.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    pub(crate) async fn close(self) {
        if let Self::Here(home) = self {
            home.close().await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None, None).await.map(|(_, value)| value)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body), None).await.map(|(_, value)| value)
    }

    /// One request; the status and the document of a success, or the error it was answered with.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<(u16, Value), Failure> {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        request = match self {
            Self::Server(server) => request.header(header::HOST, &server.authority),
            Self::Here(_) => request.header(header::HOST, "localhost"),
        };
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let request = request
            .body(body)
            .map_err(|error| Failure::new("REQUEST_INVALID", format!("this cannot be asked: {error}")))?;
        let response = match self {
            Self::Server(server) => server.send(request).await?,
            Self::Here(home) => home.call(request).await.map(Body::new),
        };
        let status = response.status();
        let bytes = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| Failure::new("SERVER_UNREACHABLE", format!("the answer broke off: {error}")))?
            .to_bytes();
        let value = if bytes.is_empty() { Value::Null } else { parse(&bytes)? };
        if status.is_success() {
            return Ok((status.as_u16(), value));
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Err(Failure {
            code: text("code").unwrap_or_else(|| "SERVER_ERROR".to_owned()),
            message: text("message").unwrap_or_else(|| format!("the server answered {status}")),
            hint: text("hint"),
            details: value.get("details").cloned(),
        })
    }

    /// A text as one segment of a path, or a value of a query.
    pub(crate) fn segment(text: &str) -> String {
        let mut safe = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                safe.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(safe, "%{byte:02X}");
            }
        }
        safe
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    let text = str::from_utf8(bytes).ok();
    text.and_then(|text| Value::parse_json(text).ok()).ok_or_else(|| {
        Failure::new("SERVER_ERROR", "what answered is no Stepwell server: its answer is no JSON")
            .hint("check --endpoint, STEPWELL_ENDPOINT and the port")
    })
}

impl Server {
    /// Reads `http://127.0.0.1:7878`, or the address alone.
    pub(crate) fn at(endpoint: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::new("ENDPOINT_INVALID", format!("`{endpoint}` is no address of a server: {why}"))
                .hint("write it like http://127.0.0.1:7878")
        };
        if endpoint.starts_with("https://") {
            return Err(wrong("servers do not speak TLS yet"));
        }
        let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
        let uri: axum::http::Uri =
            format!("http://{authority}").parse().map_err(|_| wrong("it cannot be read"))?;
        let authority = uri.authority().ok_or_else(|| wrong("there is no host in it"))?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("there is more than a host and a port in it"));
        }
        if authority.port_u16().is_none() {
            return Err(wrong("there is no port in it"));
        }
        Ok(Self { authority: authority.as_str().to_owned() })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// Whether something answers there.
    pub(crate) async fn is_alive(&self) -> bool {
        let Ok(request) = Request::get("/health").header(header::HOST, &self.authority).body(Body::empty())
        else {
            return false;
        };
        let answer = tokio::time::timeout(Duration::from_secs(2), self.send(request)).await;
        matches!(answer, Ok(Ok(response)) if response.status().is_success())
    }

    async fn send(&self, request: Request<Body>) -> Result<axum::http::Response<Body>, Failure> {
        let unreachable = |why: String| {
            Failure::new("SERVER_UNREACHABLE", format!("no server answers at {}: {why}", self.url()))
                .hint("start one with `stepwell serve`, or check --endpoint")
        };
        let stream = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(&self.authority))
            .await
            .map_err(|_| unreachable("it does not accept the connection".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(connection);
        let waits = request.uri().query().is_some_and(|query| query.contains("wait="));
        let patience = if waits { TIMEOUT + LONGEST_WAIT } else { TIMEOUT };
        let response = tokio::time::timeout(patience, sender.send_request(request))
            .await
            .map_err(|_| unreachable(format!("it has not answered for {} s", patience.as_secs())))?
            .map_err(|error| unreachable(error.to_string()))?;
        Ok(response.map(Body::new))
    }
}

/// A runtime of one thread: starting threads would cost more than a verb does.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("SYSTEM", format!("cannot start: {error}")))
}
