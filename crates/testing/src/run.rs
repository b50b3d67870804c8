//! Files of tests, over several cores.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use model::Agent;
use model::AgentCatalog;
use model::Issue;
use model::Kind;
use model::Workflow;
use parking_lot::Mutex;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;

use crate::case;
use crate::case::Stage;
use crate::check;
use crate::file::Case;
use crate::file::File;
use crate::report::Failure;
use crate::report::Report;
use crate::world::Homes;

/// Runs the tests of these files, `jobs` at once, each in a home of its own; the reports are in the order of the files.
pub fn run(files: &[File], jobs: usize, homes: &Homes) -> Vec<Report> {
    let stages: Vec<OnceLock<Setting>> = files.iter().map(|_| OnceLock::new()).collect();
    let tasks: Vec<(&File, &OnceLock<Setting>, &Case)> = files
        .iter()
        .zip(&stages)
        .flat_map(|(file, stage)| file.cases.iter().map(move |case| (file, stage, case)))
        .collect();
    let next = AtomicUsize::new(0);
    let reports: Mutex<BTreeMap<usize, Report>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, stage, case)) = tasks.get(index) else { return };
            let report = one(file, stage.get_or_init(|| Setting::read(file)), case, homes);
            reports.lock().insert(index, report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, tasks.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    reports.into_inner().into_values().collect()
}

#[allow(clippy::disallowed_methods)] // How long a test took is real time, and nothing depends on it.
fn one(file: &File, setting: &Setting, case: &Case, homes: &Homes) -> Report {
    let begun = std::time::Instant::now();
    let (failures, timeline) = match (setting, case.expect.invalid.as_slice()) {
        (Setting::Unreadable(why), _) => (vec![Failure::problem(why)], Vec::new()),
        (Setting::Refused { issues, .. }, expected @ [_, ..]) => {
            (check::invalid(expected, issues), Vec::new())
        }
        (Setting::Refused { rendered, .. }, []) => {
            (vec![Failure::problem("the workflow is refused").note(rendered)], Vec::new())
        }
        (Setting::Ready { issues, .. }, expected @ [_, ..]) => (check::invalid(expected, issues), Vec::new()),
        (Setting::Ready { stage, .. }, []) => in_virtual_time(case::perform(stage, case, homes))
            .unwrap_or_else(|error| (vec![Failure::problem(error)], Vec::new())),
    };
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Report { file: file.path.clone(), name: case.name.clone(), line: case.line, failures, timeline, millis }
}

/// Runs something on a clock that jumps to the next timer when nothing else can happen.
pub(crate) fn in_virtual_time<T>(play: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime
        .map(|runtime| runtime.block_on(play))
        .map_err(|error| format!("a runtime cannot be started: {error}"))
}

/// What the tests of a file that run its workflow stand on.
pub(crate) fn stage(file: &File) -> Result<Box<Stage>, String> {
    match Setting::read(file) {
        Setting::Ready { stage, .. } => Ok(stage),
        Setting::Refused { rendered, .. } => Err(format!("the workflow is refused: {rendered}")),
        Setting::Unreadable(why) => Err(why),
    }
}

/// What a file's tests stand on.
enum Setting {
    /// A file could not be read.
    Unreadable(String),
    /// The workflow has errors.
    Refused { issues: Vec<Issue>, rendered: String },
    /// The workflow is right, but for warnings.
    Ready { stage: Box<Stage>, issues: Vec<Issue> },
}

impl Setting {
    fn read(file: &File) -> Self {
        let path = file.workflow_path();
        match Self::load(&path) {
            Ok(setting) => setting,
            Err(why) => Self::Unreadable(why),
        }
    }

    fn load(path: &Path) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
        };
        let source = read(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut agents = Agents::load(folder)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let siblings = siblings(folder, path);
        let ids = siblings
            .iter()
            .chain([&path.to_owned()])
            .filter_map(|path| written_id(&read(path).ok()?, path))
            .collect();
        let (workflow, issues) = agents.parse(&source, &file, &ids);
        let Some(workflow) = workflow else {
            let rendered = model::render_issues(&source, &path.to_string_lossy(), &issues, false);
            return Ok(Self::Refused { issues, rendered });
        };
        let mut definitions = agents.definitions;
        definitions.push(of_workflow(&workflow, &source, &file));
        if workflow.states().any(|state| matches!(state.kind, Kind::Workflow(_))) {
            for sibling in siblings {
                let source = read(&sibling)?;
                let file = sibling.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let options = model::Options { file: &file, ..model::Options::default() };
                // One that is not right is not there; the state that needs it says so.
                if let Some(workflow) = model::parse(&source, &options).workflow {
                    definitions.push(of_workflow(&workflow, &source, &file));
                }
            }
        }
        let stage = Stage { workflow: Arc::new(workflow), definitions, agents: agents.defined };
        Ok(Self::Ready { stage: Box::new(stage), issues })
    }
}

