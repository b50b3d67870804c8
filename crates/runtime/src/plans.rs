//! Definitions, parsed once: by hash for runs that pinned them, by id for runs to come.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Action;
use model::Kind;
use model::Workflow;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::Runtime;
use crate::error::Error;
use crate::ports::Definition;
use crate::ports::DefinitionKind;
use crate::ports::StoreError;

/// Parsed definitions that are kept.
const KEPT: usize = 1024;

/// What a new run of a workflow needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workflow: Arc<Workflow>,
    pub(crate) id: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) hash: Arc<str>,
    /// The hash of each agent it may call, as far as they exist.
    pub(crate) agents: BTreeMap<Arc<str>, Arc<str>>,
}

/// Whether a workflow can be started.
pub(crate) enum Planned {
    /// It can.
    Plan(Arc<Plan>),
    /// There is no such workflow or version.
    Unknown,
    /// It takes no new runs.
    Disabled,
}

type Name = (Arc<str>, Option<Arc<str>>);

/// The definitions this process has parsed.
pub(crate) struct Plans {
    exclusive: bool,
    pinned: Mutex<FxHashMap<Arc<str>, Arc<Workflow>>>,
    active: Mutex<FxHashMap<Name, Arc<Plan>>>,
}

impl Plans {
    pub(crate) fn new(exclusive: bool) -> Self {
        Self { exclusive, pinned: Mutex::default(), active: Mutex::default() }
    }

    /// A definition was registered, disabled or enabled: what is active must be looked up again.
    pub(crate) fn changed(&self) {
        self.active.lock().clear();
    }

    fn keep(&self, workflow: &Arc<Workflow>) {
        let mut pinned = self.pinned.lock();
        if pinned.len() >= KEPT {
            pinned.clear();
        }
        pinned.insert(workflow.hash.clone(), workflow.clone());
    }
}

impl Runtime {
    /// The workflow that a run pinned.
    pub(crate) async fn pinned(&self, id: &Arc<str>, hash: &Arc<str>) -> Result<Arc<Workflow>, Error> {
        if let Some(workflow) = self.core.plans.pinned.lock().get(hash) {
            return Ok(workflow.clone());
        }
        let unusable =
            |problem: String| Error::Definition { workflow: id.clone(), hash: hash.clone(), problem };
        let definition = self.core.ports.catalog.pinned(DefinitionKind::Workflow, id, hash).await?;
        let definition = definition.ok_or_else(|| unusable("is no longer in the catalog".into()))?;
        let workflow = parse(&definition).map_err(unusable)?;
        self.core.plans.keep(&workflow);
        Ok(workflow)
    }

    /// What a new run of this workflow would be.
    pub(crate) async fn plan(&self, id: &Arc<str>, version: Option<&Arc<str>>) -> Result<Planned, Error> {
        let name = (id.clone(), version.cloned());
        if self.core.plans.exclusive
            && let Some(plan) = self.core.plans.active.lock().get(&name)
        {
            return Ok(Planned::Plan(plan.clone()));
        }
        let catalog = &self.core.ports.catalog;
        let found = catalog.definition(DefinitionKind::Workflow, id, version.map(AsRef::as_ref)).await?;
        let Some(definition) = found else {
            let versions = catalog.versions(DefinitionKind::Workflow, id).await?;
            return Ok(if version.is_none() && versions.iter().any(|known| known.disabled) {
                Planned::Disabled
            } else {
                Planned::Unknown
            });
        };
        if definition.disabled {
            return Ok(Planned::Disabled);
        }
        let known = self.core.plans.pinned.lock().get(&definition.hash).cloned();
        let workflow = match known {
            Some(workflow) => workflow,
            None => parse(&definition).map_err(|problem| Error::Definition {
                workflow: id.clone(),
                hash: definition.hash.clone(),
                problem,
            })?,
        };
        let agents = self.agents_of(&workflow).await?;
        let plan = Arc::new(Plan {
            id: definition.id,
            version: definition.version.unwrap_or_else(|| "1".into()),
            hash: definition.hash,
            agents,
            workflow,
        });
        self.core.plans.keep(&plan.workflow);
        if self.core.plans.exclusive {
            let mut active = self.core.plans.active.lock();
            if active.len() >= KEPT {
                active.clear();
            }
            active.insert(name, plan.clone());
        }
        Ok(Planned::Plan(plan))
    }

    async fn agents_of(&self, workflow: &Workflow) -> Result<BTreeMap<Arc<str>, Arc<str>>, StoreError> {
        let mut agents = BTreeMap::new();
        for state in workflow.states() {
            if let Kind::Operation(operation) = &state.kind
                && let Action::Agent(name) = &operation.action
                && !agents.contains_key(name)
            {
                let definition =
                    self.core.ports.catalog.definition(DefinitionKind::Agent, name, None).await?;
                if let Some(definition) = definition {
                    agents.insert(name.clone(), definition.hash);
                }
            }
        }
        Ok(agents)
    }
}

/// Reads a stored definition again. It was checked when it was registered; only what makes it unusable counts here.
pub(crate) fn parse(definition: &Definition) -> Result<Arc<Workflow>, String> {
    let file = definition.file.as_deref().unwrap_or("workflow.yaml");
    let options = model::Options { file, agents: None, workflows: None };
    let parsed = model::parse(&definition.source, &options);
    match parsed.workflow {
        Some(workflow) if workflow.hash == definition.hash => Ok(Arc::new(workflow)),
        Some(workflow) => Err(format!("is read by this engine with another hash, {}", workflow.hash)),
        None => Err(match parsed.issues.iter().find(|issue| issue.is_error()) {
            Some(issue) => format!("is refused by this engine: {issue}"),
            None => "is refused by this engine".to_owned(),
        }),
    }
}
