//! `log`: a line in the engine's own log.

use engine::error_type;
use expression::Object;
use expression::Value;
use runtime::ports::Call;
use runtime::ports::CallError;

use crate::error::Code;
use crate::error::failure;

/// Writes `message` at `level` (`info` unless given) and answers with both.
pub(crate) fn perform(request: &Value, call: &Call) -> Result<Value, CallError> {
    let message = match request.get("message") {
        Some(Value::String(text)) => text.to_string(),
        Some(other) => other.to_string(),
        None => return Err(invalid("`log` needs a `message`")),
    };
    let level = match request.get("level") {
        None | Some(Value::Null) => "info",
        Some(level) => level.as_str().unwrap_or_default(),
    };
    let (run, state) = (call.run.as_str(), &*call.state);
    match level {
        "trace" => tracing::trace!(target: "stepwell::workflow", run, state, "{message}"),
        "debug" => tracing::debug!(target: "stepwell::workflow", run, state, "{message}"),
        "info" => tracing::info!(target: "stepwell::workflow", run, state, "{message}"),
        "warn" | "warning" => tracing::warn!(target: "stepwell::workflow", run, state, "{message}"),
        "error" => tracing::error!(target: "stepwell::workflow", run, state, "{message}"),
        _ => return Err(invalid("the `level` of `log` is one of trace, debug, info, warn, error")),
    }
    Ok(Value::from(Object::from_iter([("message", Value::from(message)), ("level", Value::from(level))])))
}

fn invalid(message: &str) -> CallError {
    failure(Code::ActionInputInvalid, error_type::VALIDATION, message)
}