fn of_workflow(workflow: &Workflow, source: &str, file: &str) -> Definition {
    let version = workflow.version.as_ref();
    case::definition(DefinitionKind::Workflow, &workflow.id, version, &workflow.hash, source, file)
}

/// The `id` in a workflow's file, if it can be read at all.
fn written_id(source: &str, path: &Path) -> Option<String> {
    let located = model::Located::parse(source, &path.to_string_lossy()).ok()?;
    let definition = located.value.get("definition").unwrap_or(&located.value);
    definition.get("id")?.as_str().map(str::to_owned)
}

/// The workflow files beside one.
fn siblings(folder: &Path, path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_workflow = |name: &str| {
        let stem = [".yaml", ".yml", ".json"].iter().find_map(|ending| name.strip_suffix(ending));
        stem.is_some_and(|stem| stem.rsplit_once('.').is_some_and(|(_, kind)| kind == "workflow"))
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| is_workflow(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|other| other.file_name() != path.file_name())
        .collect();
    paths.sort();
    paths
}

/// The agents that a workflow is read with: those defined beside it, and for all other names one that takes and gives
/// anything, because a test may have a stub for it.
struct Agents {
    defined: BTreeMap<Arc<str>, Arc<Agent>>,
    definitions: Vec<Definition>,
    others: BTreeMap<Arc<str>, Agent>,
}

impl Agents {
    fn load(folder: &Path) -> Result<Self, String> {
        let mut loaded = Self { defined: BTreeMap::new(), definitions: Vec::new(), others: BTreeMap::new() };
        let beside =
            if folder.file_name().is_some_and(|name| name == "workflows") { folder.parent() } else { None };
        let Some(folder) = [Some(folder), beside]
            .into_iter()
            .flatten()
            .map(|folder| folder.join("agents"))
            .find(|folder| folder.is_dir())
        else {
            return Ok(loaded);
        };
        let entries = std::fs::read_dir(&folder)
            .map_err(|error| format!("cannot read `{}`: {error}", folder.display()))?;
        let paths: BTreeSet<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
            // A file that defines no agent is none; whoever calls the agent learns that it is not there.
            let (Some(agent), _) = model::agent::parse(&source, &name) else { continue };
            let definition =
                case::definition(DefinitionKind::Agent, &agent.name, None, &agent.hash, &source, &name);
            loaded.definitions.push(definition);
            loaded.defined.insert(agent.name.clone(), Arc::new(agent));
        }
        Ok(loaded)
    }

    /// Reads the workflow twice: the first time shows which agents it calls.
    fn parse(&mut self, source: &str, file: &str, ids: &BTreeSet<String>) -> (Option<Workflow>, Vec<Issue>) {
        let first = model::parse(source, &model::Options { file, agents: None, workflows: Some(ids) });
        if self.defined.is_empty() {
            return (first.workflow, first.issues);
        }
        for state in first.workflow.iter().flat_map(Workflow::states) {
            if let Kind::Operation(operation) = &state.kind
                && let model::Action::Agent(name) = &operation.action
                && !self.defined.contains_key(name)
                && let (Some(agent), _) =
                    model::agent::parse("type: static\noutput: {}\n", &format!("{name}.agent.yaml"))
            {
                self.others.insert(name.clone(), agent);
            }
        }
        let second =
            model::parse(source, &model::Options { file, agents: Some(&*self), workflows: Some(ids) });
        (second.workflow, second.issues)
    }
}

impl AgentCatalog for Agents {
    fn agent(&self, name: &str) -> Option<&Agent> {
        self.defined.get(name).map(AsRef::as_ref).or_else(|| self.others.get(name))
    }

    fn names(&self) -> Vec<String> {
        self.defined.keys().chain(self.others.keys()).map(ToString::to_string).collect()
    }
}
