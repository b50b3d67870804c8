//! Agents by name and pinned hash, each read once.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use engine::Error;
use engine::error_type;
use model::Agent;
use parking_lot::RwLock;
use runtime::ports::CallError;
use runtime::ports::Catalog;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::StoreError;
use rustc_hash::FxHashMap;

use crate::error::Code;
use crate::error::validation;

/// Where agents' definitions are kept.
#[async_trait]
pub trait Definitions: Send + Sync + 'static {
    /// The agent of this name: the one with this hash, or without one the active one.
    async fn agent(&self, name: &str, hash: Option<&str>) -> Result<Option<Source>, StoreError>;
}

/// An agent's definition as it was registered.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its text.
    pub text: Arc<str>,
    /// The file it came from: its ending says which kind of definition it is, its folder is where relative paths begin.
    /// `<name>.agent.yaml` where it came from no file.
    pub file: Option<Arc<str>>,
    /// The hash of its content.
    pub hash: Arc<str>,
}

#[async_trait]
impl<C: Catalog + ?Sized> Definitions for Arc<C> {
    async fn agent(&self, name: &str, hash: Option<&str>) -> Result<Option<Source>, StoreError> {
        let kind = DefinitionKind::Agent;
        let found = match hash {
            Some(hash) => self.pinned(kind, name, hash).await?,
            None => self.definition(kind, name, None).await?.filter(|definition| !definition.disabled),
        };
        Ok(found.map(|Definition { source, file, hash, .. }| Source { text: source, file, hash }))
    }
}

/// An agent that was read, and where its relative paths begin.
pub(crate) struct Entry {
    pub(crate) agent: Agent,
    pub(crate) directory: PathBuf,
}

/// The agents read so far.
pub(crate) struct Registry {
    definitions: Arc<dyn Definitions>,
    /// Where the relative path of a definition's file begins.
    directory: PathBuf,
    /// By hash, then by name: equal content may stand in several files.
    entries: RwLock<FxHashMap<Arc<str>, Vec<Arc<Entry>>>>,
}

/// More agents than this are not kept in memory at once.
const CAPACITY: usize = 4096;

impl Registry {
    pub(crate) fn new(definitions: Arc<dyn Definitions>, directory: PathBuf) -> Self {
        Self { definitions, directory, entries: RwLock::default() }
    }

    /// The agent `name` with this hash, or without one the active one.
    pub(crate) async fn agent(&self, name: &str, hash: Option<&str>) -> Result<Arc<Entry>, CallError> {
        if let Some(entry) = hash.and_then(|hash| self.known(name, hash)) {
            return Ok(entry);
        }
        let source = self.definitions.agent(name, hash).await.map_err(|error| {
            let message = format!("agent `{name}` could not be looked up: {}", error.message);
            let error = Error::new(error_type::AGENT_ERROR, message).with_code(error.code);
            CallError { error, definite: false, retry_after: None }
        })?;
        let Some(source) = source else {
            let message = match hash {
                Some(hash) => {
                    format!("agent `{name}` is no longer in the catalog as this run pinned it ({hash})")
                }
                None => format!(
                    "there is no agent `{name}`: define it in `agents/{name}.agent.yaml` or `agents/{name}.prompt`"
                ),
            };
            return Err(validation(Code::AgentNotFound, message));
        };
        if let Some(entry) = self.known(name, &source.hash) {
            return Ok(entry);
        }
        let entry = Arc::new(self.read(name, &source)?);
        let mut entries = self.entries.write();
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.entry(source.hash).or_default().push(entry.clone());
        Ok(entry)
    }

    fn known(&self, name: &str, hash: &str) -> Option<Arc<Entry>> {
        self.entries.read().get(hash)?.iter().find(|entry| &*entry.agent.name == name).cloned()
    }

    fn read(&self, name: &str, source: &Source) -> Result<Entry, CallError> {
        let made_up = format!("{name}.agent.yaml");
        let file = source.file.as_deref().unwrap_or(&made_up);
        let (agent, issues) = model::agent::parse(&source.text, file);
        let directory = Path::new(file).parent().unwrap_or(Path::new(""));
        if let Some(agent) = agent.filter(|agent| &*agent.name == name) {
            return Ok(Entry { agent, directory: self.directory.join(directory) });
        }
        let first = issues.iter().find(|issue| issue.is_error());
        let reason = first.map_or_else(|| "its file has another name".to_owned(), ToString::to_string);
        let message = format!("the definition of agent `{name}` ({file}) cannot be read: {reason}");
        Err(validation(Code::AgentDefinitionUnreadable, message))
    }
}

#[cfg(test)]
impl Registry {
    /// Knows this agent without having read it.
    pub(crate) fn insert(&self, agent: Agent, directory: &Path) {
        let entry = Entry { directory: directory.to_owned(), agent };
        self.entries.write().entry(entry.agent.hash.clone()).or_default().push(Arc::new(entry));
    }
}
