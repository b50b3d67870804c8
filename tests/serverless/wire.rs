//! The way to a service: counts what is sent, and lets a process die or sleep at any of its requests.

use std::sync::Arc;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_sdk_dynamodb::config::http::HttpRequest;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::servers;

/// One process's way to its services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    reached: Notify,
    awake: Notify,
}

#[derive(Debug, Default)]
struct State {
    sent: usize,
    written: u64,
    fate: Option<(usize, Fate)>,
}

/// What befalls a process at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It dies, and the request was not sent.
    DiesBefore,
    /// It dies when the request was done.
    DiesAfter,
    /// It sleeps before the request is sent, until it is woken.
    Sleeps,
    /// It sleeps too, and dies when the request was done.
    SleepsAndDies,
}

impl Wire {
    pub(crate) fn http(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// How many requests were sent.
    pub(crate) fn sent(&self) -> usize {
        self.0.state.lock().sent
    }

    /// How many of them have changed something.
    pub(crate) fn written(&self) -> u64 {
        self.0.state.lock().written
    }

    /// What befalls the process at its request of this number, counted from the next, which is 0. One that dies has no answers
    /// any more.
    pub(crate) fn at(&self, request: usize, fate: Fate) {
        let mut state = self.0.state.lock();
        state.fate = Some((state.sent + request, fate));
    }

    /// It has befallen it.
    pub(crate) async fn reached(&self) {
        self.0.reached.notified().await;
    }

    pub(crate) fn wake(&self) {
        self.0.awake.notify_one();
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = servers::http().http_connector(settings, components);
        SharedHttpConnector::new(Connector { connector, wire: self.clone() })
    }
}

#[derive(Debug)]
struct Connector {
    connector: SharedHttpConnector,
    wire: Wire,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_else(|| request.method());
        let operation = target.rsplit('.').next().unwrap_or_default();
        let reads = ["GET", "GetItem", "Query", "BatchGetItem"].contains(&operation);
        let fate = {
            let mut state = self.wire.0.state.lock();
            let number = state.sent;
            state.sent += 1;
            state.written += u64::from(!reads);
            match state.fate {
                Some((at, fate)) if at == number => Some(Some(fate)),
                Some((at, fate)) if at < number && fate != Fate::Sleeps => Some(None),
                _ => None,
            }
        };
        let Some(fate) = fate else { return self.connector.call(request) };
        let (connector, inner) = (self.connector.clone(), self.wire.0.clone());
        HttpConnectorFuture::new(async move {
            if matches!(fate, Some(Fate::Sleeps | Fate::SleepsAndDies)) {
                inner.reached.notify_one();
                inner.awake.notified().await;
            }
            if fate == Some(Fate::Sleeps) {
                return connector.call(request).await;
            }
            if matches!(fate, Some(Fate::DiesAfter | Fate::SleepsAndDies)) {
                connector.call(request).await?;
            }
            if fate.is_some() {
                inner.reached.notify_one();
            }
            std::future::pending().await
        })
    }
}
