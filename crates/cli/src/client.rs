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
use runtime::SystemClock;
use runtime::ports::Clock as _;
use tokio::net::TcpStream;

use crate::args::Global;
use crate::aws;
use crate::aws::Signer;
use crate::home;
use crate::home::Home;
use crate::output::Failure;
use crate::tls;

/// A server that does not answer in this time, beyond what it was asked to wait, is not there.
const TIMEOUT: Duration = Duration::from_mins(1);
/// No server waits longer when it is asked to.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// Larger answers are not read.
const MAX_ANSWER: usize = 256 << 20;

/// The API, wherever it is.
pub(crate) enum Client {
    /// A server's.
    Server(Server),
    /// This process's own, over the open database.
    Here(Box<Home>),
}

/// A server's address, and how requests to it are signed.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Whether it speaks TLS.
    secure: bool,
    /// `127.0.0.1:7878`.
    authority: String,
    /// What stands before every path: empty, or `/stage`.
    prefix: String,
    signer: Option<Signer>,
}

impl Client {
    /// Runs `work` with the API that the options lead to.
    pub(crate) fn block_on<T>(
        global: &Global,
        work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime()?.block_on(async {
            let client = Self::connect(global).await?;
            let result = work(&client).await;
            client.close().await;
            result
        })
    }

    /// The server that was named, or that holds the database; else the database itself, which must exist.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        if let Some(server) = Server::named(global).await? {
            return Ok(Self::Server(server));
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
        self.send(method, path, body.map(|body| ("application/json", body.to_string())), key).await
    }

    /// The same with a body of another media type.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, String)>,
        key: Option<&str>,
    ) -> Result<(u16, Value), Failure> {
        let mut headers = Vec::new();
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let mut content = String::new();
        if let Some((media_type, text)) = body {
            headers.push(("content-type", media_type));
            content = text;
        }
        let path = format!("/api/v1{path}");
        let response = match self {
            Self::Server(server) => server.send(method, &path, &headers, content).await?,
            Self::Here(home) => {
                let request = request(method, &path, "localhost", &headers, content)?;
                home.call(request).await.map(Body::new)
            }
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
        let hint = text("hint").or_else(|| {
            let denied = status.as_u16() == 403 && text("code").is_none();
            denied.then(|| "check the credentials, and that they may invoke the API of the stack".to_owned())
        });
        Err(Failure {
            code: text("code").unwrap_or_else(|| "SERVER_ERROR".to_owned()),
            message: text("message").unwrap_or_else(|| format!("the server answered {status}")),
            hint,
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
    /// The server that was named, if one was.
    pub(crate) async fn named(global: &Global) -> Result<Option<Self>, Failure> {
        match (global.endpoint.as_deref(), global.stack.as_deref()) {
            (Some("aws"), stack) | (None, stack @ Some(_)) => aws::server(stack).await.map(Some),
            (Some(endpoint), _) => Self::at(endpoint).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads `http://127.0.0.1:7878`, the address alone, or an address with a path before the API's. What is API Gateway's
    /// own is signed.
    pub(crate) fn at(endpoint: &str) -> Result<Self, Failure> {
        let server = Self::plain(endpoint)?;
        let signer = aws::signer_for(&server.authority)?;
        Ok(Self { signer, ..server })
    }

    /// The same, and nothing is signed.
    pub(crate) fn plain(endpoint: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::new("ENDPOINT_INVALID", format!("`{endpoint}` is no address of a server: {why}"))
                .hint("write it like http://127.0.0.1:7878 or https://api.example.com/stage")
        };
        let (secure, rest) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, endpoint),
        };
        let url = format!("http://{}", rest.trim_end_matches('/'));
        let uri: axum::http::Uri = url.parse().map_err(|_| wrong("it cannot be read"))?;
        let authority = uri.authority().ok_or_else(|| wrong("there is no host in it"))?;
        if uri.query().is_some() {
            return Err(wrong("there is a query in it"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("there is a user in it"));
        }
        if !endpoint.contains("://") && authority.port_u16().is_none() {
            return Err(wrong("there is no port in it"));
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { secure, authority: authority.as_str().to_owned(), prefix, signer: None })
    }

    pub(crate) fn signed(self, signer: Signer) -> Self {
        Self { signer: Some(signer), ..self }
    }

    pub(crate) fn host(&self) -> &str {
        &self.authority
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.prefix)
    }

    /// Whether something answers there.
    pub(crate) async fn is_alive(&self) -> bool {
        // Behind a gateway only the API itself can be reached.
        let path = if self.prefix.is_empty() { "/health" } else { "/api/v1/home" };
        let patience = Duration::from_secs(if self.prefix.is_empty() { 2 } else { 10 });
        let answer = tokio::time::timeout(patience, self.send(Method::GET, path, &[], String::new())).await;
        matches!(answer, Ok(Ok(response)) if response.status().is_success())
    }

    /// One GET, answered with the status and the text.
    pub(crate) async fn text(&self, path: &str) -> Result<(u16, String), Failure> {
        let response = self.send(Method::GET, path, &[], String::new()).await?;
        let status = response.status().as_u16();
        let broken = |error| Failure::new("SERVER_UNREACHABLE", format!("the answer broke off: {error}"));
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(broken)?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<axum::http::Response<Body>, Failure> {
        let unreachable = |why: String| {
            Failure::new("SERVER_UNREACHABLE", format!("no server answers at {}: {why}", self.url()))
                .hint("start one with `stepwell serve`, or check --endpoint")
        };
        let waits = path.contains("wait=");
        let path = format!("{}{path}", self.prefix);
        let mut all = headers.to_vec();
        let more;
        if let Some(signer) = &self.signer {
            let scheme = if self.secure { "https" } else { "http" };
            let url = format!("{scheme}://{}{path}", self.authority);
            let mut signed = vec![("host", self.authority.as_str())];
            signed.extend(headers);
            more = signer.headers(SystemClock.now(), method.as_str(), &url, &signed, body.as_bytes())?;
            all.extend(more.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        let patience = if waits { TIMEOUT + LONGEST_WAIT } else { TIMEOUT };
        let exchange = async {
            if self.secure {
                let url = format!("https://{}{path}", self.authority);
                return tls::send(request(method, &url, &self.authority, &all, body)?)
                    .await
                    .map_err(unreachable);
            }
            let request = request(method, &path, &self.authority, &all, body)?;
            let address = match self.authority.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => self.authority.clone(),
                _ => format!("{}:80", self.authority),
            };
            let stream = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(&address))
                .await
                .map_err(|_| unreachable("it does not accept the connection".to_owned()))?
                .map_err(|error| unreachable(error.to_string()))?;
            let _ = stream.set_nodelay(true);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream))
                    .await
                    .map_err(|error| unreachable(error.to_string()))?;
            tokio::spawn(connection);
            sender
                .send_request(request)
                .await
                .map(|answer| answer.map(Body::new))
                .map_err(|error| unreachable(error.to_string()))
        };
        tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| unreachable(format!("it has not answered for {} s", patience.as_secs())))?
    }
}

fn request(
    method: Method,
    uri: &str,
    host: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Request<Body>, Failure> {
    let mut request = Request::builder().method(method).uri(uri).header(header::HOST, host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Body::from(body))
        .map_err(|error| Failure::new("REQUEST_INVALID", format!("this cannot be asked: {error}")))
}

/// A runtime of one thread: starting threads would cost more than a verb does.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("SYSTEM", format!("cannot start: {error}")))
}
