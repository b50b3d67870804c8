//! The HTTP client under the clients of AWS: HTTP/1.1 over TLS, with pooled connections.
//!
//! The one that comes with the SDK brings HTTP/2 and proxies, which no service here speaks and no function needs: half a megabyte
//! of each program, read in each cold start.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::connection::ConnectionMetadata;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::retries::ErrorKind;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::CaptureConnection;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use rustls::ClientConfig;

/// Connections by the time that making one may take, which each service's client says for itself.
pub(crate) struct Client {
    tls: ClientConfig,
    connectors: Mutex<HashMap<Option<Duration>, SharedHttpConnector>>,
}

impl Client {
    /// Trusts the certificates that the system trusts.
    pub(crate) fn new() -> Result<Self, lambda_runtime::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            tracing::warn!("this system has no certificates to trust: no https connection will be made");
        }
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls, connectors: Mutex::default() })
    }

    pub(crate) fn connector(&self, connect_timeout: Option<Duration>) -> SharedHttpConnector {
        let make = || {
            let mut tcp = legacy::connect::HttpConnector::new();
            tcp.set_nodelay(true);
            tcp.enforce_http(false);
            tcp.set_connect_timeout(connect_timeout);
            let https = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone()).https_or_http();
            let https = https.enable_http1().wrap_connector(tcp);
            let mut builder = legacy::Client::builder(TokioExecutor::new());
            // Without a timer idle connections would stay until they are used, and found closed.
            builder.pool_timer(TokioTimer::new());
            SharedHttpConnector::new(Connections(builder.build(https)))
        };
        self.connectors.lock().entry(connect_timeout).or_insert_with(make).clone()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl HttpClient for Client {
    /// The time that an answer may take is the attempt's, which the SDK keeps itself.
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.connector(settings.connect_timeout())
    }
}

#[derive(Debug)]
struct Connections(legacy::Client<HttpsConnector<legacy::connect::HttpConnector>, SdkBody>);

impl HttpConnector for Connections {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        // The SDK gives a connection up after certain answers, so that the next attempt has another.
        let used = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || metadata(&used));
        }
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(failed)?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn metadata(used: &CaptureConnection) -> Option<ConnectionMetadata> {
    used.connection_metadata().as_ref()?;
    let used = used.clone();
    let poison = move || {
        if let Some(connected) = used.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
}

/// What the SDK is to think of an exchange that failed: whether it tries again depends on it.
fn failed(error: legacy::Error) -> ConnectorError {
    let timed_out = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    if find::<io::Error>(&error).is_some_and(timed_out) {
        return ConnectorError::timeout(error.into());
    }
    if error.is_connect() || find::<io::Error>(&error).is_some() {
        return ConnectorError::io(error.into());
    }
    match find::<hyper::Error>(&error) {
        Some(inner) if inner.is_timeout() => ConnectorError::timeout(error.into()),
        Some(inner) if inner.is_user() => ConnectorError::user(error.into()),
        Some(inner) if inner.is_closed() || inner.is_canceled() => ConnectorError::io(error.into()),
        // The other side closed the connection before it had answered.
        Some(inner) if inner.is_incomplete_message() => {
            ConnectorError::other(error.into(), Some(ErrorKind::TransientError))
        }
        _ => ConnectorError::other(error.into(), None),
    }
}

/// The first error of this type among an error and what led to it.
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source())
        .find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;

    use super::*;

    async fn call(client: &Client, url: &str) -> Result<u16, ConnectorError> {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).unwrap();
        let answer = client.connector(Some(Duration::from_secs(5))).call(request).await?;
        let status = answer.status().as_u16();
        // A connection is free for the next request when its answer has been read.
        let body = aws_smithy_types::byte_stream::ByteStream::new(answer.into_body());
        body.collect().await.map_err(|error| ConnectorError::other(error.into(), None))?;
        Ok(status)
    }

    /// Reads a request's head, and gives what was read.
    async fn read(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn a_connection_serves_one_request_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                assert!(read(&mut stream).await.starts_with("GET / HTTP/1.1\r\n"));
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        });
        let client = Client::new().unwrap();
        for _ in 0..2 {
            assert_eq!(call(&client, &url).await.unwrap(), 200);
        }
        server.await.unwrap();
    }

    #[tokio::test]
    async fn what_failed_on_the_way_may_be_tried_again() {
        let client = Client::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read(&mut stream).await;
            drop(stream);
            // The next one speaks no TLS.
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 1];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            hello
        });
        let unanswered = call(&client, &format!("http://{address}/")).await.unwrap_err();
        assert!(
            unanswered.is_io() || unanswered.as_other() == Some(ErrorKind::TransientError),
            "{unanswered:?}"
        );
        let insecure = call(&client, &format!("https://{address}/")).await.unwrap_err();
        assert!(insecure.is_io(), "{insecure:?}");
        assert_eq!(server.await.unwrap(), [22], "a handshake, and nothing of the request");
        let nobody = call(&client, &format!("http://{address}/")).await.unwrap_err();
        assert!(nobody.is_io(), "{nobody:?}");
    }
}
