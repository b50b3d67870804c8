//! What can go wrong in an action: one table of codes, and how an error is made.

use engine::Error;
use engine::error_type;
use model::codes;
use runtime::ports::CallError;

codes! {
    /// Every code an error of an action can have. Each has a page in `docs/errors/`.
    ActionInputInvalid "ACTION_INPUT_INVALID" "The input of an http.call or a log action does not make sense.",
    ActionNotAvailable "ACTION_NOT_AVAILABLE" "An action or a kind of agent that this home or this version cannot perform.",
    AgentDefinitionUnreadable "AGENT_DEFINITION_UNREADABLE" "The stored definition of an agent cannot be read.",
    AgentInputInvalid "AGENT_INPUT_INVALID" "What an agent is given does not fit its input schema.",
    AgentNotFound "AGENT_NOT_FOUND" "An agent that is not defined was called.",
    AgentOutputInvalid "AGENT_OUTPUT_INVALID" "What an agent answered does not fit its output schema.",
    AgentTemplateFailed "AGENT_TEMPLATE_FAILED" "A template in an agent's definition could not be filled in.",
    CommandFailed "COMMAND_FAILED" "A program ended with an exit code that is not 0.",
    CommandKilled "COMMAND_KILLED" "A program was ended by a signal that Stepwell did not send.",
    CommandNotStarted "COMMAND_NOT_STARTED" "A program could not be started.",
    CommandOutputNotText "COMMAND_OUTPUT_NOT_TEXT" "A program wrote something to stdout that is not UTF-8 text.",
    CommandOutputTooLarge "COMMAND_OUTPUT_TOO_LARGE" "A program wrote more to stdout than its agent allows.",
    CommandTimeout "COMMAND_TIMEOUT" "A program did not end in time and was stopped.",
    HttpAnswerNotText "HTTP_ANSWER_NOT_TEXT" "The body of an HTTP answer is not UTF-8 text.",
    HttpAnswerTooLarge "HTTP_ANSWER_TOO_LARGE" "The body of an HTTP answer is larger than allowed.",
    HttpConnectionLost "HTTP_CONNECTION_LOST" "An HTTP connection broke before the answer was complete.",
    HttpNotConnected "HTTP_NOT_CONNECTED" "No HTTP connection could be made.",
    HttpRedirect "HTTP_REDIRECT" "An HTTP redirect that is not followed.",
    HttpRequestInvalid "HTTP_REQUEST_INVALID" "An HTTP request cannot be made from what was given.",
    HttpStatus "HTTP_STATUS" "An HTTP answer has an unexpected status.",
    HttpTimeout "HTTP_TIMEOUT" "An HTTP answer did not come in time.",
    ProcessTableUnusable "PROCESS_TABLE_UNUSABLE" "The folder that remembers running programs cannot be used.",
    SecretMissing "SECRET_MISSING" "A secret is not where its reference says.",
    SecretSourceNotAvailable "SECRET_SOURCE_NOT_AVAILABLE" "A secret's source that this version does not know how to ask.",
    StaticNoCase "STATIC_NO_CASE" "A static agent has no answer for what it was given.",
}

/// An error that nobody answered with: whatever was or was not done, the next attempt keeps the idempotency key.
pub(crate) fn failure(code: Code, kind: &str, message: impl Into<String>) -> CallError {
    let error = Error::new(kind, message.into()).with_code(code.as_str());
    CallError { error, definite: false, retry_after: None }
}

/// As [`failure`], of the type of most errors.
pub(crate) fn agent_error(code: Code, message: impl Into<String>) -> CallError {
    failure(code, error_type::AGENT_ERROR, message)
}

/// As [`failure`], of the type that is not worth a retry: the same would come of it.
pub(crate) fn validation(code: Code, message: impl Into<String>) -> CallError {
    failure(code, error_type::VALIDATION, message)
}

/// An error that the action itself answered with.
pub(crate) fn answered(code: Code, kind: &str, message: impl Into<String>) -> CallError {
    CallError { definite: true, ..failure(code, kind, message) }
}

/// The type and message of an answer that is `{"error": {"type", "message"}}` or `{"error": "message"}`.
pub(crate) fn own_error(answer: &expression::Value) -> Option<(Option<String>, String)> {
    let error = answer.get("error")?;
    if let Some(message) = error.as_str() {
        return Some((None, message.to_owned()));
    }
    let kind = error.get("type").and_then(|kind| kind.as_str()).filter(|kind| !kind.is_empty());
    let message = error.get("message").and_then(|message| message.as_str());
    if kind.is_none() && message.is_none() {
        return None;
    }
    Some((kind.map(str::to_owned), message.or(kind).unwrap_or_default().to_owned()))
}

/// The end of a text, at most `limit` bytes of it.
pub(crate) fn tail(text: &str, limit: usize) -> &str {
    let from = text.len().saturating_sub(limit);
    (from..=text.len()).find_map(|start| text.get(start..)).unwrap_or_default()
}

/// The start of a text, at most `limit` bytes of it.
pub(crate) fn head(text: &str, limit: usize) -> &str {
    (0..=limit.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}
