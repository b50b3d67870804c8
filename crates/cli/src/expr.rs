//! `stepwell expr`: an expression, template or program against a context.

use expression::Budget;
use expression::Environment;
use expression::EvalError;
use expression::Expression;
use expression::Names;
use expression::Program;
use expression::SyntaxError;
use expression::Template;
use expression::TemplateOptions;
use expression::Value;

use crate::args::Expr;
use crate::args::Global;
use crate::client::Client;
use crate::input;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;

pub(crate) fn run(args: &Expr, global: &Global, output: Output) -> Result<Exit, Failure> {
    let (context, names) = match (&args.context, &args.run) {
        (Some(text), _) => (input::object(text, "--context")?, Names::default()),
        (None, Some(run)) => of_run(run, global)?,
        (None, None) => (Value::object(), Names::default()),
    };
    let flowing = match &args.input {
        Some(text) => input::value(text, "--input")?,
        None => {
            context.get("workflow").and_then(|workflow| workflow.get("input")).unwrap_or(&context).clone()
        }
    };
    let environment = Environment::new(&context, &flowing, &names);
    let mut budget = Budget::full();
    let source = if args.expression == "-" {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::new("INPUT_NOT_JSON", format!("stdin cannot be read: {error}")))?
    } else {
        args.expression.clone()
    };
    let value = if args.template {
        Template::parse(&source, &TemplateOptions::default())
            .map_err(|error| syntax(&source, &error))?
            .eval(&environment, &mut budget)
            .map_err(|error| evaluation(&error))?
    } else if args.program {
        Program::parse(&source)
            .map_err(|error| syntax(&source, &error))?
            .eval(&environment, &mut budget)
            .map_err(|error| evaluation(&error))?
    } else {
        Expression::parse(&source)
            .map_err(|error| syntax(&source, &error))?
            .eval(&environment, &mut budget)
            .map_err(|error| evaluation(&error))?
    };
    output.value(&value)?;
    Ok(Exit::Done)
}

fn syntax(source: &str, error: &SyntaxError) -> Failure {
    let line = source.lines().nth((error.line as usize).saturating_sub(1)).unwrap_or_default();
    let caret = " ".repeat((error.column as usize).saturating_sub(1));
    let failure = Failure::new(error.code, format!("{}\n  | {line}\n  | {caret}^", error.message));
    match &error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn evaluation(error: &EvalError) -> Failure {
    let place = if error.line > 0 {
        format!(" (line {}, column {}: `{}`)", error.line, error.column, error.quote)
    } else {
        String::new()
    };
    let failure = Failure::new(error.code(), format!("{}{place}", error.message));
    match &error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A run's context, and the names of the workflow it runs.
fn of_run(run: &str, global: &Global) -> Result<(Value, Names), Failure> {
    Client::block_on(global, async |client| {
        let document = client.get(&format!("/workflow-runs/{}", Client::segment(run))).await?;
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
        let path = format!(
            "/workflows/{}?version={}",
            Client::segment(text("workflowId")),
            Client::segment(text("version"))
        );
        let names = match client.get(&path).await {
            Ok(definition) => {
                let source = definition.get("source").and_then(Value::as_str).unwrap_or_default();
                let parsed = model::parse(source, &model::Options::default());
                parsed.workflow.map(|workflow| workflow.names).unwrap_or_default()
            }
            Err(_) => Names::default(),
        };
        Ok((document.get("context").cloned().unwrap_or_else(Value::object), names))
    })
}
