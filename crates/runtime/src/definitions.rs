//! Workflows and agents in the catalog.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Agent;
use model::AgentCatalog;
use model::Issue;

use crate::Runtime;
use crate::error::RegisterError;
use crate::ports::ApprovalFilter;
use crate::ports::ApprovalRow;
use crate::ports::Definition;
use crate::ports::DefinitionKind;
use crate::ports::Page;
use crate::ports::PageRequest;
use crate::ports::Registered;
use crate::ports::RunFilter;
use crate::ports::RunSummary;
use crate::ports::StoreError;
use crate::view::Registration;

/// Definitions read at once.
const PAGE: usize = 200;

impl Runtime {
    /// Checks a definition and puts it into the catalog. `file` is the name of the file it comes from: it gives an agent its
    /// name and says what is JSON. With `new_version`, other content under a version that is taken becomes a new version.
    pub async fn register(
        &self,
        kind: DefinitionKind,
        source: &str,
        file: Option<&str>,
        new_version: bool,
    ) -> Result<Registration, RegisterError> {
        let (definition, issues) = match kind {
            DefinitionKind::Workflow => {
                let (agents, workflows) = (self.agents().await?, self.workflow_ids().await?);
                self.workflow_definition(source, file, Some((&agents, &workflows)))?
            }
            DefinitionKind::Agent => self.agent_definition(source, file)?,
        };
        self.put(definition, issues, new_version).await
    }

    /// The same for a workflow whose agents and sub-workflows need not be there: they are missed when they are called. For
    /// tests of workflows, where agents are stubs.
    pub async fn register_alone(
        &self,
        source: &str,
        file: Option<&str>,
    ) -> Result<Registration, RegisterError> {
        let (definition, issues) = self.workflow_definition(source, file, None)?;
        self.put(definition, issues, false).await
    }

    async fn put(
        &self,
        definition: Definition,
        issues: Vec<Issue>,
        new_version: bool,
    ) -> Result<Registration, RegisterError> {
        let registered = self.core.ports.catalog.register(definition, new_version).await?;
        self.core.plans.changed();
        match registered {
            Registered::Created(definition) => Ok(Registration { definition, created: true, issues }),
            Registered::Unchanged(definition) => Ok(Registration { definition, created: false, issues }),
            Registered::VersionTaken(definition) => Err(RegisterError::VersionTaken {
                id: definition.id,
                version: definition.version.unwrap_or_default(),
            }),
        }
    }

    fn workflow_definition(
        &self,
        source: &str,
        file: Option<&str>,
        known: Option<(&Agents, &BTreeSet<String>)>,
    ) -> Result<(Definition, Vec<Issue>), RegisterError> {
        let options = model::Options {
            file: file.unwrap_or("workflow.yaml"),
            agents: known.map(|(agents, _)| agents as &dyn AgentCatalog),
            workflows: known.map(|(_, workflows)| workflows),
        };
        let parsed = model::parse(source, &options);
        let Some(workflow) = parsed.workflow else {
            return Err(RegisterError::Invalid { issues: parsed.issues });
        };
        let definition = Definition {
            kind: DefinitionKind::Workflow,
            id: workflow.id,
            version: workflow.version,
            hash: workflow.hash,
            source: source.into(),
            file: file.map(Into::into),
            registered_at: self.now(),
            disabled: false,
        };
        Ok((definition, parsed.issues))
    }

    fn agent_definition(
        &self,
        source: &str,
        file: Option<&str>,
    ) -> Result<(Definition, Vec<Issue>), RegisterError> {
        let file = file.unwrap_or("agent.yaml");
        let (agent, issues) = model::agent::parse(source, file);
        let Some(agent) = agent else { return Err(RegisterError::Invalid { issues }) };
        let definition = Definition {
            kind: DefinitionKind::Agent,
            id: agent.name,
            version: None,
            hash: agent.hash,
            source: source.into(),
            file: Some(file.into()),
            registered_at: self.now(),
            disabled: false,
        };
        Ok((definition, issues))
    }

    /// All agents that are registered, to check workflows against.
    async fn agents(&self) -> Result<Agents, StoreError> {
        let mut agents = Vec::new();
        let mut page = PageRequest { limit: PAGE, cursor: None };
        loop {
            let found = self.core.ports.catalog.definitions(DefinitionKind::Agent, &page).await?;
            for definition in found.items {
                let file = definition.file.as_deref().unwrap_or("agent.yaml");
                agents.extend(model::agent::parse(&definition.source, file).0);
            }
            match found.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(Agents(agents)),
            }
        }
    }

    async fn workflow_ids(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut ids = BTreeSet::new();
        let mut page = PageRequest { limit: PAGE, cursor: None };
        loop {
            let found = self.core.ports.catalog.definitions(DefinitionKind::Workflow, &page).await?;
            ids.extend(found.items.iter().map(|definition| definition.id.to_string()));
            match found.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(ids),
            }
        }
    }

    /// Active definitions, by id.
    pub async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        self.core.ports.catalog.definitions(kind, page).await
    }

    /// The definition with this version, or without one the active one.
    pub async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        self.core.ports.catalog.definition(kind, id, version).await
    }

    /// All versions of one definition, the newest first.
    pub async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        self.core.ports.catalog.versions(kind, id).await
    }

    /// Disables (or enables again) a definition: no new runs; running ones go on. False when there is none.
    pub async fn set_disabled(
        &self,
        kind: DefinitionKind,
        id: &str,
        disabled: bool,
    ) -> Result<bool, StoreError> {
        let changed = self.core.ports.catalog.set_disabled(kind, id, disabled).await?;
        self.core.plans.changed();
        Ok(changed)
    }

    /// Runs, the newest first. Lists may be a moment old.
    pub async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        self.core.ports.catalog.runs(filter, page).await
    }

    /// Approvals, the oldest first.
    pub async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.core.ports.catalog.approvals(filter, page).await
    }
}

struct Agents(Vec<Agent>);

impl AgentCatalog for Agents {
    fn agent(&self, name: &str) -> Option<&Agent> {
        self.0.iter().find(|agent| &*agent.name == name)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|agent| Arc::clone(&agent.name).to_string()).collect()
    }
}
