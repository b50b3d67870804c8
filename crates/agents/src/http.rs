//! HTTP: agents behind an endpoint, and the action `http.call`.

use expression::Object;
use expression::Value;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::Uri;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use model::agent::Kind;
use runtime::ports::Call;
use runtime::ports::CallError;

use crate::actions::Actions;
use crate::error::Code;
use crate::error::validation;
use crate::registry::Entry;
use crate::request::envelope;
use crate::secret::Redactor;
use crate::secret::percent_encoded;
use crate::template::Templates;

mod answer;
mod client;

use client::Answer;
pub(crate) use client::Client;
use client::Limits;
use client::Request;
use client::Transport;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PRODUCT: HeaderValue = HeaderValue::from_static(concat!("stepwell/", env!("CARGO_PKG_VERSION")));
/// What `http.call` takes at most as an answer's body: 1 MiB, as agents do unless their file says otherwise.
const CALL_LIMIT: u64 = model::agent::DEFAULT_OUTPUT_LIMIT;

/// Asks the agent's endpoint and answers with the text it gave.
pub(crate) async fn agent(
    actions: &Actions,
    agent: &Entry,
    request: &Value,
    input: &Value,
    call: &Call,
    redactor: &mut Redactor,
) -> Result<String, CallError> {
    let name = &*agent.agent.name;
    let Kind::Http(endpoint) = &agent.agent.kind else { return Ok(String::new()) };
    let templates = Templates::new(name, request, input, &actions.secrets);
    let url = templates.text(&endpoint.url, "url", redactor).await?;
    let mut headers = HeaderMap::with_capacity(endpoint.headers.len() + 6);
    for (header, template) in &endpoint.headers {
        let text = templates.text(template, header, redactor).await?;
        add_header(&mut headers, header, &text)?;
    }
    let body = match &endpoint.body {
        Some(tree) => templates.value(tree, "body", redactor).await?,
        None => envelope(name, request, input, call),
    };
    let method = method(&endpoint.method)?;
    let body = body_of(&body, &mut headers);
    complete(&mut headers, call)?;

    let transport = Transport {
        ca_file: endpoint.ca_file.as_ref().map(|file| agent.directory.join(file)),
        connect_timeout: endpoint.connect_timeout.map(|limit| std::time::Duration::from_millis(limit.0)),
    };
    let limits =
        Limits { time: call.timeout, bytes: endpoint.output_limit, redirects: endpoint.follow_redirects };
    let request = Request { method, uri: uri(&url)?, headers, body };
    let whom = format!("agent `{name}`");
    let answer = actions.http.exchange(&transport, &request, &limits, &whom).await?;
    if !answer::is_expected(answer.status, &endpoint.expect) {
        return Err(answer::unexpected(&answer, &request, &whom, redactor));
    }
    answer.text(&whom)
}

/// `http.call`: `method`, `url`, `headers`, `query`, `body`, `expect`; answers with `{status, headers, body}`.
pub(crate) async fn call(
    client: &Client,
    request: &Value,
    call: &Call,
    redactor: &Redactor,
) -> Result<Value, CallError> {
    let given = |key: &str| request.get(key).filter(|value| !value.is_null());
    let method = method(given("method").map_or(Ok("GET"), |value| text_of("method", value))?)?;
    let url = given("url").ok_or_else(|| invalid("`http.call` needs a `url`"))?;
    let url = with_query(text_of("url", url)?, given("query"))?;
    let expect = given("expect").map(expected_statuses).transpose()?.unwrap_or_default();
    let mut headers = HeaderMap::new();
    if let Some(fields) = given("headers") {
        let fields =
            fields.as_object().ok_or_else(|| invalid("the `headers` of `http.call` are an object"))?;
        for (name, value) in fields {
            if let Some(text) =
                scalar(value).ok_or_else(|| invalid(format!("the header `{name}` is no text")))?
            {
                add_header(&mut headers, name, &text)?;
            }
        }
    }
    let body = given("body").map(|body| body_of(body, &mut headers)).unwrap_or_default();
    complete(&mut headers, call)?;

    let request = Request { method, uri: uri(&url)?, headers, body };
    let limits = Limits { time: call.timeout, bytes: CALL_LIMIT, redirects: true };
    let whom = "`http.call`";
    let answer = client.exchange(&Transport::default(), &request, &limits, whom).await?;
    if !answer::is_expected(answer.status, &expect) {
        return Err(answer::unexpected(&answer, &request, whom, redactor));
    }
    output(&answer, whom)
}

/// `{status, headers, body}`: header names in lower case, a JSON body as its value, any other as text.
fn output(answer: &Answer, whom: &str) -> Result<Value, CallError> {
    let text = answer.text(whom)?;
    let body = match Value::parse_json(&text) {
        _ if !answer.is_json() => Value::from(text),
        Ok(value) => value,
        Err(_) if text.trim().is_empty() => Value::Null,
        // What says it is JSON and is not is still what was answered.
        Err(_) => Value::from(text),
    };
    let mut headers = Object::new();
    for name in answer.headers.keys() {
        let values: Vec<_> = answer
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        headers.insert(name.as_str(), values.join(", "));
    }
    let mut output = Object::with_capacity(3);
    output.insert("status", answer.status.as_u16());
    output.insert("headers", headers);
    output.insert("body", body);
    Ok(Value::from(output))
}

