//! From requests to typed values; whatever does not fit is an [`Error`], never plain text.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::BodyExt;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use serde::de::DeserializeOwned;

use crate::Error;

/// A request's body may have so many bytes. Larger data belongs into a file that an agent reads.
pub const BODY_LIMIT: usize = 8 << 20;

/// The segments of the path, in order.
pub(crate) struct Segments<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Error::new(StatusCode::NOT_FOUND, "UNKNOWN_PATH", rejection.body_text())),
        }
    }
}

/// What stands behind `?`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                Err(Error::new(StatusCode::BAD_REQUEST, "QUERY_INVALID", rejection.body_text()))
            }
        }
    }
}

/// A JSON body. An empty one is `{}`.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let kind = Kind::of(request.headers());
        let bytes = read(request, BODY_LIMIT).await?;
        if bytes.is_empty() {
            return decode(b"{}").map(Self);
        }
        if kind != Kind::Json {
            return Err(content_type("application/json"));
        }
        decode(&bytes).map(Self)
    }
}

/// A workflow's source: JSON or YAML.
pub(crate) struct Source {
    pub(crate) text: String,
    /// A name by which the parser knows the format.
    pub(crate) file: &'static str,
}

impl<S: Send + Sync> FromRequest<S> for Source {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let kind = Kind::of(request.headers());
        let bytes = read(request, BODY_LIMIT).await?;
        let file = match kind {
            Kind::Json => "request.workflow.json",
            Kind::Yaml => "request.workflow.yaml",
            Kind::Text | Kind::Other => return Err(content_type("application/json or application/yaml")),
        };
        Ok(Self { text: text(bytes)?, file })
    }
}

/// An agent's source: JSON or YAML, or a prompt as plain text. Its file's name lacks the agent's.
pub(crate) struct AgentSource(pub(crate) Source);

impl<S: Send + Sync> FromRequest<S> for AgentSource {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let kind = Kind::of(request.headers());
        let bytes = read(request, BODY_LIMIT).await?;
        let file = match kind {
            Kind::Json => ".agent.json",
            Kind::Yaml => ".agent.yaml",
            Kind::Text => ".prompt",
            Kind::Other => {
                return Err(content_type("application/json, application/yaml, or text/plain for a prompt"));
            }
        };
        Ok(Self(Source { text: text(bytes)?, file }))
    }
}

fn text(bytes: Bytes) -> Result<String, Error> {
    String::from_utf8(bytes.into()).map_err(|_| {
        Error::new(StatusCode::BAD_REQUEST, "BODY_NOT_JSON", "the request's body is no UTF-8 text")
    })
}

/// Whether a body is said to be JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    Kind::of(headers) == Kind::Json
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Yaml,
    Text,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let value =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = value.split(';').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("application/json") {
            return Self::Json;
        }
        if name.eq_ignore_ascii_case("text/plain") {
            return Self::Text;
        }
        let yaml = ["application/yaml", "application/x-yaml", "text/yaml"];
        if yaml.iter().any(|yaml| name.eq_ignore_ascii_case(yaml)) { Self::Yaml } else { Self::Other }
    }
}

pub(crate) fn content_type(expected: &str) -> Error {
    Error::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "CONTENT_TYPE",
        "the request's body is not said to be JSON",
    )
    .hint(format!("send the header Content-Type: {expected}"))
}

/// The whole body, if it has no more than `limit` bytes.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, Error> {
    let too_large = || {
        Error::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BODY_TOO_LARGE",
            format!("the request's body has more than {limit} bytes"),
        )
        .hint("hand large data over in a file that an agent reads")
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Err(error) => Err(Error::new(
            StatusCode::BAD_REQUEST,
            "BODY_UNREADABLE",
            format!("the request's body broke off: {error}"),
        )),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            Error::new(StatusCode::UNPROCESSABLE_ENTITY, "BODY_INVALID", error.to_string())
        } else {
            Error::new(
                StatusCode::BAD_REQUEST,
                "BODY_NOT_JSON",
                format!("the request's body is no JSON: {error}"),
            )
        }
    })
}

/// The header by which a repeated start is known, if it is there.
pub(crate) struct IdempotencyKey(pub(crate) Option<Arc<str>>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let text = value.to_str().ok().map(str::trim).filter(|text| !text.is_empty() && text.len() <= 255);
        text.map(|text| Self(Some(text.into()))).ok_or_else(|| {
            let message = "the header Idempotency-Key must hold 1 to 255 visible ASCII characters";
            Error::new(StatusCode::BAD_REQUEST, "HEADER_INVALID", message)
        })
    }
}
