//! `stepwell deploy`: a project's files become definitions of a stack, or of any server, over its API.

use axum::http::Method;
use expression::Value;
use http_api::Home;
use runtime::ports::DefinitionKind;

use crate::args::Deploy;
use crate::args::Global;
use crate::client;
use crate::client::Client;
use crate::client::Server;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::sync;
use crate::sync::Catalog;
use crate::sync::Known;
use crate::sync::Listed;
use crate::sync::Options;
use crate::sync::Outcome;
use crate::sync::Project;

pub(crate) fn run(args: &Deploy, global: &Global, output: Output) -> Result<Exit, Failure> {
    let project = Project::at(&args.dir)?;
    let options = Options { new_version: args.new_version, prune: args.prune, check: args.check };
    let report = client::runtime()?.block_on(async {
        let server = match Server::named(global).await? {
            Some(server) => server,
            None => crate::aws::server(None).await?,
        };
        let client = Client::Server(server);
        let home = serde_json::Value::from(&client.get("/home").await?);
        let home = serde_json::from_value(home).map_err(|error| {
            Failure::new("SERVER_ERROR", format!("what answered is no Stepwell server of this kind: {error}"))
        })?;
        project.sync(&Catalog::There(&client, home), options).await
    })?;
    sync::told(&report, args.check, output)
}

/// Where the definitions of one kind are.
fn path(kind: DefinitionKind) -> &'static str {
    match kind {
        DefinitionKind::Workflow => "/workflows",
        DefinitionKind::Agent => "/agents",
    }
}

pub(crate) async fn known(
    client: &Client,
    kind: DefinitionKind,
    id: &str,
    version: Option<&str>,
) -> Result<Option<Known>, Failure> {
    let version =
        version.map_or_else(String::new, |version| format!("?version={}", Client::segment(version)));
    match client.get(&format!("{}/{}{version}", path(kind), Client::segment(id))).await {
        Ok(document) => Ok(Some(Known {
            hash: text(&document, "hash"),
            disabled: document.get("disabled").and_then(Value::as_bool).unwrap_or_default(),
        })),
        Err(failure) if failure.code.ends_with("_NOT_FOUND") => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(crate) async fn register(
    client: &Client,
    kind: DefinitionKind,
    id: &str,
    source: &str,
    file: &str,
    new_version: bool,
) -> Result<Outcome, Failure> {
    let query = format!("?newVersion={new_version}&file={}", Client::segment(file));
    let place = format!("{}/{}{query}", path(kind), Client::segment(id));
    let media_type = match file.rsplit('.').next() {
        Some("json") => "application/json",
        Some("prompt") => "text/plain",
        _ => "application/yaml",
    };
    match client.send(Method::PUT, &place, Some((media_type, source.to_owned())), None).await {
        Ok((_, document)) => Ok(Outcome::Registered {
            created: document.get("created").and_then(Value::as_bool).unwrap_or_default(),
            version: document.get("version").and_then(Value::as_str).map(str::to_owned),
            disabled: document.get("disabled").and_then(Value::as_bool).unwrap_or_default(),
        }),
        Err(failure) => match failure.code.as_str() {
            "DEFINITION_INVALID" => Ok(Outcome::Invalid(issues(&failure))),
            "VERSION_TAKEN" => Ok(Outcome::Refused(refusal(
                &failure.code,
                &failure.message,
                Some("change `version`, or deploy with --new-version"),
            ))),
            "AGENT_NOT_REMOTE" | "STEP_TOO_LONG" | "BODY_INVALID" | "BODY_TOO_LARGE" => {
                Ok(Outcome::Refused(refusal(&failure.code, &failure.message, failure.hint.as_deref())))
            }
            _ => Err(failure),
        },
    }
}

/// What would be refused, said by the description of the home.
pub(crate) fn check(home: &Home, parsed: sync::Parsed<'_>) -> Option<String> {
    let result = match parsed {
        sync::Parsed::Workflow(workflow) => home.check_workflow(workflow),
        sync::Parsed::Agent(agent) => home.check_agent(agent),
    };
    result.err().map(|error| refusal(&error.code, &error.message, error.hint.as_deref()))
}

pub(crate) async fn set_disabled(
    client: &Client,
    kind: DefinitionKind,
    id: &str,
    disabled: bool,
) -> Result<(), Failure> {
    let place = format!("{}/{}", path(kind), Client::segment(id));
    let (method, place) =
        if disabled { (Method::DELETE, place) } else { (Method::POST, format!("{place}/enable")) };
    client.call(method, &place, None, None).await.map(|_| ())
}

/// The definitions that came from a project's files: those stand in a folder of it.
pub(crate) async fn listed(client: &Client, kind: DefinitionKind) -> Result<Vec<Listed>, Failure> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("{}?limit=500{cursor}", path(kind))).await?;
        for item in crate::runs::items(&page) {
            let file = text(item, "file");
            let disabled = item.get("disabled").and_then(Value::as_bool).unwrap_or_default();
            if file.contains('/') && !disabled {
                let id = if kind == DefinitionKind::Agent { "name" } else { "workflowId" };
                let version = item.get("version").and_then(Value::as_str).map(str::to_owned);
                found.push(Listed { id: text(item, id), version, file });
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={}", Client::segment(next)),
            None => return Ok(found),
        }
    }
}

fn text(document: &Value, key: &str) -> String {
    crate::runs::text(document, key).to_owned()
}

fn refusal(code: &str, message: &str, hint: Option<&str>) -> String {
    let hint = hint.map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
    format!("error[{code}]: {message}{hint}")
}

/// The issues that the server found and this program did not: it knows other agents and workflows.
fn issues(failure: &Failure) -> String {
    let issues = failure.details.as_ref().and_then(|details| details.get("issues")?.as_array());
    let told =
        issues.unwrap_or_default().iter().filter(|issue| crate::runs::text(issue, "severity") != "warning");
    let lines: Vec<String> = told
        .map(|issue| {
            let line = issue.get("line").and_then(Value::as_i64).unwrap_or_default();
            format!("error[{}]: line {line}: {}", text(issue, "code"), text(issue, "message"))
        })
        .collect();
    if lines.is_empty() { failure.message.clone() } else { lines.join("\n") }
}
