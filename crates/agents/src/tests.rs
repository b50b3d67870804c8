//! What the crate promises, against real processes and a real server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use engine::ScopePath;
use engine::StepId;
use expression::Part;
use expression::SecretRef;
use expression::SecretSlot;
use expression::SecretSource;
use expression::Template;
use expression::TemplateOptions;
use expression::Value;
use model::Action;
use model::Agent;
use model::Millis;
use model::Schema;
use model::agent::Answer;
use model::agent::Case;
use model::agent::Command;
use model::agent::Kind;
use model::agent::Prompt;
use model::agent::Static;
use runtime::ports::Agents as _;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::StoreError;

use crate::Actions;
use crate::Definitions;
use crate::Options;
use crate::Source;

mod command;
mod http;

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(2);

struct Nothing;

#[async_trait]
impl Definitions for Nothing {
    async fn agent(&self, _: &str, _: Option<&str>) -> Result<Option<Source>, StoreError> {
        Ok(None)
    }
}

fn json(text: &str) -> Value {
    Value::parse_json(text).unwrap()
}

fn template(text: &str) -> Template {
    Template::parse(text, &TemplateOptions { secrets: true }).unwrap()
}

fn agent(kind: Kind) -> Agent {
    Agent {
        name: "worker".into(),
        description: None,
        kind,
        input_schema: None,
        output_schema: None,
        timeout: None,
        definition: Value::Null,
        hash: "hash".into(),
    }
}

fn with_schemas(kind: Kind, input: &str, output: &str) -> Agent {
    let schema = |text: &str| Some(Schema::compile(&json(text)).unwrap());
    Agent { input_schema: schema(input), output_schema: schema(output), ..agent(kind) }
}

fn answers(output: &str) -> Kind {
    Kind::Static(Static { cases: Vec::new(), otherwise: Some(Answer::Output(json(output))), delay: None })
}

/// Actions that know this agent; relative paths begin in `folder`, the environment holds `SECRET` and `PATH`.
fn actions(agent: Agent, folder: &Path) -> Actions {
    let mut options = Options { directory: folder.to_owned(), ..Options::default() };
    options.environment.insert("SECRET".into(), "hunter2-\"x".into());
    options.environment.insert("PATH".into(), std::env::var_os("PATH").unwrap());
    options = options.with_process_table(folder.join("processes"));
    let actions = options.build(Arc::new(Nothing)).unwrap();
    actions.registry.insert(agent, folder);
    actions
}

fn call(request: &str) -> Call {
    let run = RunId::new("run-1");
    let scope = ScopePath::root();
    Call {
        action: Action::Agent("worker".into()),
        agent_hash: Some("hash".into()),
        request: json(request),
        secrets: Vec::new(),
        idempotency_key: "run-1/step/1".into(),
        step: StepId::new(&run, &scope, "check", 1),
        run,
        scope,
        state: "check".into(),
        attempt: 2,
        epoch: 1,
        timeout: PATIENCE,
    }
}

fn secret(pointer: &str) -> SecretSlot {
    let reference = SecretRef { source: SecretSource::Env, name: "SECRET".into(), field: None };
    SecretSlot { pointer: pointer.into(), parts: vec![Part::Text("Bearer ".into()), Part::Secret(reference)] }
}

async fn perform(agent: Agent, request: &str) -> Result<Value, CallError> {
    let folder = tempfile::tempdir().unwrap();
    actions(agent, folder.path()).perform(call(request)).await
}

/// The error's code, type and whether it is definite.
fn summary(error: &CallError) -> (&str, &str, bool) {
    (error.error.code.as_deref().unwrap_or_default(), &error.error.kind, error.definite)
}

