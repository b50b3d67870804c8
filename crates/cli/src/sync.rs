//! `stepwell sync`: a project's files become definitions in the catalog.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use expression::Value;
use model::Issue;
use model::Kind;
use model::Workflow;
use runtime::RegisterError;
use runtime::Runtime;
use runtime::ports::DefinitionKind;
use runtime::ports::PageRequest;
use serde::Serialize;

use crate::args::Global;
use crate::args::Sync;
use crate::client;
use crate::client::Client;
use crate::client::Server;
use crate::deploy;
use crate::home;
use crate::home::Home;
use crate::output;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::project;
use crate::project::AgentFile;
use crate::project::Agents;
use crate::project::FileKind;

pub(crate) fn run(args: &Sync, global: &Global, output: Output) -> Result<Exit, Failure> {
    let project = Project::at(&args.dir)?;
    let options = Options { new_version: args.new_version, prune: true, check: args.check };
    let database = global.db.clone().unwrap_or_else(|| args.dir.join(home::DEFAULT_DATABASE));
    let report = client::runtime()?.block_on(async {
        let server = match Server::named(global).await? {
            Some(server) => Some(server),
            None if database.exists() => {
                let address = sqlite::holder(&database)?.and_then(|holder| holder.address);
                address.as_deref().map(Server::at).transpose()?
            }
            None => None,
        };
        if let Some(server) = server {
            return remote(&Client::Server(server), &project, options).await;
        }
        let home = Home::open(&database, &project.folder)?;
        let report = project.sync(&Catalog::Here(&home.runtime), options).await;
        home.close().await;
        serde_json::to_value(report?)
            .map(Value::from)
            .map_err(|error| Failure::new("RESULT_NOT_JSON", error.to_string()))
    })?;
    ended(&report, args.check, output)
}

/// Says what was done, or would be, and how the command ends.
pub(crate) fn told(report: &Report, check: bool, output: Output) -> Result<Exit, Failure> {
    let report =
        serde_json::to_value(report).map_err(|error| Failure::new("RESULT_NOT_JSON", error.to_string()))?;
    ended(&Value::from(report), check, output)
}

fn ended(report: &Value, check: bool, output: Output) -> Result<Exit, Failure> {
    show(report, output)?;
    let wrong = ["invalid", "refused"].iter().any(|change| count(report, change) > 0);
    let changed = count(report, "unchanged") < crate::runs::items(report).len();
    Ok(if wrong || (check && changed) { Exit::Refused } else { Exit::Done })
}

/// Through a server: it reads its own project, so nothing can be registered over the network that is not in its files.
async fn remote(client: &Client, project: &Project, options: Options) -> Result<Value, Failure> {
    let served = client.get("/sync").await.map_err(|failure| match failure.code.as_str() {
        "NO_PROJECT_SERVED" => {
            failure.hint("start it with `stepwell serve --project DIR`; a stack takes `stepwell deploy`")
        }
        _ => failure,
    })?;
    let folder = served.get("project").and_then(Value::as_str).unwrap_or_default();
    if Path::new(folder) != project.folder {
        return Err(Failure::new(
            "SYNC_OTHER_PROJECT",
            format!("the running server serves the project `{folder}`, not `{}`", project.folder.display()),
        )
        .hint("start it with --project, or stop it and sync again"));
    }
    let body = output::object([("newVersion", options.new_version.into()), ("check", options.check.into())]);
    client.post("/sync", &body).await
}

fn count(report: &Value, change: &str) -> usize {
    crate::runs::items(report).iter().filter(|item| crate::runs::text(item, "change") == change).count()
}

fn show(report: &Value, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.json(report);
    }
    for item in crate::runs::items(report) {
        let text = |key: &str| crate::runs::text(item, key);
        let change = format!("{:<10}", text("change"));
        let painted = match text("change") {
            "created" => output.out.green(&change),
            "unchanged" => output.out.dim(&change),
            "disabled" => output.out.yellow(&change),
            _ => output.out.red(&change),
        };
        output.text(format_args!("{painted} {:<8} {} {}", text("kind"), text("id"), text("version")));
        if let Some(message) = item.get("message").and_then(Value::as_str) {
            output.note(message.trim_end());
        }
    }
    Ok(())
}

/// What may be changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Changed content under the same version becomes a new version.
    pub(crate) new_version: bool,
    /// What came from files that the project does not have takes no new runs.
    pub(crate) prune: bool,
    /// Nothing is changed; what would be is said.
    pub(crate) check: bool,
}

