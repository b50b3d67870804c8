//! Files of a project: where workflows, agents and tests stand, and how they are read.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use model::Agent;
use model::AgentCatalog;
use model::Issue;
use model::Located;

use crate::output::Failure;

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    Workflow,
    Agent,
    Test,
}

impl FileKind {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let stem = [".yaml", ".yml", ".json"].iter().find_map(|ending| name.strip_suffix(ending));
        match stem.or(Some(name))?.rsplit_once('.')?.1 {
            "workflow" if stem.is_some() => Some(Self::Workflow),
            "agent" if stem.is_some() => Some(Self::Agent),
            "test" if stem.is_some() => Some(Self::Test),
            "prompt" if stem.is_none() => Some(Self::Agent),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Agent => "agent",
            Self::Test => "test",
        }
    }
}

/// Files longer than this are not read; the parsers' own bounds are lower.
const MAX_FILE: u64 = 16 << 20;
/// Folders nest no deeper in a search.
const MAX_SEARCH_DEPTH: usize = 32;

/// Reads a text file, or says why not and what to do.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |why: String| Failure::new("FILE_UNREADABLE", format!("cannot read `{}`: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| {
        let failure = unreadable(error.to_string());
        match similar(path) {
            Some(near) => failure.hint(format!("did you mean `{}`?", near.display())),
            None => failure,
        }
    })?;
    if metadata.is_dir() {
        return Err(unreadable("it is a folder".to_owned()).hint("name a file in it"));
    }
    if metadata.len() > MAX_FILE {
        return Err(unreadable(format!(
            "it has {} bytes; files of workflows have at most {MAX_FILE}",
            metadata.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("it is no UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
            .hint("save it as UTF-8")
    })
}

/// The file in the same folder whose name is nearest.
fn similar(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).take(1_000);
    names
        .map(|other| (strsim::jaro_winkler(name, &other), other))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| path.with_file_name(other))
}

/// The files of these kinds among `paths` and in the folders among them, each once, in order.
pub(crate) fn find(paths: &[PathBuf], kinds: &[FileKind]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| {
            let failure =
                Failure::new("FILE_UNREADABLE", format!("cannot read `{}`: {error}", path.display()));
            match similar(path) {
                Some(near) => failure.hint(format!("did you mean `{}`?", near.display())),
                None => failure,
            }
        })?;
        if metadata.is_dir() {
            search(path, kinds, 0, &mut found);
        } else {
            found.insert(path.clone());
        }
    }
    Ok(found.into_iter().collect())
}

fn search(folder: &Path, kinds: &[FileKind], depth: usize, found: &mut BTreeSet<PathBuf>) {
    if depth > MAX_SEARCH_DEPTH {
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => {
                let name = entry.file_name();
                if name != "node_modules" && name != "target" {
                    search(&path, kinds, depth + 1, found);
                }
            }
            Ok(kind) if !kind.is_dir() && FileKind::of(&path).is_some_and(|kind| kinds.contains(&kind)) => {
                found.insert(path);
            }
            _ => {}
        }
    }
}

/// The folder of agents that belongs to a workflow's file: `agents/` in its folder, or beside its folder.
pub(crate) fn agents_folder(workflow: &Path) -> Option<PathBuf> {
    let folder = workflow.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inside = folder.join("agents");
    if inside.is_dir() {
        return Some(inside);
    }
    let beside = folder.canonicalize().ok()?;
    if beside.file_name()?.to_str()? != "workflows" {
        return None;
    }
    // Said relative to what the user wrote, as long as that is possible.
    let beside = if folder == Path::new(".") {
        beside.parent()?.join("agents")
    } else {
        folder.parent()?.join("agents")
    };
    let beside = if beside.is_relative() && beside.parent() == Some(Path::new("")) {
        Path::new(".").join(beside)
    } else {
        beside
    };
    beside.is_dir().then_some(beside)
}

/// The agents of a folder, as far as their files are right.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    pub(crate) agents: BTreeMap<String, Agent>,
    pub(crate) files: Vec<AgentFile>,
}

/// A file that should define an agent.
#[derive(Debug)]
pub(crate) struct AgentFile {
    pub(crate) path: PathBuf,
    pub(crate) source: String,
    /// The agent's name, if the file is right.
    pub(crate) name: Option<String>,
    pub(crate) issues: Vec<Issue>,
}

impl Agents {
    pub(crate) fn load(folder: &Path) -> Result<Self, Failure> {
        let mut loaded = Self::default();
        for path in find(&[folder.to_owned()], &[FileKind::Agent])? {
            let source = read(&path)?;
            let (agent, issues) = model::agent::parse(&source, &path.to_string_lossy());
            let name = agent.as_ref().map(|agent| agent.name.to_string());
            loaded.files.push(AgentFile { path, source, name, issues });
            if let Some(agent) = agent {
                loaded.agents.insert(agent.name.to_string(), agent);
            }
        }
        Ok(loaded)
    }
}

impl AgentCatalog for Agents {
    fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.get(name)
    }

    fn names(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }
}

/// The `id` that a workflow's file gives, if it can be read at all.
pub(crate) fn workflow_id(source: &str, path: &Path) -> Option<String> {
    let located = Located::parse(source, &path.to_string_lossy()).ok()?;
    let definition = located.value.get("definition").unwrap_or(&located.value);
    Some(definition.get("id")?.as_str()?.to_owned())
}
