//! What can be wrong with an expression, before and while it runs.

use std::fmt;

/// Every error code of this crate with its meaning in one line; each has a page in `docs/errors`.
pub const CODES: &[(&str, &str)] = &[
    ("EXPRESSION_SYNTAX", "an expression, program or template is not written correctly"),
    ("EXPRESSION_TOO_LONG", "an expression, program or template has more source text than allowed"),
    ("EXPRESSION_TOO_NESTED", "an expression, program or tree of templates is nested too deeply"),
    ("EXPRESSION_FAILED", "an expression met data it cannot work with"),
    ("EXPRESSION_FUEL_EXHAUSTED", "an expression took more steps than allowed"),
    ("EXPRESSION_MEMORY_EXHAUSTED", "an expression allocated more memory than allowed"),
    ("EXPRESSION_RESULT_TOO_LARGE", "the result of an expression is larger than allowed"),
    ("EXPRESSION_CALL_DEPTH", "functions called each other too deeply"),
    ("EXPRESSION_TOO_DEEP", "a value or an evaluation is nested too deeply"),
    ("PATH_SYNTAX", "a path is not written correctly"),
    ("PATH_MISSING", "a path leads to a key or index that is not there"),
    ("PATH_NOT_A_CONTAINER", "a path goes on below something that is no object or array"),
    ("PATH_INDEX", "a path names an index past the end of an array"),
    ("PATH_RESERVED", "a path writes a key of the context that is reserved"),
    ("PATH_ROOT_NOT_OBJECT", "something that is no object is merged into the context"),
    ("PATH_TOO_DEEP", "a path or what it writes is nested too deeply"),
];

/// A source text that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// One of [`CODES`].
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The line in the source text, from 1.
    pub line: u32,
    /// The column in that line in characters, from 1.
    pub column: u32,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}, column {})", self.message, self.line, self.column)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for SyntaxError {}

/// Which kind of end an evaluation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalErrorKind {
    /// The program and its data do not fit: a missing key, a wrong type, `fail(…)`.
    Expression,
    /// More steps than [`Budget::fuel`](crate::Budget::fuel).
    FuelExhausted,
    /// More memory than [`Budget::bytes`](crate::Budget::bytes).
    MemoryExhausted,
    /// A result larger than [`Budget::result_bytes`](crate::Budget::result_bytes).
    ResultTooLarge,
    /// Functions that call each other more than 50 deep.
    CallDepth,
    /// A value nested deeper than 64 levels, or an evaluation too deep for the stack.
    TooDeep,
}

impl EvalErrorKind {
    /// The stable code, one of [`CODES`].
    pub fn code(self) -> &'static str {
        match self {
            Self::Expression => "EXPRESSION_FAILED",
            Self::FuelExhausted => "EXPRESSION_FUEL_EXHAUSTED",
            Self::MemoryExhausted => "EXPRESSION_MEMORY_EXHAUSTED",
            Self::ResultTooLarge => "EXPRESSION_RESULT_TOO_LARGE",
            Self::CallDepth => "EXPRESSION_CALL_DEPTH",
            Self::TooDeep => "EXPRESSION_TOO_DEEP",
        }
    }
}

/// An evaluation that failed. Its text quotes the line of the source where it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// Which kind of failure.
    pub kind: EvalErrorKind,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The line in the source text, from 1; 0 if it is of no one place.
    pub line: u32,
    /// The column in that line in characters, from 1; 0 if it is of no one place.
    pub column: u32,
    /// The line itself, shortened if it is long.
    pub quote: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl EvalError {
    /// The stable code, one of [`CODES`].
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.line > 0 {
            write!(f, " (line {}, column {}: `{}`)", self.line, self.column, self.quote)?;
        }
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for EvalError {}
