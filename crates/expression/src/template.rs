//! Texts with `{{ expressions }}` in them.

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, SyntaxError};
use crate::expression::Reference;
use crate::secret::Part;
use crate::value::Value;

/// How a text is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateOptions {
    /// Whether `${env:X}` and the like are secrets here; where they are not, they are an error.
    pub secrets: bool,
}

/// A text whose `{{ expressions }}` are filled in.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    references: Vec<Reference>,
}

impl Template {
    /// Understands the text, or says where it cannot.
    pub fn parse(source: &str, _options: &TemplateOptions) -> Result<Template, SyntaxError> {
        Ok(Template { source: source.to_owned(), references: Vec::new() })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text it always gives, if nothing in it is filled in.
    pub fn literal(&self) -> Option<&str> {
        None
    }

    /// The names it reads, in order of appearance.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Fills it in. A text that is exactly one template keeps the value's type, everything else is a string.
    pub fn eval(&self, environment: &Environment<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        self.render(environment, budget).map(|(value, _)| value)
    }

    /// As [`eval`](Self::eval); with the parts of the text if there are secrets in it.
    pub fn render(
        &self,
        _environment: &Environment<'_>,
        _budget: &mut Budget,
    ) -> Result<(Value, Option<Vec<Part>>), EvalError> {
        Ok((Value::Null, None))
    }
}
