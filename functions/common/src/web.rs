//! Requests of API Gateway, answered by the one API of all homes.

use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::Response;
use http_api::Api;

use crate::Function;

/// Answers a request, if it is one of the function's own. API Gateway sends it no other, and its role could do no more.
pub(crate) async fn answer(api: &Api, function: Function, request: Request<Body>) -> Response {
    if !is_for(function, request.method(), request.uri().path()) {
        let body = format!(
            r#"{{"code":"PATH_NOT_FOUND","message":"the function {} does not answer this path"}}"#,
            function.name()
        );
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    api.call(request).await
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
