//! The way to a service: counts what changes something.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_sdk_dynamodb::config::http::HttpRequest;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::servers;

/// One process's way to its services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire {
    written: Arc<AtomicU64>,
}

impl Wire {
    pub(crate) fn http(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// How many requests have changed something.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
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
        if !["GET", "GetItem", "Query", "BatchGetItem"].contains(&operation) {
            self.wire.written.fetch_add(1, Ordering::Relaxed);
        }
        self.connector.call(request)
    }
}