/// A folder with `workflows/` and `agents/`.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// The folder, absolute.
    pub(crate) folder: PathBuf,
    workflows: PathBuf,
    agents: Option<PathBuf>,
}

/// What syncing did.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) items: Vec<Item>,
}

/// What happened to one definition.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// `created`, `unchanged`, `disabled`, `refused` (its version exists with other content), `invalid`.
    pub(crate) change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl Project {
    /// The project in this folder; it must have `workflows/`.
    pub(crate) fn at(folder: &Path) -> Result<Self, Failure> {
        let absolute = absolute(folder)?;
        let workflows = absolute.join("workflows");
        if !workflows.is_dir() {
            return Err(Failure::new(
                "NO_PROJECT",
                format!("`{}` is no project: it has no folder workflows/", folder.display()),
            )
            .hint("put *.workflow.yaml files into workflows/ and agents beside it into agents/"));
        }
        let agents = Some(absolute.join("agents")).filter(|agents| agents.is_dir());
        Ok(Self { folder: absolute, workflows, agents })
    }

    /// A folder of workflows with `agents/` in or beside it.
    pub(crate) fn of_workflows(folder: &Path) -> Result<Self, Failure> {
        let workflows = absolute(folder)?;
        let agents = project::agents_folder(&workflows.join("any.workflow.yaml"));
        let root = agents.as_deref().and_then(Path::parent).unwrap_or(&workflows).to_owned();
        Ok(Self { folder: root, workflows, agents })
    }

    /// Registers what is new; disables what is gone, if asked to.
    pub(crate) async fn sync(&self, catalog: &Catalog<'_>, options: Options) -> Result<Report, Failure> {
        let mut items = Vec::new();
        let agents = self.agents.as_deref().map(Agents::load).transpose()?.unwrap_or_default();
        let mut found = BTreeSet::new();
        for file in &agents.files {
            let name = file.name.clone().unwrap_or_else(|| self.relative(&file.path));
            found.insert((DefinitionKind::Agent.name(), name));
            items.push(self.agent(catalog, file, options).await?);
        }
        let paths = project::find(std::slice::from_ref(&self.workflows), &[FileKind::Workflow])?;
        let mut sources = Vec::with_capacity(paths.len());
        for path in paths {
            let source = project::read(&path)?;
            sources.push((path, source));
        }
        let ids: BTreeSet<String> =
            sources.iter().filter_map(|(path, source)| project::workflow_id(source, path)).collect();
        found.extend(ids.iter().map(|id| (DefinitionKind::Workflow.name(), id.clone())));
        for (path, source) in &sources {
            let file = self.relative(path);
            let known = self.agents.is_some().then_some(&agents as &dyn model::AgentCatalog);
            let parsed =
                model::parse(source, &model::Options { file: &file, agents: known, workflows: Some(&ids) });
            items.push(match parsed.workflow {
                Some(workflow) => self.workflow(catalog, source, &file, &workflow, options).await?,
                None => invalid(
                    "workflow",
                    &project::workflow_id(source, path).unwrap_or_else(|| file.clone()),
                    &file,
                    source,
                    &parsed.issues,
                ),
            });
        }
        // A file that cannot be read may be any of those that seem gone.
        let broken = items.iter().any(|item: &Item| item.change == "invalid");
        let kinds = [DefinitionKind::Agent, DefinitionKind::Workflow];
        for kind in kinds.into_iter().filter(|_| options.prune && !broken) {
            Self::disable(catalog, kind, &found, options, &mut items).await?;
        }
        Ok(Report { items })
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned()
    }
}

impl Project {
    async fn agent(
        &self,
        catalog: &Catalog<'_>,
        file: &AgentFile,
        options: Options,
    ) -> Result<Item, Failure> {
        let path = self.relative(&file.path);
        let (Some(name), (Some(agent), _)) = (&file.name, model::agent::parse(&file.source, &path)) else {
            return Ok(invalid("agent", &path, &path, &file.source, &file.issues));
        };
        if options.check {
            if let Some(message) = catalog.refusal(Parsed::Agent(&agent)) {
                return Ok(Item {
                    message: Some(message),
                    ..Item::new("agent", name, None, "refused", &path)
                });
            }
            let known = catalog.known(DefinitionKind::Agent, name, None).await?;
            let same = known.is_some_and(|known| known.hash == *agent.hash && !known.disabled);
            return Ok(Item::new("agent", name, None, if same { "unchanged" } else { "created" }, &path));
        }
        register(catalog, DefinitionKind::Agent, name, &file.source, &path, options).await
    }

