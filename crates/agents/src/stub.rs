//! Agents that answer what their file says.

use engine::Error;
use expression::Value;
use model::agent::Answer;
use model::agent::Static;
use runtime::ports::CallError;

use crate::error::Code;
use crate::error::validation;
use crate::output;

/// Whether `value` holds at least what `pattern` holds: objects by key, everything else equal.
pub fn matches(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::Object(pattern), Value::Object(value)) => {
            pattern.iter().all(|(key, pattern)| value.get(key).is_some_and(|value| matches(pattern, value)))
        }
        _ => pattern == value,
    }
}

/// Answers. `request` holds `task`, `input` and `variables`.
pub(crate) async fn perform(
    name: &str,
    stub: &Static,
    request: &Value,
    has_schema: bool,
) -> Result<Value, CallError> {
    if let Some(delay) = stub.delay {
        tokio::time::sleep(std::time::Duration::from_millis(delay.0)).await;
    }
    let case = stub.cases.iter().find(|case| matches(&case.matches, request));
    match case.map(|case| &case.answer).or(stub.otherwise.as_ref()) {
        Some(Answer::Output(value)) => Ok(output::from_value(value, has_schema)),
        Some(Answer::Error { kind, message }) => {
            let error = Error::new(kind.clone(), message.clone());
            Err(CallError { error, definite: true, retry_after: None })
        }
        None => {
            let message = format!(
                "the static agent `{name}` has no case for this request, and no `output` for all others: {}",
                crate::error::head(&request.to_string(), 300)
            );
            Err(validation(Code::StaticNoCase, message))
        }
    }
}