/// The statuses of `expect`: one or a list of numbers or classes (`404`, `"2xx"`).
fn expected_statuses(expect: &Value) -> Result<Vec<u16>, CallError> {
    let wrong =
        || invalid(format!("`expect` is a status or a list of them (`200`, `\"2xx\"`), not {expect}"));
    let items = expect.as_array().unwrap_or(std::slice::from_ref(expect));
    let mut statuses = Vec::new();
    for item in items {
        match (item, item.as_str().and_then(|class| class.strip_suffix("xx"))) {
            (_, Some(class)) => {
                let class: u16 =
                    class.parse().ok().filter(|class| (1..=5).contains(class)).ok_or_else(wrong)?;
                statuses.extend(class * 100..class * 100 + 100);
            }
            (Value::Int(status), _) => statuses.push(u16::try_from(*status).map_err(|_| wrong())?),
            (Value::String(status), _) => statuses.push(status.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
    }
    Ok(statuses)
}

fn with_query(url: &str, query: Option<&Value>) -> Result<String, CallError> {
    let Some(query) = query else { return Ok(url.to_owned()) };
    let query = query.as_object().ok_or_else(|| invalid("the `query` of `http.call` is an object"))?;
    let mut pairs = Vec::new();
    for (key, value) in query {
        for value in value.as_array().unwrap_or(std::slice::from_ref(value)) {
            if let Some(text) = scalar(value).ok_or_else(|| invalid(format!("`query.{key}` is no text")))? {
                pairs.push(format!("{}={}", percent_encoded(key), percent_encoded(&text)));
            }
        }
    }
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let separator = match (pairs.is_empty(), url.contains('?')) {
        (true, _) => "",
        (false, true) => "&",
        (false, false) => "?",
    };
    let hash = if fragment.is_empty() { "" } else { "#" };
    Ok(format!("{url}{separator}{}{hash}{fragment}", pairs.join("&")))
}

/// A string, number or boolean as text; `Some(None)` for null; `None` for what has no text.
#[allow(clippy::option_option)]
fn scalar(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.to_string())),
        Value::Array(_) | Value::Object(_) => None,
        plain => Some(Some(plain.to_string())),
    }
}

/// A string as it is, anything else as JSON.
fn body_of(body: &Value, headers: &mut HeaderMap) -> bytes::Bytes {
    let (content_type, text) = match body {
        Value::String(text) => (PLAIN_TEXT, text.to_string()),
        other => (JSON, other.to_string()),
    };
    headers.entry(header::CONTENT_TYPE).or_insert(content_type);
    text.into()
}

/// The headers that every request has, where none was given.
fn complete(headers: &mut HeaderMap, call: &Call) -> Result<(), CallError> {
    let key = HeaderValue::from_str(&call.idempotency_key);
    let key = key.map_err(|_| invalid("the idempotency key holds characters that no header may hold"))?;
    headers.entry(IDEMPOTENCY_KEY).or_insert(key);
    headers.entry(header::ACCEPT).or_insert(JSON);
    headers.entry(header::USER_AGENT).or_insert(PRODUCT);
    Ok(())
}

fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), CallError> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| invalid(format!("`{name}` is no name of a header")))?;
    if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE]
        .contains(&parsed)
    {
        return Err(invalid(format!("the header `{name}` is made by the connection and cannot be given")));
    }
    let value = HeaderValue::from_str(value.trim());
    let value = value
        .map_err(|_| invalid(format!("the header `{name}` holds characters that no header may hold")))?;
    headers.append(parsed, value);
    Ok(())
}

fn method(text: &str) -> Result<Method, CallError> {
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok();
    let method = method.filter(|method| *method != Method::CONNECT);
    method.ok_or_else(|| invalid(format!("`{text}` is no method of HTTP")))
}

fn uri(url: &str) -> Result<Uri, CallError> {
    let wrong = |why: &str| invalid(format!("the URL `{url}` cannot be used: {why}"));
    // A fragment is for browsers; it is never sent.
    let sent = url.split('#').next().unwrap_or_default().trim();
    let uri: Uri =
        sent.parse().map_err(|_| wrong("percent-encode spaces and what is not ASCII, or use `query`"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it begins with http:// or https://"));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(wrong("a user name does not stand in it; give the header `Authorization`"))
        }
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err(wrong("it names no host")),
    }
}

fn text_of<'v>(field: &str, value: &'v Value) -> Result<&'v str, CallError> {
    value.as_str().ok_or_else(|| invalid(format!("`{field}` of `http.call` is a text, not {}", value.kind())))
}

fn invalid(message: impl Into<String>) -> CallError {
    validation(Code::HttpRequestInvalid, message)
}

/// Whether a status is one that says it went well, where none was named.
fn is_success(status: StatusCode) -> bool {
    status.is_success()
}