    async fn workflow(
        &self,
        catalog: &Catalog<'_>,
        source: &str,
        file: &str,
        workflow: &Workflow,
        options: Options,
    ) -> Result<Item, Failure> {
        let id = &*workflow.id;
        if options.check {
            let version = workflow.version.as_deref();
            if let Some(message) = catalog.refusal(Parsed::Workflow(workflow)) {
                let item = Item::new("workflow", id, version, "refused", file);
                return Ok(Item { message: Some(message), ..item });
            }
            let known = catalog.known(DefinitionKind::Workflow, id, version).await?;
            let change = match &known {
                Some(known) if known.hash == *workflow.hash && !known.disabled => "unchanged",
                Some(known) if known.hash != *workflow.hash && version.is_some() && !options.new_version => {
                    "refused"
                }
                _ => "created",
            };
            return Ok(Item::new("workflow", id, version, change, file));
        }
        register(catalog, DefinitionKind::Workflow, id, source, file, options).await
    }

    /// What came from a file that is gone takes no new runs. What came over the API stays.
    async fn disable(
        catalog: &Catalog<'_>,
        kind: DefinitionKind,
        found: &BTreeSet<(&'static str, String)>,
        options: Options,
        items: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        for gone in catalog.listed(kind).await? {
            if found.contains(&(kind.name(), gone.id.clone())) {
                continue;
            }
            if !options.check {
                catalog.set_disabled(kind, &gone.id, true).await?;
            }
            items.push(Item::new(kind.name(), &gone.id, gone.version.as_deref(), "disabled", &gone.file));
        }
        Ok(())
    }
}

async fn register(
    catalog: &Catalog<'_>,
    kind: DefinitionKind,
    id: &str,
    source: &str,
    file: &str,
    options: Options,
) -> Result<Item, Failure> {
    let item = |change, message| Item { message, ..Item::new(kind.name(), id, None, change, file) };
    Ok(match catalog.register(kind, id, source, file, options.new_version).await? {
        Outcome::Registered { created, version, disabled } => {
            // A file that came back.
            if disabled {
                catalog.set_disabled(kind, id, false).await?;
            }
            Item { version, ..item(if created || disabled { "created" } else { "unchanged" }, None) }
        }
        Outcome::Invalid(message) => item("invalid", Some(message)),
        Outcome::Refused(message) => item("refused", Some(message)),
    })
}

/// Where definitions go.
pub(crate) enum Catalog<'a> {
    /// Into the database that this process holds.
    Here(&'a Runtime),
    /// Over the API of a server, which is of this kind.
    There(&'a Client, http_api::Home),
}

/// A definition that was read from a file.
#[derive(Clone, Copy)]
pub(crate) enum Parsed<'a> {
    Workflow(&'a Workflow),
    Agent(&'a model::Agent),
}

/// A definition as the catalog has it.
pub(crate) struct Known {
    pub(crate) hash: String,
    pub(crate) disabled: bool,
}

/// A definition that came from a file and takes runs.
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) version: Option<String>,
    pub(crate) file: String,
}

/// What registering led to.
pub(crate) enum Outcome {
    Registered {
        created: bool,
        version: Option<String>,
        disabled: bool,
    },
    /// With what is wrong.
    Invalid(String),
    /// With the reason.
    Refused(String),
}

impl Catalog<'_> {
    /// Why a definition that is right would be refused.
    fn refusal(&self, parsed: Parsed<'_>) -> Option<String> {
        match self {
            Self::Here(_) => None,
            Self::There(_, home) => deploy::check(home, parsed),
        }
    }

