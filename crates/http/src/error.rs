//! What is wrong with a request: a status and a JSON document with a stable code.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use expression::Value;
use serde::Serialize;

/// The codes of this crate, each with a line of what it means; their pages stand in `docs/errors`. The codes of the
/// runtime, the store and the language pass through as they are.
pub const CODES: &[(&str, &str)] = &[
    ("NOT_LOOPBACK", "the server was told to listen on an address that others can reach"),
    ("ADDRESS_UNAVAILABLE", "the server cannot listen on the address it was given"),
    ("HOST_NOT_ALLOWED", "the request's Host header names something other than this machine"),
    ("ORIGIN_NOT_ALLOWED", "the request was sent by a web page of another origin"),
    ("UNKNOWN_PATH", "there is nothing at this path"),
    ("METHOD_NOT_ALLOWED", "the path exists, but not with this method"),
    ("CONTENT_TYPE", "the request's body is not said to be JSON"),
    ("BODY_TOO_LARGE", "the request's body is larger than allowed"),
    ("ANSWER_TOO_LARGE", "the answer is larger than its home can give"),
    ("BODY_UNREADABLE", "the request's body broke off"),
    ("BODY_NOT_JSON", "the request's body is no JSON"),
    ("BODY_INVALID", "the request's body has an unknown, missing or wrong field"),
    ("QUERY_INVALID", "a parameter behind `?` is unknown or wrong"),
    ("HEADER_INVALID", "a header has a value that is not allowed"),
    ("NO_PROJECT_SERVED", "the server was started without a project, so there is nothing to sync"),
    ("WEBHOOK_NOT_FOUND", "there is no webhook at this path"),
    ("WEBHOOK_SIGNATURE", "a webhook's request is not signed, or not rightly"),
    ("WEBHOOK_TIMESTAMP", "a webhook's request was signed too long ago, or in the future"),
    ("WEBHOOK_NO_SECRET", "a webhook's secret cannot be had, so nothing can be received"),
    ("AGENT_NOT_REMOTE", "an agent of this kind cannot be registered over this home's API"),
    ("STEP_TOO_LONG", "a step's or an agent's timeout is longer than this home can hold an attempt"),
    ("TOO_MANY_WAITING", "more requests wait for runs than the server holds"),
    ("SHUTTING_DOWN", "the server is about to end"),
    ("RESULT_NOT_JSON", "a result cannot be written as JSON"),
];

/// An error as the API answers it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code; its page is `docs/errors/CODE.md`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// More, by code.
    pub details: Option<Value>,
}

/// The document of an error.
#[derive(Serialize)]
struct Document<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

impl Error {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), hint: None, details: None }
    }

    /// An error of the server's own doing.
    pub fn internal(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let document = Document {
            code: &self.code,
            message: &self.message,
            hint: self.hint.as_deref(),
            details: self.details.as_ref(),
        };
        let mut response = json(self.status, &document);
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response {
    let (status, body) = match serde_json::to_vec(document) {
        Ok(body) => (status, body),
        // Only a number beyond 128 bits cannot be written.
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(r#"{{"code":"RESULT_NOT_JSON","message":{}}}"#, Value::from(error.to_string()))
                .into_bytes(),
        ),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
