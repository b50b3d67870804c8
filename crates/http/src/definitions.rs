//! Workflows and agents: listed, shown, registered, disabled.

use axum::extract::State;
use axum::http::StatusCode;
use runtime::Runtime;
use runtime::ports::DefinitionKind;
use runtime::ports::PageRequest;

use crate::Error;
use crate::api::Answer;
use crate::api::MAX_LIMIT;
use crate::api::Shape;
use crate::api::Shared;
use crate::api::page;
use crate::api::query_error;
use crate::documents;
use crate::documents::List;
use crate::error::json;
use crate::extract::AgentSource;
use crate::extract::Parameters;
use crate::extract::Segments;
use crate::extract::Source;

// Workflows.

pub(crate) async fn list_workflows(
    State(shared): Shape,
    Parameters(query): Parameters<documents::Paging>,
) -> Answer {
    let page =
        shared.runtime.definitions(DefinitionKind::Workflow, &page(query.limit, query.cursor)?).await?;
    Ok(json(StatusCode::OK, &List::<documents::Workflow<'_>>::of(&page)))
}

pub(crate) async fn get_workflow(
    State(shared): Shape,
    Segments(id): Segments<String>,
    Parameters(query): Parameters<documents::Version>,
) -> Answer {
    let versions = shared.runtime.versions(DefinitionKind::Workflow, &id).await?;
    let found = match &query.version {
        Some(version) => versions.iter().find(|definition| definition.version.as_deref() == Some(version)),
        None => versions.first(),
    };
    let Some(definition) = found else {
        return Err(nothing(DefinitionKind::Workflow, &id, query.version.as_deref()));
    };
    let document = documents::WorkflowDocument {
        workflow: definition.into(),
        source: &definition.source,
        versions: versions.iter().map(documents::Workflow::from).collect(),
    };
    Ok(json(StatusCode::OK, &document))
}

pub(crate) async fn create_workflow(
    State(shared): Shape,
    Parameters(query): Parameters<documents::Register>,
    source: Source,
) -> Answer {
    shared.register(source, query, None).await
}

pub(crate) async fn update_workflow(
    State(shared): Shape,
    Segments(id): Segments<String>,
    Parameters(query): Parameters<documents::Register>,
    source: Source,
) -> Answer {
    shared.register(source, query, Some(&id)).await
}

pub(crate) async fn validate_workflow(
    State(shared): Shape,
    Parameters(_): Parameters<documents::Nothing>,
    source: Source,
) -> Answer {
    let agents = Agents::registered(&shared.runtime).await?;
    let options = model::Options { file: source.file, agents: Some(&agents), workflows: None };
    let parsed = model::parse(&source.text, &options);
    let document = documents::Validated {
        valid: parsed.workflow.is_some(),
        workflow_id: parsed.workflow.as_ref().map(|workflow| &*workflow.id),
        issues: &parsed.issues,
    };
    Ok(json(StatusCode::OK, &document))
}

pub(crate) async fn disable_workflow(State(shared): Shape, Segments(id): Segments<String>) -> Answer {
    shared.set_disabled(DefinitionKind::Workflow, &id, true).await
}

pub(crate) async fn enable_workflow(State(shared): Shape, Segments(id): Segments<String>) -> Answer {
    shared.set_disabled(DefinitionKind::Workflow, &id, false).await
}

// Agents.

pub(crate) async fn list_agents(
    State(shared): Shape,
    Parameters(query): Parameters<documents::Paging>,
) -> Answer {
    let page = shared.runtime.definitions(DefinitionKind::Agent, &page(query.limit, query.cursor)?).await?;
    Ok(json(StatusCode::OK, &List::<documents::Agent<'_>>::of(&page)))
}

pub(crate) async fn get_agent(
    State(shared): Shape,
    Segments(name): Segments<String>,
    Parameters(_): Parameters<documents::Nothing>,
) -> Answer {
    let versions = shared.runtime.versions(DefinitionKind::Agent, &name).await?;
    let Some(definition) = versions.first() else { return Err(nothing(DefinitionKind::Agent, &name, None)) };
    let document = documents::AgentDocument { agent: definition.into(), source: &definition.source };
    Ok(json(StatusCode::OK, &document))
}

pub(crate) async fn create_agent(
    State(shared): Shape,
    Parameters(query): Parameters<documents::Register>,
    AgentSource(source): AgentSource,
) -> Answer {
    if query.file.is_none() {
        let error = query_error("file: it is missing, and an agent's name is that of its file");
        return Err(error.hint("send ?file=agents/NAME.agent.yaml, or PUT to /api/v1/agents/NAME"));
    }
    shared.register_agent(source, query, None).await
}

pub(crate) async fn update_agent(
    State(shared): Shape,
    Segments(name): Segments<String>,
    Parameters(query): Parameters<documents::Register>,
    AgentSource(source): AgentSource,
) -> Answer {
    shared.register_agent(source, query, Some(&name)).await
}

pub(crate) async fn disable_agent(State(shared): Shape, Segments(name): Segments<String>) -> Answer {
    shared.set_disabled(DefinitionKind::Agent, &name, true).await
}

pub(crate) async fn enable_agent(State(shared): Shape, Segments(name): Segments<String>) -> Answer {
    shared.set_disabled(DefinitionKind::Agent, &name, false).await
}

impl Shared {
    async fn register(&self, source: Source, query: documents::Register, id: Option<&str>) -> Answer {
        // A definition that cannot be read has no id; registering says what is wrong with it.
        if let Some(id) = id
            && let Some(other) = written_id(&source).filter(|written| written != id)
        {
            return Err(body_invalid(format!("the definition's id is `{other}`, the path's is `{id}`")));
        }
        let file = query.file.as_deref().map(checked_file).transpose()?;
        if self.given.home.max_step_seconds.is_some() {
            let options = model::Options { file: file.unwrap_or(source.file), agents: None, workflows: None };
            if let Some(workflow) = model::parse(&source.text, &options).workflow {
                self.given.home.check_workflow(&workflow)?;
            }
        }
        let kind = DefinitionKind::Workflow;
        let registration = self.runtime.register(kind, &source.text, file, query.new_version).await?;
        let document = documents::Registered {
            workflow: (&registration.definition).into(),
            created: registration.created,
            issues: &registration.issues,
        };
        Ok(json(if registration.created { StatusCode::CREATED } else { StatusCode::OK }, &document))
    }

    async fn register_agent(&self, source: Source, query: documents::Register, name: Option<&str>) -> Answer {
        let made_up = format!("{}{}", name.unwrap_or_default(), source.file);
        let file = checked_file(query.file.as_deref().unwrap_or(&made_up))?;
        if let (Some(agent), _) = model::agent::parse(&source.text, file) {
            if let Some(name) = name.filter(|name| **name != *agent.name) {
                let message = format!("the file's agent is `{}`, the path's is `{name}`", agent.name);
                return Err(body_invalid(message));
            }
            self.given.home.check_agent(&agent)?;
        }
        let kind = DefinitionKind::Agent;
        let registration = self.runtime.register(kind, &source.text, Some(file), query.new_version).await?;
        let document = documents::RegisteredAgent {
            agent: (&registration.definition).into(),
            created: registration.created,
            issues: &registration.issues,
        };
        Ok(json(if registration.created { StatusCode::CREATED } else { StatusCode::OK }, &document))
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Answer {
        if !self.runtime.set_disabled(kind, id, disabled).await? {
            return Err(nothing(kind, id, None));
        }
        let versions = self.runtime.versions(kind, id).await?;
        match (versions.first(), kind) {
            (Some(definition), DefinitionKind::Workflow) => {
                Ok(json(StatusCode::OK, &documents::Workflow::from(definition)))
            }
            (Some(definition), DefinitionKind::Agent) => {
                Ok(json(StatusCode::OK, &documents::Agent::from(definition)))
            }
            (None, _) => Err(nothing(kind, id, None)),
        }
    }
}

/// The name of the file a definition comes from: below the project's folder, because relative paths begin beside it.
fn checked_file(file: &str) -> Result<&str, Error> {
    let fine = !file.is_empty()
        && file.len() <= 1_024
        && !file.contains(['\\', '\0'])
        && file.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if fine {
        return Ok(file);
    }
    Err(query_error(format!("file: `{file}` is no path below a project's folder"))
        .hint("write it like agents/NAME.agent.yaml"))
}

fn body_invalid(message: String) -> Error {
    Error::new(StatusCode::UNPROCESSABLE_ENTITY, "BODY_INVALID", message)
}

fn written_id(source: &Source) -> Option<String> {
    let located = model::Located::parse(&source.text, source.file).ok()?;
    let definition = located.value.get("definition").unwrap_or(&located.value);
    definition.get("id")?.as_str().map(str::to_owned)
}

/// The agents that are registered, to check a workflow against.
struct Agents(Vec<model::Agent>);

impl Agents {
    async fn registered(runtime: &Runtime) -> Result<Self, Error> {
        let mut agents = Vec::new();
        let mut page = PageRequest { limit: MAX_LIMIT, cursor: None };
        loop {
            let found = runtime.definitions(DefinitionKind::Agent, &page).await?;
            for definition in found.items {
                agents.extend(
                    model::agent::parse(&definition.source, definition.file.as_deref().unwrap_or_default()).0,
                );
            }
            match found.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(Self(agents)),
            }
        }
    }
}

impl model::AgentCatalog for Agents {
    fn agent(&self, name: &str) -> Option<&model::Agent> {
        self.0.iter().find(|agent| &*agent.name == name)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|agent| agent.name.to_string()).collect()
    }
}

fn nothing(kind: DefinitionKind, id: &str, version: Option<&str>) -> Error {
    let version = version.map_or_else(String::new, |version| format!(" with version {version}"));
    let (code, what) = match kind {
        DefinitionKind::Workflow => ("WORKFLOW_NOT_FOUND", "workflow"),
        DefinitionKind::Agent => ("AGENT_NOT_FOUND", "agent"),
    };
    Error::new(StatusCode::NOT_FOUND, code, format!("there is no {what} `{id}`{version}"))
}
