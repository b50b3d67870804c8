//! Evaluating what a definition says where a scope stands.

use std::sync::Arc;

use expression::Budget;
use expression::Data;
use expression::Environment;
use expression::Expression;
use expression::Mark;
use expression::Object;
use expression::Path;
use expression::Program;
use expression::Rendered;
use expression::Special;
use expression::Template;
use expression::Tree;
use expression::Value;
use jiff::Timestamp;
use model::Condition;

use super::Error;
use super::Words;
use super::scope::Flow;
use super::scope::Interpreter;
use super::scope::Line;

/// What an expression sees besides the scope it stands in.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// What flows into the state.
    pub(super) input: Flow,
    /// When the state was entered.
    pub(super) at: Timestamp,
    /// Instead of the scope's context.
    pub(super) context: Option<Value>,
    /// What the `dataPath` leads to.
    pub(super) data: Option<Data>,
}

type Evaluated<T> = Result<T, Error>;

impl Interpreter<'_> {
    /// Makes what names mean at this place, and evaluates there.
    fn at<T, E: std::fmt::Display>(
        &self,
        line: &Line,
        view: &View,
        evaluate: impl FnOnce(&Environment<'_>, &mut Budget) -> Result<T, E>,
    ) -> Evaluated<T> {
        let names = &self.workflow.names;
        let timestamp = view.at.to_string();
        let tick = self.start.tick.map(|tick| tick.to_string());
        let caught = line.caught.last();
        let error = caught.map(error_value);
        let environment = Environment {
            context: view.context.as_ref().unwrap_or(&line.context),
            input: &view.input.value,
            input_mark: view.input.from.as_ref().map_or_else(Mark::default, |state| names.result_of(state)),
            iteration: &line.iteration,
            data: view.data.clone(),
            workflow_names: names,
            special: Special {
                timestamp: Some(&timestamp),
                run_id: Some(&self.start.run),
                cron_triggered_at: tick.as_deref(),
                error: error.as_ref(),
                error_message: caught.map(|error| error.text().as_ref()),
            },
        };
        evaluate(&environment, &mut Budget::full())
            .map_err(|error| Error::new("expression", Words::with(&error.to_string())))
    }

    pub(super) fn holds(&self, line: &Line, view: &View, expression: &Expression) -> Evaluated<bool> {
        self.at(line, view, |environment, budget| expression.eval_condition(environment, budget))
    }

    pub(super) fn condition(&self, line: &Line, view: &View, condition: &Condition) -> Evaluated<bool> {
        match condition {
            Condition::Constant(holds) => Ok(*holds),
            Condition::Expression(expression) => self.holds(line, view, expression),
        }
    }

    pub(super) fn program(&self, line: &Line, view: &View, program: &Program) -> Evaluated<Value> {
        self.at(line, view, |environment, budget| program.eval(environment, budget))
    }

    pub(super) fn template(&self, line: &Line, view: &View, template: &Template) -> Evaluated<Value> {
        self.at(line, view, |environment, budget| template.eval(environment, budget))
    }

    /// A template as text: strings as they are, every other value as compact JSON.
    pub(super) fn text(&self, line: &Line, view: &View, template: &Template) -> Evaluated<Arc<str>> {
        Ok(match self.template(line, view, template)? {
            Value::String(text) => text,
            other => other.to_string().into(),
        })
    }

    pub(super) fn tree(&self, line: &Line, view: &View, tree: &Tree) -> Evaluated<Rendered> {
        self.at(line, view, |environment, budget| tree.render(environment, budget))
    }

    pub(super) fn read(&self, line: &Line, view: &View, path: &Path) -> Evaluated<Value> {
        self.at(line, view, |environment, _| path.read_in(environment))
    }

    pub(super) fn data(&self, line: &Line, view: &View, path: &Path) -> Evaluated<Data> {
        self.at(line, view, |environment, _| Data::read(path, environment))
    }
}

/// `_error`: `{type, message, state, attempts}`.
pub(super) fn error_value(error: &Error) -> Value {
    let mut object = Object::new();
    object.insert("type", error.kind.as_ref());
    object.insert("message", error.text().as_ref());
    object.insert("state", error.state.clone().map_or(Value::Null, Value::from));
    object.insert("attempts", error.attempts.max(1));
    Value::from(object)
}
