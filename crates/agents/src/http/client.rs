//! One exchange over a pooled connection, within its limits.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use engine::error_type;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::Uri;
use hyper::header;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use runtime::ports::CallError;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::command::seconds;
use crate::error::Code;
use crate::error::agent_error;
use crate::error::failure;

/// A connection is made within this time unless the agent says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are closed before common servers close them (from 5 s on), so that no request meets a closing one.
const IDLE: Duration = Duration::from_secs(4);
/// More redirects than this lead nowhere.
const REDIRECTS: u32 = 5;

/// Clients with pooled connections. No proxy is used; none is taken from the environment.
pub(crate) struct Client {
    plain: Plain,
    /// One for each set of trusted certificates and limit of connecting, made when first asked for: reading the system's
    /// certificates takes milliseconds.
    others: Mutex<HashMap<Transport, Secure>>,
}

type Plain = legacy::Client<HttpConnector, Full<Bytes>>;
type Secure = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How connections are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Transport {
    /// Certificates (PEM) that are trusted besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// How long making a connection may take.
    pub(super) connect_timeout: Option<Duration>,
}

/// What one exchange may use.
pub(super) struct Limits {
    /// From the first byte sent to the last received, redirects included.
    pub(super) time: Duration,
    /// Of the answer's body.
    pub(super) bytes: u64,
    /// Whether redirects within the origin are followed.
    pub(super) redirects: bool,
}

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Default for Client {
    fn default() -> Self {
        Self { plain: builder().build(connector(None)), others: Mutex::default() }
    }
}

impl Client {
    /// Sends the request and takes the whole answer. `whom` begins the message of an error.
    pub(super) async fn exchange(
        &self,
        transport: &Transport,
        request: &Request,
        limits: &Limits,
        whom: &str,
    ) -> Result<Answer, CallError> {
        tokio::time::timeout(limits.time, self.follow(transport, request, limits, whom)).await.unwrap_or_else(
            |_| {
                let message = format!(
                    "{whom}: {} {} was not answered within {}",
                    request.method,
                    request.uri,
                    seconds(limits.time)
                );
                Err(failure(Code::HttpTimeout, error_type::TIMEOUT, message))
            },
        )
    }

    async fn follow(
        &self,
        transport: &Transport,
        request: &Request,
        limits: &Limits,
        whom: &str,
    ) -> Result<Answer, CallError> {
        let mut answer = self.once(transport, request, limits.bytes, whom).await?;
        let mut followed = None::<Request>;
        for _ in 0..REDIRECTS {
            let sent = followed.as_ref().unwrap_or(request);
            let Some(next) = redirect(sent, &answer).filter(|_| limits.redirects) else { return Ok(answer) };
            if origin(&next.uri) != origin(&request.uri) {
                let message = format!(
                    "{whom}: {} {} answered {} to another origin, {}; credentials are not taken there: give that URL",
                    sent.method, sent.uri, answer.status, next.uri
                );
                return Err(agent_error(Code::HttpRedirect, message));
            }
            answer = self.once(transport, &next, limits.bytes, whom).await?;
            followed = Some(next);
        }
        if redirect(followed.as_ref().unwrap_or(request), &answer).is_some() {
            let message = format!(
                "{whom}: {} {} was redirected more than {REDIRECTS} times",
                request.method, request.uri
            );
            return Err(agent_error(Code::HttpRedirect, message));
        }
        Ok(answer)
    }