#[tokio::test]
async fn a_static_agent_answers_by_what_it_is_given() {
    let case = |matches: &str, answer| Case { matches: json(matches), answer };
    let failing = Answer::Error { kind: "quota".into(), message: "none left".into() };
    let cases = vec![
        case(r#"{"task": "fail"}"#, failing),
        case(r#"{"input": {"service": "checkout"}}"#, Answer::Output(json(r#"{"error_rate": 0.12}"#))),
        case(r#"{"task": "text"}"#, Answer::Output(json(r#""plain""#))),
    ];
    let worker = || agent(Kind::Static(Static { cases: cases.clone(), otherwise: None, delay: None }));

    let output = perform(worker(), r#"{"input": {"service": "checkout", "n": 1}}"#).await.unwrap();
    assert_eq!(output, json(r#"{"error_rate": 0.12}"#));
    let output = perform(worker(), r#"{"task": "text"}"#).await.unwrap();
    assert_eq!(output, json(r#"{"response": "plain"}"#));
    let error = perform(worker(), r#"{"task": "fail"}"#).await.unwrap_err();
    assert_eq!(summary(&error), ("", "quota", true));
    assert_eq!(&*error.error.message, "none left");
    let error = perform(worker(), "{}").await.unwrap_err();
    assert_eq!(summary(&error), ("STATIC_NO_CASE", "validation", false));
}

#[tokio::test]
async fn schemas_hold_on_both_sides() {
    let input = r#"{"required": ["namespace"], "properties": {"namespace": {"type": "string"}}}"#;
    let output = r#"{"type": "object", "required": ["ready"]}"#;
    let worker = |answer| with_schemas(answers(answer), input, output);

    let given = r#"{"task": "t", "variables": {"namespace": "production"}}"#;
    assert_eq!(perform(worker(r#"{"ready": 3}"#), given).await.unwrap(), json(r#"{"ready": 3}"#));
    let error = perform(worker(r#"{"ready": 3}"#), r#"{"input": {"namespace": 7}}"#).await.unwrap_err();
    assert_eq!(summary(&error), ("AGENT_INPUT_INVALID", "validation", false));
    assert!(error.error.message.contains("/namespace"), "{}", error.error.message);
    let error = perform(worker(r#""text""#), given).await.unwrap_err();
    assert_eq!(summary(&error), ("AGENT_OUTPUT_INVALID", "validation", false));
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let prompt = Prompt { model: None, front_matter: Value::Null, body: String::new() };
    let error = perform(agent(Kind::Prompt(prompt)), "{}").await.unwrap_err();
    assert_eq!(summary(&error), ("ACTION_NOT_AVAILABLE", "validation", false));

    let folder = tempfile::tempdir().unwrap();
    let actions = actions(agent(answers("{}")), folder.path());
    let error = actions.perform(Call { action: Action::Lambda, ..call("{}") }).await.unwrap_err();
    assert_eq!(summary(&error), ("ACTION_NOT_AVAILABLE", "validation", false));
    for hash in [None, Some("other".into())] {
        let error = actions.perform(Call { agent_hash: hash, ..call("{}") }).await.unwrap_err();
        assert_eq!(summary(&error), ("AGENT_NOT_FOUND", "validation", false));
    }

    let mut vault = secret("/input/token");
    vault.parts = vec![Part::Secret(SecretRef {
        source: SecretSource::Vault,
        name: "kv/app".into(),
        field: Some("token".into()),
    })];
    let asked = Call { secrets: vec![vault], ..call(r#"{"input": {"token": ""}}"#) };
    let error = actions.perform(asked).await.unwrap_err();
    assert_eq!(summary(&error), ("SECRET_SOURCE_NOT_AVAILABLE", "validation", false));
    assert!(error.error.message.contains("${vault:kv/app#token}"), "{}", error.error.message);
}

#[tokio::test]
async fn a_log_line_is_its_own_output() {
    let folder = tempfile::tempdir().unwrap();
    let actions = actions(agent(answers("{}")), folder.path());
    let log = |request: &str| Call { action: Action::Log, ..call(request) };
    let output = actions.perform(log(r#"{"message": {"n": 1}, "level": "warn"}"#)).await.unwrap();
    assert_eq!(output, json(r#"{"message": "{\"n\":1}", "level": "warn"}"#));
    let error = actions.perform(log(r#"{"message": "x", "level": "loud"}"#)).await.unwrap_err();
    assert_eq!(summary(&error), ("ACTION_INPUT_INVALID", "validation", false));
}

#[test]
fn every_code_has_its_page() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for code in crate::Code::ALL {
        assert!(pages.join(code.as_str()).with_extension("md").is_file(), "{}", code.as_str());
    }
}

#[tokio::test]
async fn the_actions_conform() {
    let folder = tempfile::tempdir().unwrap();
    let constant = Agent { name: "constant".into(), ..agent(answers(r#"{"ok": true}"#)) };
    let actions = actions(constant, folder.path());
    runtime::conformance::agents_suite(Arc::new(actions), Some("hash"), &json(r#"{"ok": true}"#)).await;
}
