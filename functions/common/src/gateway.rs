//! What API Gateway sends and expects (its REST APIs, the proxy integration), as requests and answers of HTTP.
//!
//! `lambda_http` would do it for every kind of gateway and every character set, whose tables are a fortieth of the program.

use aws_lambda_events::apigw::ApiGatewayProxyRequest;
use aws_lambda_events::apigw::ApiGatewayProxyResponse;
use aws_smithy_types::base64;
use axum::body::Body;
use axum::http::Request;
use axum::http::response::Parts;
use lambda_runtime::Error;
use serde_json::Value;

/// The request in an event. Its path is the API's own, without the stage: how the stack is reached is not the API's matter.
pub(crate) fn request(event: Value) -> Result<Request<Body>, Error> {
    let event: ApiGatewayProxyRequest = serde_json::from_value(event)?;
    let mut uri = escaped(&event.path.unwrap_or_else(|| "/".to_owned()));
    let many = &event.multi_value_query_string_parameters;
    let given = if many.is_empty() { &event.query_string_parameters } else { many };
    if !given.is_empty() {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given.iter()).finish();
        uri = format!("{uri}?{query}");
    }
    let body = event.body.unwrap_or_default();
    let body = if event.is_base64_encoded { base64::decode(body)?.into() } else { body.into() };
    let mut request = Request::builder().method(event.http_method).uri(uri).body(body)?;
    // Each header of the one stands in the other too, where it stands once.
    let many = event.multi_value_headers;
    *request.headers_mut() = if many.is_empty() { event.headers } else { many };
    Ok(request)
}

/// A path with every byte that cannot stand in one escaped. What is escaped already stays as it is.
fn escaped(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::with_capacity(path.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"%/-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// An answer whose body is a text.
pub(crate) fn answer(parts: Parts, body: String) -> Result<Value, Error> {
    let mut answer = ApiGatewayProxyResponse::default();
    answer.status_code = parts.status.as_u16().into();
    // API Gateway merges both lists of headers; one is enough.
    answer.multi_value_headers = parts.headers;
    answer.body = Some(body.into());
    Ok(serde_json::to_value(answer)?)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::Method;
    use axum::response::Response;
    use serde_json::json;

    use super::*;

    async fn read(request: Request<Body>) -> Vec<u8> {
        to_bytes(request.into_body(), usize::MAX).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_request_arrives_as_it_was_sent() {
        let sent = request(json!({
            "resource": "/{proxy+}", "path": "/api/v1/workflow-runs/a%2Fb/ü x", "httpMethod": "PUT",
            "headers": {"X-Two": "2", "Content-Type": "application/json"},
            "multiValueHeaders": {"X-Two": ["1", "2"], "Content-Type": ["application/json"]},
            "queryStringParameters": {"status": "B&C", "q": "1"},
            "multiValueQueryStringParameters": {"status": ["A", "B&C"], "q": ["1"]},
            "pathParameters": {"proxy": "x"}, "stageVariables": null,
            "requestContext": {"stage": "v1", "path": "/v1/api", "identity": {}, "httpMethod": "PUT"},
            "body": "{\"a\": \"ü\"}", "isBase64Encoded": false
        }))
        .unwrap();
        assert_eq!(sent.method(), Method::PUT);
        assert_eq!(sent.uri().path(), "/api/v1/workflow-runs/a%2Fb/%C3%BC%20x");
        let mut query: Vec<&str> = sent.uri().query().unwrap().split('&').collect();
        query.sort_unstable();
        assert_eq!(query, ["q=1", "status=A", "status=B%26C"]);
        let twice: Vec<_> = sent.headers().get_all("x-two").iter().collect();
        assert_eq!(twice, ["1", "2"]);
        assert_eq!(sent.headers()["content-type"], "application/json");
        assert_eq!(read(sent).await, "{\"a\": \"ü\"}".as_bytes());
    }

    #[tokio::test]
    async fn bytes_arrive_as_bytes_and_what_is_missing_is_empty() {
        let bare = json!({"httpMethod": "POST", "path": "/", "requestContext": {"httpMethod": "POST"}, "headers": null, "multiValueHeaders": null,
            "queryStringParameters": null, "multiValueQueryStringParameters": null, "body": null, "isBase64Encoded": false});
        let mut bytes = bare.clone();
        bytes["body"] = "/wD+".into();
        bytes["isBase64Encoded"] = true.into();
        let mut broken = bytes.clone();
        broken["body"] = "?".into();
        let bare = request(bare).unwrap();
        assert!(bare.uri().query().is_none() && bare.headers().is_empty());
        assert_eq!(read(bare).await, b"");
        assert_eq!(read(request(bytes).unwrap()).await, [0xff, 0, 0xfe]);
        assert!(request(broken).is_err());
        assert!(request(json!({"Records": []})).is_err());
    }

    #[test]
    fn an_answer_has_its_headers_once() {
        let response =
            Response::builder().status(409).header("x-a", "1").header("x-a", "2").body(()).unwrap();
        let wanted = json!({"statusCode": 409, "headers": {}, "multiValueHeaders": {"x-a": ["1", "2"]},
            "body": "{}", "isBase64Encoded": false});
        assert_eq!(answer(response.into_parts().0, "{}".to_owned()).unwrap(), wanted);
    }
}