    async fn once(
        &self,
        transport: &Transport,
        request: &Request,
        limit: u64,
        whom: &str,
    ) -> Result<Answer, CallError> {
        let place = || format!("{whom}: {} {}", request.method, request.uri);
        let mut message = hyper::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = request.uri.clone();
        *message.headers_mut() = request.headers.clone();

        let secure = request.uri.scheme_str() == Some("https");
        let sent = if !secure && transport.connect_timeout.is_none() {
            self.plain.request(message)
        } else {
            let client = self.other(transport);
            client
                .map_err(|why| agent_error(Code::HttpNotConnected, format!("{}: {why}", place())))?
                .request(message)
        };
        let answer = sent.await.map_err(|error| {
            let (code, what) = if error.is_connect() {
                (Code::HttpNotConnected, "no connection")
            } else {
                (Code::HttpConnectionLost, "the connection was lost")
            };
            agent_error(code, format!("{}: {what}: {}", place(), cause(&error)))
        })?;

        let (head, mut body) = answer.into_parts();
        let too_large = || {
            let message = format!("{} answered with more than {limit} bytes; that is the limit", place());
            agent_error(Code::HttpAnswerTooLarge, message)
        };
        let announced =
            head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > limit && request.method != Method::HEAD) {
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        let mut first = None::<Bytes>;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let message = format!("{}: the answer broke off: {}", place(), cause(&error));
                agent_error(Code::HttpConnectionLost, message)
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + first.as_ref().map_or(0, Bytes::len) + data.len();
            if length as u64 > limit {
                return Err(too_large());
            }
            // Most answers are one piece, which need not be copied.
            match first.take() {
                None if bytes.is_empty() => first = Some(data),
                before => {
                    bytes.extend_from_slice(&before.unwrap_or_default());
                    bytes.extend_from_slice(&data);
                }
            }
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: first.unwrap_or_else(|| bytes.freeze()),
        })
    }

    fn other(&self, transport: &Transport) -> Result<Secure, String> {
        let mut others = self.others.lock();
        if let Some(client) = others.get(transport) {
            return Ok(client.clone());
        }
        let config = tls(transport.ca_file.as_deref())?;
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector(transport.connect_timeout));
        let client: Secure = builder().build(https);
        others.insert(transport.clone(), client.clone());
        Ok(client)
    }
}

fn builder() -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
    builder
}

fn connector(timeout: Option<Duration>) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(timeout.unwrap_or(CONNECT_TIMEOUT)));
    connector
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        let failed =
            |why: &dyn Display| format!("the certificates of {} cannot be read: {why}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
            let certificate = certificate.map_err(|error| failed(&error))?;
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
    }
    if roots.is_empty() {
        tracing::warn!("this system has no certificates to trust: no https connection will be made");
    }
    config(roots)
}

fn config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The request that a redirect asks for, if it is one that may be followed: the same again (307, 308, and what only
/// reads), or a GET for the result (303).
fn redirect(request: &Request, answer: &Answer) -> Option<Request> {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let same = match answer.status.as_u16() {
        307 | 308 => true,
        301 | 302 if reads => true,
        303 => reads,
        _ => return None,
    };
    let location = answer.headers.get(header::LOCATION)?.to_str().ok()?;
    let uri = resolve(&request.uri, location)?;
    let mut headers = request.headers.clone();
    if same {
        return Some(Request { method: request.method.clone(), uri, headers, body: request.body.clone() });
    }
    headers.remove(header::CONTENT_TYPE);
    Some(Request { method: Method::GET, uri, headers, body: Bytes::new() })
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let target: Uri = if location.contains("://") {
        location.parse().ok()?
    } else {
        let origin = format!("{}://{}", base.scheme_str()?, base.authority()?);
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        match location.as_bytes() {
            [b'/', b'/', ..] => format!("{}:{location}", base.scheme_str()?),
            [b'/', ..] => format!("{origin}{location}"),
            [b'?', ..] => format!("{origin}{}{location}", base.path()),
            _ => format!("{origin}{folder}/{location}"),
        }
        .parse()
        .ok()?
    };
    matches!(target.scheme_str(), Some("http" | "https")).then_some(target)
}

fn origin(uri: &Uri) -> (Option<&str>, Option<&str>, u16) {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.scheme_str(), uri.host(), uri.port_u16().unwrap_or(default))
}

/// The innermost reason, which is what the operating system or the protocol says.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if let Some(error) = inner.downcast_ref::<io::Error>()
        && let Some(wrapped) = error.get_ref()
    {
        return wrapped.to_string();
    }
    inner.to_string()
}
