//! Templates in agents' definitions: they see what the agent is asked as `task`, `input` and `variables`.

use expression::Budget;
use expression::Environment;
use expression::EvalError;
use expression::EvalErrorKind;
use expression::Names;
use expression::Object;
use expression::Part;
use expression::Rendered;
use expression::Template;
use expression::Tree;
use expression::Value;
use runtime::ports::CallError;

use crate::error::Code;
use crate::error::failure;
use crate::secret::Redactor;
use crate::secret::Secrets;

/// What the templates of one call see, and whom they are of.
pub(crate) struct Templates<'a> {
    agent: &'a str,
    context: Value,
    secrets: &'a Secrets,
}

impl<'a> Templates<'a> {
    pub(crate) fn new(agent: &'a str, request: &Value, input: &Value, secrets: &'a Secrets) -> Self {
        let mut context = Object::with_capacity(3);
        context.insert("task", request.get("task").cloned().unwrap_or_default());
        context.insert("variables", request.get("variables").cloned().unwrap_or_else(Value::object));
        context.insert("input", input.clone());
        Self { agent, context: Value::from(context), secrets }
    }

    /// The text of a template that stands at `place`, its secrets in it.
    pub(crate) async fn text(
        &self,
        template: &Template,
        place: &str,
        redactor: &mut Redactor,
    ) -> Result<String, CallError> {
        if let Some(text) = template.literal() {
            return Ok(text.to_owned());
        }
        let rendered = match render_template(template, &self.context, Budget::quick()) {
            Err(error) if error.kind == EvalErrorKind::FuelExhausted => {
                let (template, context) = (template.clone(), self.context.clone());
                elsewhere(move || render_template(&template, &context, Budget::full()), error).await
            }
            other => other,
        };
        match rendered.map_err(|error| self.failed(place, &error))? {
            (_, Some(parts)) => self.secrets.text(&parts, redactor).await,
            (Value::String(text), None) => Ok(text.to_string()),
            (other, None) => Ok(other.to_string()),
        }
    }

    /// The value of a tree that stands at `place`, its secrets in it.
    pub(crate) async fn value(
        &self,
        tree: &Tree,
        place: &str,
        redactor: &mut Redactor,
    ) -> Result<Value, CallError> {
        if tree.is_literal() {
            return Ok(tree.source().clone());
        }
        let rendered = match render_tree(tree, &self.context, Budget::quick()) {
            Err(error) if error.kind == EvalErrorKind::FuelExhausted => {
                let (tree, context) = (tree.clone(), self.context.clone());
                elsewhere(move || render_tree(&tree, &context, Budget::full()), error).await
            }
            other => other,
        };
        let Rendered { value, secrets } = rendered.map_err(|error| self.failed(place, &error))?;
        if secrets.is_empty() { Ok(value) } else { self.secrets.fill(&value, &secrets, redactor).await }
    }

    fn failed(&self, place: &str, error: &EvalError) -> CallError {
        let message = format!("{place} of agent `{}` cannot be filled in: {error}", self.agent);
        failure(Code::AgentTemplateFailed, engine::error_type::EXPRESSION, message)
    }
}

/// What is too much for an async worker runs on a thread of its own.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EvalError> + Send + 'static,
    otherwise: EvalError,
) -> Result<T, EvalError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(otherwise))
}

fn render_template(
    template: &Template,
    context: &Value,
    mut budget: Budget,
) -> Result<(Value, Option<Vec<Part>>), EvalError> {
    let input = context.get("input").cloned().unwrap_or_default();
    template.render(&Environment::new(context, &input, &Names::default()), &mut budget)
}

fn render_tree(tree: &Tree, context: &Value, mut budget: Budget) -> Result<Rendered, EvalError> {
    let input = context.get("input").cloned().unwrap_or_default();
    tree.render(&Environment::new(context, &input, &Names::default()), &mut budget)
}
