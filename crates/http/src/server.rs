//! Accepts connections on this machine and serves them until told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Api;
use crate::Error;
use crate::guard;

/// Connections at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// A connection that says nothing for so long is closed, also between requests.
const HEADER_TIMEOUT: Duration = Duration::from_mins(1);
/// After the wish to stop, requests have so long to be answered.
const GRACE: Duration = Duration::from_secs(5);

/// Listens on an address of this machine; port 0 takes a free one. Any other address is refused.
pub async fn bind(address: &str) -> Result<TcpListener, Error> {
    let unavailable = |why: String| {
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ADDRESS_UNAVAILABLE",
            format!("cannot listen on `{address}`: {why}"),
        )
    };
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| {
            unavailable(error.to_string()).hint("write it like 127.0.0.1:7878; port 0 takes a free one")
        })?
        .collect();
    if let Some(reachable) = resolved.iter().find(|address| !address.ip().is_loopback()) {
        return Err(Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "NOT_LOOPBACK",
            format!(
                "`{reachable}` can be reached from other machines, and the API has no authentication yet"
            ),
        )
        .hint("listen on 127.0.0.1 or [::1], and let a proxy that authenticates stand in front"));
    }
    TcpListener::bind(resolved.as_slice()).await.map_err(|error| {
        unavailable(error.to_string()).hint("another program may use this port; port 0 takes a free one")
    })
}

/// Serves the API until `shutdown` resolves; then answers what it has begun and returns.
pub async fn serve(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()> + Send) {
    let (stop, stopping) = watch::channel(false);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
            // Reaps those that ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        let Some((stream, permit)) = accepted else { continue };
        let connection = connection(stream, api.clone(), stopping.clone());
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    api.stop_waiting();
    let _ = stop.send(true);
    let drained =
        tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::info!(open = connections.len(), "connections were cut at the end of the grace period");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and awaited: they must not stand in the sender's buffer.
            let _ = stream.set_nodelay(true);
            Some((stream, permit))
        }
        Err(error) => {
            // Out of file descriptors, or a client that went away: try again, not at full speed.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, api: Api, mut stopping: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(answer(&api, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Waits until it is true. The guard of the value must not live on: it cannot cross threads.
pub(crate) async fn told(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}

async fn answer(api: &Api, request: Request<Incoming>) -> Response {
    // What is signed comes from no browser, and mostly through a proxy that keeps the name by which it is known.
    let signed = request.uri().path().starts_with("/hooks/");
    if !signed && let Err(error) = guard::check(request.method(), request.uri(), request.headers()) {
        return error.into_response();
    }
    api.call(request.map(Body::new)).await
}