    async fn known(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Known>, Failure> {
        match self {
            Self::Here(runtime) => {
                let known = runtime.definition(kind, id, version).await?;
                Ok(known.map(|known| Known { hash: known.hash.to_string(), disabled: known.disabled }))
            }
            Self::There(client, _) => deploy::known(client, kind, id, version).await,
        }
    }

    async fn register(
        &self,
        kind: DefinitionKind,
        id: &str,
        source: &str,
        file: &str,
        new_version: bool,
    ) -> Result<Outcome, Failure> {
        let runtime = match self {
            Self::Here(runtime) => runtime,
            Self::There(client, _) => {
                return deploy::register(client, kind, id, source, file, new_version).await;
            }
        };
        match runtime.register(kind, source, Some(file), new_version).await {
            Ok(registration) => Ok(Outcome::Registered {
                created: registration.created,
                version: registration.definition.version.as_deref().map(str::to_owned),
                disabled: registration.definition.disabled,
            }),
            Err(RegisterError::Store(error)) => Err(error.into()),
            Err(RegisterError::Invalid { issues }) => {
                Ok(Outcome::Invalid(model::render_issues(source, file, &issues, false)))
            }
            Err(error @ RegisterError::VersionTaken { .. }) => Ok(Outcome::Refused(format!(
                "error[{}]: {error}\n  hint: change `version`, or sync with --new-version",
                error.code()
            ))),
        }
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<(), Failure> {
        match self {
            Self::Here(runtime) => {
                runtime.set_disabled(kind, id, disabled).await?;
                Ok(())
            }
            Self::There(client, _) => deploy::set_disabled(client, kind, id, disabled).await,
        }
    }

    async fn listed(&self, kind: DefinitionKind) -> Result<Vec<Listed>, Failure> {
        let runtime = match self {
            Self::Here(runtime) => runtime,
            Self::There(client, _) => return deploy::listed(client, kind).await,
        };
        let mut found = Vec::new();
        let mut page = PageRequest { limit: 500, cursor: None };
        loop {
            let listed = runtime.definitions(kind, &page).await?;
            found.extend(listed.items.into_iter().filter(|definition| !definition.disabled).filter_map(
                |definition| {
                    let file = definition.file?.to_string();
                    let version = definition.version.as_deref().map(str::to_owned);
                    Some(Listed { id: definition.id.to_string(), version, file })
                },
            ));
            match listed.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(found),
            }
        }
    }
}

impl Item {
    fn new(kind: &'static str, id: &str, version: Option<&str>, change: &'static str, file: &str) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            version: version.map(str::to_owned),
            change,
            file: Some(file.to_owned()),
            message: None,
        }
    }
}

fn invalid(kind: &'static str, id: &str, file: &str, source: &str, issues: &[Issue]) -> Item {
    let message = model::render_issues(source, file, issues, false);
    Item { message: Some(message), ..Item::new(kind, id, None, "invalid", file) }
}

/// The names of kinds, as they are printed.
trait Named {
    fn name(self) -> &'static str;
}

impl Named for DefinitionKind {
    fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Agent => "agent",
        }
    }
}

/// Registers the agents of a folder for a run of one file.
pub(crate) async fn agents<'a>(
    runtime: &Runtime,
    files: impl Iterator<Item = &'a AgentFile>,
    folder: &Path,
) -> Result<(), Failure> {
    for file in files.filter(|file| file.name.is_some()) {
        let path = absolute(&file.path)?;
        let path = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let registered = runtime.register(DefinitionKind::Agent, &file.source, Some(&path), true).await;
        registered.map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// Registers one workflow for a run of it; the answer is that of the API.
pub(crate) async fn workflow(
    runtime: &Runtime,
    source: &str,
    file: &str,
    new_version: bool,
) -> Result<Value, Failure> {
    let registration = runtime.register(DefinitionKind::Workflow, source, Some(file), new_version).await;
    let registration = registration.map_err(|error| refused(&error))?;
    let definition = registration.definition;
    if definition.disabled {
        runtime.set_disabled(DefinitionKind::Workflow, &definition.id, false).await?;
    }
    Ok(output::object([("version", definition.version.into())]))
}

/// Registers the workflows beside a file, if it runs others as children.
pub(crate) async fn siblings(runtime: &Runtime, workflow: &Workflow, file: &Path) -> Result<(), Failure> {
    if !workflow.states().any(|state| matches!(state.kind, Kind::Workflow(_))) {
        return Ok(());
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if FileKind::of(&path) != Some(FileKind::Workflow) || path.file_name() == file.file_name() {
            continue;
        }
        // One that is not right is not there; the state that needs it says so.
        let source = project::read(&path)?;
        let _ = runtime.register(DefinitionKind::Workflow, &source, path.to_str(), true).await;
    }
    Ok(())
}

fn refused(error: &RegisterError) -> Failure {
    let failure = Failure::new(error.code(), error.to_string());
    match error {
        RegisterError::VersionTaken { .. } => failure.hint("change `version`, or use --new-version"),
        RegisterError::Invalid { issues } => match issues.iter().find(|issue| issue.is_error()) {
            Some(first) => failure.hint(first.to_string()),
            None => failure,
        },
        RegisterError::Store(_) => failure,
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| {
        Failure::new("FILE_UNREADABLE", format!("cannot open `{}`: {error}", path.display()))
    })
}
