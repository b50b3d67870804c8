//! The way to the table: keeps what was sent, and loses or refuses what a test says.

use std::sync::Arc;

use aws_sdk_dynamodb::config::http::HttpRequest;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;

#[derive(Clone, Debug)]
pub(crate) struct Wire {
    client: SharedHttpClient,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<Sent>,
    /// What befalls the next requests of an operation.
    troubles: Vec<(&'static str, Trouble)>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) operation: String,
    pub(crate) body: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is done, and the answer does not arrive.
    AnswerLost,
    /// It is not done: too many.
    Throttled,
    /// A transaction is cancelled: another one is in the way.
    InTheWay,
    /// The service failed, and nobody knows when.
    Failed,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { client: aws_smithy_http_client::Builder::new().build_http(), state: Arc::default() }
    }

    /// The next request of the operation meets this; several are met one after the other.
    pub(crate) fn next(&self, operation: &'static str, trouble: Trouble) {
        self.state.lock().troubles.push((operation, trouble));
    }

    /// What was sent since it was last asked.
    pub(crate) fn forget(&self) -> Vec<Sent> {
        std::mem::take(&mut self.state.lock().sent)
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = self.client.http_connector(settings, components);
        SharedHttpConnector::new(Connector { connector, state: self.state.clone() })
    }
}

#[derive(Debug)]
struct Connector {
    connector: SharedHttpConnector,
    state: Arc<Mutex<State>>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let trouble = {
            let mut state = self.state.lock();
            let next = state.troubles.iter().position(|(of, _)| *of == operation);
            let trouble = next.map(|next| state.troubles.remove(next).1);
            state.sent.push(Sent { operation, body });
            trouble
        };
        let refused = |status: u16, body: Value| {
            let status = StatusCode::try_from(status).unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, body.to_string().into())))
        };
        let named = |name: &str| json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "a test's"});
        match trouble {
            None => self.connector.call(request),
            Some(Trouble::AnswerLost) => {
                let answer = self.connector.call(request);
                HttpConnectorFuture::new(async move {
                    answer.await?;
                    Err(ConnectorError::io("the connection was reset".into()))
                })
            }
            Some(Trouble::Throttled) => refused(400, named("ThrottlingException")),
            Some(Trouble::InTheWay) => {
                let mut cancelled = named("TransactionCanceledException");
                cancelled["CancellationReasons"] = json!([{"Code": "None"}, {"Code": "TransactionConflict"}]);
                refused(400, cancelled)
            }
            Some(Trouble::Failed) => refused(500, named("InternalServerError")),
        }
    }
}
