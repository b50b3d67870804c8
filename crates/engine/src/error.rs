//! What a run can fail with: an error as a workflow sees it.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

/// An error inside a run: what `catch` matches, `_error` shows and a failed run reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Error {
    /// One of the [standard types](crate::error_type) or an action's own.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// What happened, for people. An error that left a branch, iteration or child begins with the way there.
    pub message: Arc<str>,
    /// The page in `docs/errors`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Arc<str>>,
    /// The state that raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Arc<str>>,
    /// True once the message begins with the way it came.
    #[serde(default, skip_serializing_if = "is_false")]
    pub from_child: bool,
    /// How many attempts were made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// The last attempt's error, inside a `retry_exhausted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Error>>,
}

impl Error {
    /// An error of this type.
    pub fn new(kind: impl Into<Arc<str>>, message: impl Into<Arc<str>>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            code: None,
            state: None,
            from_child: false,
            attempts: 0,
            cause: None,
        }
    }

    /// The same with the code of its page.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The same, as the state `fork` sees it when it leaves that state's child `child`.
    #[must_use]
    pub fn through(mut self, fork: &str, child: &str) -> Self {
        let inner = match &self.state {
            _ if self.from_child => self.message.to_string(),
            Some(state) => format!("{state}: {}", self.message),
            None => format!(": {}", self.message),
        };
        let separator = if inner.starts_with(':') { "" } else { "/" };
        self.message = format!("{fork}/{child}{separator}{inner}").into();
        self.state = Some(fork.into());
        self.from_child = true;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}

// Serde wants a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// The error types that the engine itself raises and that `retryOn` and `catch` may name.
pub mod error_type {
    /// An attempt, an approval, a signal or a composite state took too long.
    pub const TIMEOUT: &str = "timeout";
    /// An agent failed without a type of its own.
    pub const AGENT_ERROR: &str = "agent_error";
    /// A value does not fit its schema.
    pub const VALIDATION: &str = "validation";
    /// The worker died and the attempt may not, or may no longer, be repeated.
    pub const INTERRUPTED: &str = "interrupted";
    /// An approval was rejected.
    pub const REJECTED: &str = "rejected";
    /// The work was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// An expression, template or path failed.
    pub const EXPRESSION: &str = "expression";
    /// An uncaught error after more than one attempt; the last attempt's is its cause.
    pub const RETRY_EXHAUSTED: &str = "retry_exhausted";
}
