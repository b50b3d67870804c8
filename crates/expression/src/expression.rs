//! Expressions and programs: parsed once, evaluated often.

use std::fmt;
use std::sync::Arc;

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, SyntaxError};
use crate::eval::{self, Interp};
use crate::ir::Code;
use crate::lower;
use crate::meter::Eval;
use crate::reference::Reference;
use crate::syntax::{Shape, Source};
use crate::val::Val;
use crate::value::Value;

/// One expression: a condition, or the inside of `{{ }}`. Cloning is cheap.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

/// A program: statements, of which the last is an expression, its output. Cloning is cheap.
#[derive(Clone)]
pub struct Program(Arc<Compiled>);

struct Compiled {
    source: Source,
    code: Code,
    references: Vec<Reference>,
}

impl Compiled {
    fn parse(text: &str, shape: Shape) -> Result<Arc<Self>, SyntaxError> {
        let (source, code, references) = lower::compile(text, shape)?;
        Ok(Arc::new(Self { source, code, references }))
    }

    fn run<T>(
        &self,
        environment: &Environment<'_>,
        budget: &mut Budget,
        finish: impl FnOnce(&mut Interp<'_>, Val) -> Eval<T>,
    ) -> Result<T, EvalError> {
        eval::run(&self.code, &self.source, environment, budget, finish)
    }
}

impl Expression {
    /// Understands the source text, or says where it cannot.
    pub fn parse(source: &str) -> Result<Self, SyntaxError> {
        Compiled::parse(source, Shape::Expression).map(Self)
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.0.source.text
    }

    /// The names it reads, in order of appearance.
    pub fn references(&self) -> &[Reference] {
        &self.0.references
    }

    /// Evaluates it to JSON.
    pub fn eval(&self, environment: &Environment<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        self.0.run(environment, budget, |interp, value| interp.output(&value))
    }

    /// Evaluates it as a condition: whether its value is true in the sense of Starlark.
    pub fn eval_condition(
        &self,
        environment: &Environment<'_>,
        budget: &mut Budget,
    ) -> Result<bool, EvalError> {
        self.0.run(environment, budget, |interp, value| Ok(interp.truth(&value)))
    }

    /// Evaluates it and appends it to a text: strings as they are, every other value as compact JSON.
    pub(crate) fn write(
        &self,
        environment: &Environment<'_>,
        budget: &mut Budget,
        out: &mut String,
    ) -> Result<(), EvalError> {
        self.0.run(environment, budget, |interp, value| interp.write_text(&value, out))
    }
}

impl Program {
    /// Understands the source text, or says where it cannot.
    pub fn parse(source: &str) -> Result<Self, SyntaxError> {
        Compiled::parse(source, Shape::Program).map(Self)
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.0.source.text
    }

    /// The names it reads and does not assign, in order of appearance.
    pub fn references(&self) -> &[Reference] {
        &self.0.references
    }

    /// Runs it; its output is the value of its last statement, as JSON.
    pub fn eval(&self, environment: &Environment<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        self.0.run(environment, budget, |interp, value| interp.output(&value))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source()).finish()
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.source()).finish()
    }
}

/// Equal when the text is.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

/// Equal when the text is.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Expression {}
impl Eq for Program {}
