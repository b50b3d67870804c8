//! Evaluating what a definition says, against a scope as it stands.

use std::cell::OnceCell;
use std::sync::Arc;

use expression::Budget;
use expression::Data;
use expression::Environment;
use expression::EvalError;
use expression::EvalErrorKind;
use expression::Expression;
use expression::Mark;
use expression::Path;
use expression::PathError;
use expression::Program;
use expression::Rendered;
use expression::Special;
use expression::Template;
use expression::Tree;
use expression::Value;
use jiff::Timestamp;
use model::Condition;
use model::Workflow;

use crate::Env;
use crate::Error;
use crate::Scope;
use crate::Trigger;
use crate::code;
use crate::error_type;
use crate::fold::error_value;
use crate::scope::Flow;
use crate::scope::Phase;

/// Why there is no value.
pub(crate) enum Unevaluated {
    /// The quick budget was not enough: try again with the full one, elsewhere.
    Heavy,
    /// It fails.
    Failed(Error),
}

/// A place from which expressions are evaluated.
pub(crate) struct Evaluator<'a> {
    scope: &'a Scope,
    workflow: &'a Workflow,
    env: &'a Env,
    /// When the state is entered.
    at: Timestamp,
    timestamp: OnceCell<String>,
    tick: OnceCell<Option<String>>,
    caught: OnceCell<Option<Value>>,
    data: Option<Data>,
    /// Instead of what flows in.
    input: Option<Value>,
    /// Instead of the scope's context.
    context: Option<Value>,
    budget: Budget,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(scope: &'a Scope, workflow: &'a Workflow, env: &'a Env, at: Timestamp) -> Self {
        Self {
            scope,
            workflow,
            env,
            at,
            timestamp: OnceCell::new(),
            tick: OnceCell::new(),
            caught: OnceCell::new(),
            data: None,
            input: None,
            context: None,
            budget: if env.heavy { Budget::full() } else { Budget::quick() },
        }
    }

    /// The same, over another context: the scope's with a result written into it.
    pub(crate) fn over(mut self, context: Value) -> Self {
        self.context = Some(context);
        self
    }

    /// What flowed into the state; the blocks inside of it have flows of their own.
    fn flow(&self) -> &Flow {
        match self.scope.top().map(|frame| &frame.phase) {
            Some(Phase::Inside(inside)) => &inside.input,
            _ => &self.scope.flow,
        }
    }

    fn environment(&self) -> Environment<'_> {
        let flow = self.flow();
        let names = &self.workflow.names;
        let context = self.context.as_ref().unwrap_or(&self.scope.context);
        let caught = self.scope.caught();
        let caught_value = self.caught.get_or_init(|| caught.map(error_value)).as_ref();
        let tick = self.tick.get_or_init(|| match self.scope.run.as_ref().map(|run| &run.trigger) {
            Some(Trigger::Schedule { tick, .. }) => Some(tick.to_string()),
            _ => None,
        });
        let input_mark = match (&self.input, &flow.from) {
            (None, Some(state)) => names.result_of(state),
            _ => Mark::default(),
        };
        Environment {
            context,
            input: self.input.as_ref().unwrap_or(&flow.value),
            input_mark,
            iteration: &self.scope.iteration,
            data: self.data.clone(),
            workflow_names: names,
            special: Special {
                timestamp: Some(self.timestamp.get_or_init(|| self.at.to_string())),
                run_id: Some(self.scope.key.run.as_str()),
                cron_triggered_at: tick.as_deref(),
                error: caught_value,
                error_message: caught.map(|error| error.message.as_ref()),
            },
        }
    }

    fn evaluated<T>(&self, what: &str, result: Result<T, EvalError>) -> Result<T, Unevaluated> {
        result.map_err(|error| {
            if error.kind == EvalErrorKind::FuelExhausted && !self.env.heavy {
                Unevaluated::Heavy
            } else {
                let code = error.code();
                Unevaluated::Failed(
                    Error::new(error_type::EXPRESSION, format!("{what}: {error}")).with_code(code),
                )
            }
        })
    }

    /// From here on, conditions are about what stands at this path.
    pub(crate) fn about(&mut self, path: Option<&Path>) -> Result<(), Unevaluated> {
        if let Some(path) = path {
            let data =
                Data::read(path, &self.environment()).map_err(|error| path_failed("dataPath", &error))?;
            self.data = Some(data);
        }
        Ok(())
    }

    /// From here on, `input` is what stands at this path.
    pub(crate) fn with_input(&mut self, path: Option<&Path>) -> Result<(), Unevaluated> {
        if let Some(path) = path {
            self.input = Some(self.read("inputPath", path)?);
        }
        Ok(())
    }

    pub(crate) fn read(&self, what: &str, path: &Path) -> Result<Value, Unevaluated> {
        path.read_in(&self.environment()).map_err(|error| path_failed(what, &error))
    }

    pub(crate) fn condition(&mut self, what: &str, condition: &Condition) -> Result<bool, Unevaluated> {
        match condition {
            Condition::Constant(holds) => Ok(*holds),
            Condition::Expression(expression) => self.holds(what, expression),
        }
    }

    pub(crate) fn holds(&mut self, what: &str, expression: &Expression) -> Result<bool, Unevaluated> {
        let mut budget = std::mem::take(&mut self.budget);
        let result = expression.eval_condition(&self.environment(), &mut budget);
        self.budget = budget;
        self.evaluated(what, result)
    }

    pub(crate) fn program(&mut self, program: &Program) -> Result<Value, Unevaluated> {
        let mut budget = std::mem::take(&mut self.budget);
        let result = program.eval(&self.environment(), &mut budget);
        self.budget = budget;
        self.evaluated("expression", result)
    }

    pub(crate) fn template(&mut self, what: &str, template: &Template) -> Result<Value, Unevaluated> {
        if let Some(text) = template.literal() {
            return Ok(Value::from(text));
        }
        let mut budget = std::mem::take(&mut self.budget);
        let result = template.eval(&self.environment(), &mut budget);
        self.budget = budget;
        self.evaluated(what, result)
    }

    /// A template whose value is text; any other value is its JSON.
    pub(crate) fn text(&mut self, what: &str, template: &Template) -> Result<Arc<str>, Unevaluated> {
        Ok(match self.template(what, template)? {
            Value::String(text) => text,
            other => other.to_string().into(),
        })
    }

    pub(crate) fn tree(&mut self, what: &str, tree: &Tree) -> Result<Rendered, Unevaluated> {
        if tree.is_literal() {
            return Ok(Rendered { value: tree.source().clone(), secrets: Vec::new() });
        }
        let mut budget = std::mem::take(&mut self.budget);
        let result = tree.render(&self.environment(), &mut budget);
        self.budget = budget;
        self.evaluated(what, result)
    }
}

pub(crate) fn path_failed(what: &str, error: &PathError) -> Unevaluated {
    Unevaluated::Failed(
        Error::new(error_type::EXPRESSION, format!("{what}: {error}")).with_code(code::PATH_FAILED),
    )
}

pub(crate) fn unfit(message: impl Into<Arc<str>>) -> Unevaluated {
    Unevaluated::Failed(Error::new(error_type::VALIDATION, message).with_code(code::VALUE_UNFIT))
}
