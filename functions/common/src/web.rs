//! Requests of API Gateway, answered by the one API of all homes.

use axum::body::Body;
use axum::body::to_bytes;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use http_api::Api;

use crate::Function;

/// Lambda takes 6 MB from a function, in which an answer's body is a JSON text; some of it is for the headers.
const LONGEST_ANSWER: usize = (6 << 20) - (64 << 10);

/// Answers a request, if it is one of the function's own. API Gateway sends it no other, and its role could do no more.
pub(crate) async fn answer(api: &Api, function: Function, request: Request<Body>) -> Response {
    if !is_for(function, request.method(), request.uri().path()) {
        let message = format!("the function {} does not answer this path", function.name());
        return error(StatusCode::NOT_FOUND, "PATH_NOT_FOUND", &message);
    }
    whole(api.call(request).await).await
}

/// The answer, if it can be given. One that is too large would be lost, and nobody told why.
async fn whole(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let problem = match to_bytes(body, 2 * LONGEST_ANSWER).await {
        Ok(bytes) if as_json_text(&bytes) <= LONGEST_ANSWER => {
            return Response::from_parts(parts, Body::from(bytes));
        }
        Ok(bytes) => format!("has {} bytes as a JSON text", as_json_text(&bytes)),
        Err(_) => format!("has more than {} bytes", 2 * LONGEST_ANSWER),
    };
    let message = format!(
        "the answer {problem}, and a Lambda function can give {LONGEST_ANSWER}: lists have a `limit`, a run's values stand also in its events"
    );
    error(StatusCode::PAYLOAD_TOO_LARGE, "ANSWER_TOO_LARGE", &message)
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

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let mut response =
        Response::new(Body::from(serde_json::json!({"code": code, "message": message}).to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}

/// Which requests a function answers: what template.yaml routes to it.
fn is_for(function: Function, method: &Method, path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').split('/');
    let parts: [Option<&str>; 7] = std::array::from_fn(|_| parts.next());
    match function {
        Function::Api => true,
        Function::Start => {
            method == Method::POST
                && matches!(
                    parts,
                    [Some("api"), Some("v1"), Some("workflow-runs"), None, ..]
                        | [Some("hooks"), Some(_), Some(_), None, ..]
                )
        }
        Function::Approval => {
            method == Method::POST
                && matches!(
                    parts,
                    [
                        Some("api"),
                        Some("v1"),
                        Some("workflow-runs"),
                        Some(_),
                        Some("approvals"),
                        Some(_),
                        Some("approve" | "reject")
                    ]
                )
        }
        Function::Step | Function::Resume | Function::Sweep => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Lambda would refuse is an error that says so, whatever its quotes make of it; anything else is passed on as it is.
    #[tokio::test]
    async fn an_answer_that_is_too_large_is_said_to_be() {
        for (body, status) in [
            ("a".repeat(LONGEST_ANSWER), StatusCode::OK),
            ("a".repeat(LONGEST_ANSWER + 1), StatusCode::PAYLOAD_TOO_LARGE),
            ("\"".repeat(LONGEST_ANSWER / 2 + 1), StatusCode::PAYLOAD_TOO_LARGE),
            ("a".repeat(2 * LONGEST_ANSWER + 1), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let answer = whole(Response::new(Body::from(body.clone()))).await;
            assert_eq!(answer.status(), status);
            let given = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            assert_eq!(given == body.as_bytes(), status == StatusCode::OK);
        }
    }

    #[test]
    fn a_function_answers_its_own_paths() {
        let approve = "/api/v1/workflow-runs/r%2F1/approvals/a1/approve";
        for (function, method, path, answers) in [
            (Function::Start, Method::POST, "/api/v1/workflow-runs", true),
            (Function::Start, Method::POST, "/hooks/triage/pager", true),
            (Function::Start, Method::GET, "/api/v1/workflow-runs", false),
            (Function::Start, Method::POST, "/api/v1/workflow-runs/r/cancel", false),
            (Function::Start, Method::POST, "/hooks/triage", false),
            (Function::Start, Method::POST, approve, false),
            (Function::Approval, Method::POST, approve, true),
            (Function::Approval, Method::POST, "/api/v1/workflow-runs/r/approvals/a1/reject", true),
            (Function::Approval, Method::GET, approve, false),
            (Function::Approval, Method::POST, "/api/v1/workflow-runs/r/approvals/a1", false),
            (Function::Api, Method::DELETE, "/api/v1/workflows/w", true),
            (Function::Sweep, Method::POST, "/api/v1/workflow-runs", false),
        ] {
            assert_eq!(is_for(function, &method, path), answers, "{function:?} {method} {path}");
        }
    }
}
