//! Requests of API Gateway, answered by the one API of all homes, or by the part of it that is the function's own.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use lambda_runtime::Error;
use runtime::Runtime;
use serde_json::Value;

use crate::Configuration;
use crate::Function;
use crate::Invocation;
use crate::gateway;

/// Lambda takes 6 MB from a function, in which an answer's body is a JSON text; some of it is for the headers.
const LONGEST_ANSWER: usize = (6 << 20) - (64 << 10);
/// API Gateway waits for an answer no longer than 29 seconds.
const LONGEST_WAIT_SECONDS: u64 = 25;

/// Records people's decisions.
pub struct Approval(http_api::Api);

impl Function for Approval {
    const NAME: &'static str = "approval";

    fn new(runtime: Runtime, configuration: &Configuration) -> Self {
        Self(http_api::Api::of_decisions(runtime).with_home(home(configuration)))
    }

    async fn answer(&self, payload: Value, _: Invocation) -> Result<Value, Error> {
        answer(&self.0, payload).await
    }
}

/// The whole API. Gateways send it what no other function answers.
pub struct Api(http_api::Api);

impl Function for Api {
    const NAME: &'static str = "api";

    fn new(runtime: Runtime, configuration: &Configuration) -> Self {
        Self(http_api::Api::new(runtime).with_home(home(configuration)).with_secrets(secrets()))
    }

    async fn answer(&self, payload: Value, _: Invocation) -> Result<Value, Error> {
        answer(&self.0, payload).await
    }
}

/// What this home can hold.
pub(crate) fn home(configuration: &Configuration) -> http_api::Home {
    http_api::Home::serverless(configuration.longest_step.as_secs(), LONGEST_WAIT_SECONDS)
}

/// The secrets by which webhooks are signed.
pub(crate) fn secrets() -> Arc<agents::Secrets> {
    Arc::new(agents::Secrets::new("/tmp"))
}

/// Answers a request of API Gateway.
pub(crate) async fn answer(api: &http_api::Api, payload: Value) -> Result<Value, Error> {
    whole(api.call(gateway::request(payload)?).await).await
}

/// The answer, if Lambda takes it. What is too large would be lost, and nobody told why.
async fn whole(response: Response) -> Result<Value, Error> {
    let (mut parts, body) = response.into_parts();
    let problem = match to_bytes(body, 2 * LONGEST_ANSWER).await {
        Ok(bytes) if as_json_text(&bytes) <= LONGEST_ANSWER => {
            return gateway::answer(parts, String::from_utf8(bytes.into())?);
        }
        Ok(bytes) => format!("has {} bytes as a JSON text", as_json_text(&bytes)),
        Err(_) => format!("has more than {} bytes", 2 * LONGEST_ANSWER),
    };
    let message = format!(
        "the answer {problem}, and a Lambda function can give {LONGEST_ANSWER}: lists have a `limit`, a run's values stand also in its events"
    );
    parts.status = StatusCode::PAYLOAD_TOO_LARGE;
    parts.headers.clear();
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    gateway::answer(parts, serde_json::json!({"code": "ANSWER_TOO_LARGE", "message": message}).to_string())
}

/// How many bytes a text has inside a JSON text.
fn as_json_text(bytes: &[u8]) -> usize {
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    bytes.iter().map(escaped).sum()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use runtime::SystemClock;
    use runtime::memory;
    use serde_json::json;

    use super::*;
    use crate::Start;
    use crate::home;

    /// What Lambda would refuse is an error that says so, whatever its quotes make of it; anything else is passed on as it is.
    #[tokio::test]
    async fn an_answer_that_is_too_large_is_said_to_be() {
        for (body, status) in [
            ("a".repeat(LONGEST_ANSWER), 200),
            ("a".repeat(LONGEST_ANSWER + 1), 413),
            ("\"".repeat(LONGEST_ANSWER / 2 + 1), 413),
            ("a".repeat(2 * LONGEST_ANSWER + 1), 413),
        ] {
            let answer = whole(Response::new(Body::from(body.clone()))).await.unwrap();
            assert_eq!(answer["statusCode"], status);
            assert_eq!(answer["body"] == body, status == 200);
        }
    }

    /// How a function answers a request: by the code of the error, if it is one.
    async fn code<F: Function>(method: &str, path: &str) -> String {
        let configuration = Configuration::of_nothing();
        let doorbell = Arc::new(memory::Doorbell::new(Arc::new(SystemClock)));
        let function = F::new(home::in_memory::<F>(&configuration, doorbell), &configuration);
        let event = json!({"httpMethod": method, "path": path, "requestContext": {"httpMethod": method}, "body": "{}",
            "headers": {"content-type": "application/json"}});
        let invocation = Invocation { remaining: std::time::Duration::from_mins(1) };
        let answer = function.answer(event, invocation).await.unwrap();
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_function_answers_its_own_paths() {
        const RUNS: &str = "/api/v1/workflow-runs";
        let of_a_run = |rest: &str| format!("{RUNS}/r%2F1/{rest}");
        let mut answers = Vec::new();
        for (method, path) in [
            ("POST", RUNS.to_owned()),
            ("POST", "/hooks/triage/pager".to_owned()),
            ("POST", of_a_run("approvals/a1/approve")),
            ("POST", of_a_run("approvals/a1/reject")),
            ("GET", RUNS.to_owned()),
            ("POST", of_a_run("cancel")),
            ("POST", of_a_run("approvals/a1")),
            ("DELETE", "/api/v1/workflows/w".to_owned()),
            ("GET", "/health".to_owned()),
        ] {
            let answers_it = |code: String| !matches!(&*code, "UNKNOWN_PATH" | "METHOD_NOT_ALLOWED");
            answers.push((
                answers_it(code::<Start>(method, &path).await),
                answers_it(code::<Approval>(method, &path).await),
                answers_it(code::<Api>(method, &path).await),
            ));
        }
        let (start, decide) = ((true, false, true), (false, true, true));
        let (read, nobody) = ((false, false, true), (false, false, false));
        assert_eq!(answers, [start, start, decide, decide, read, read, nobody, read, read]);
    }
}
