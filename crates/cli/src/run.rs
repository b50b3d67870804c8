//! `stepwell run`: one workflow file, once, with its progress on stderr and its output on stdout.

use std::collections::HashMap;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use engine::ApprovalRequested;
use engine::Event;
use expression::Value;
use model::Workflow;

use crate::args::Global;
use crate::args::Run;
use crate::client;
use crate::client::Client;
use crate::client::Server;
use crate::follow::Follower;
use crate::home::Home;
use crate::home::Work;
use crate::input;
use crate::output;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::output::plain;
use crate::project;
use crate::project::Agents;
use crate::runs::text;
use crate::serve;
use crate::sync;

pub(crate) fn run(args: &Run, global: &Global, output: Output) -> Result<Exit, Failure> {
    serve::log(output);
    let prepared = Prepared::read(args, output)?;
    let wait = args.wait.as_deref().map(duration).transpose()?;
    let runtime = client::runtime()?;
    let result = runtime.block_on(async {
        let temporary = Temporary::make(global)?;
        let client = prepared.connect(global, temporary.as_ref()).await?;
        let result = Box::pin(follow(args, &prepared, &client, wait, temporary.is_some(), output)).await;
        client.close().await;
        result
    });
    // A thread may still wait for an answer on the terminal.
    runtime.shutdown_background();
    result
}

fn duration(text: &str) -> Result<Duration, Failure> {
    let millis = model::parse_duration(text).map_err(|error| {
        Failure::new("BAD_DURATION", format!("--wait: {error}")).hint(model::DURATION_HELP)
    })?;
    Ok(Duration::from_millis(millis.0))
}

/// A folder for a database that nobody needs afterwards; removed when dropped.
struct Temporary {
    folder: tempfile::TempDir,
}

impl Temporary {
    /// Unless the run goes into a database or to a server that was named.
    fn make(global: &Global) -> Result<Option<Self>, Failure> {
        if global.db.is_some() || global.endpoint.is_some() || global.stack.is_some() {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("stepwell-").tempdir();
        let folder = folder.map_err(|error| {
            Failure::new("STORE_PATH", format!("cannot make a temporary folder: {error}"))
        })?;
        Ok(Some(Self { folder }))
    }
}

/// The file, read and found to be right.
struct Prepared {
    source: String,
    file: String,
    workflow: Workflow,
    input: Value,
    /// Where its agents are, and where their relative paths begin.
    agents: Option<Agents>,
    folder: std::path::PathBuf,
}

impl Prepared {
    fn read(args: &Run, output: Output) -> Result<Self, Failure> {
        let source = project::read(&args.file)?;
        let folder = project::agents_folder(&args.file);
        let agents = folder.as_deref().map(Agents::load).transpose()?;
        for agent in agents.iter().flat_map(|agents| &agents.files).filter(|agent| agent.name.is_none()) {
            output.note(model::render_issues(
                &agent.source,
                &agent.path.to_string_lossy(),
                &agent.issues,
                output.err.0,
            ));
        }
        let file = args.file.to_string_lossy().into_owned();
        let catalog = agents.as_ref().map(|agents| agents as &dyn model::AgentCatalog);
        let parsed = model::parse(&source, &model::Options { file: &file, agents: catalog, workflows: None });
        if !parsed.issues.is_empty() && !args.quiet {
            output.note(model::render_issues(&source, &file, &parsed.issues, output.err.0));
        }
        let Some(workflow) = parsed.workflow else {
            return Err(Failure::new(
                "DEFINITION_INVALID",
                format!("`{file}` has errors; nothing was started"),
            ));
        };
        let input = input::object(&args.input, "--input")?;
        let folder = folder.as_deref().and_then(Path::parent).or(args.file.parent());
        let folder =
            folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Ok(Self { source, file, workflow, input, agents, folder })
    }

    /// The server that was named or that holds the database, else the database itself with workers at work.
    async fn connect(&self, global: &Global, temporary: Option<&Temporary>) -> Result<Client, Failure> {
        if let Some(server) = Server::named(global).await? {
            return Ok(Client::Server(server));
        }
        let database = match (&global.db, temporary) {
            (_, Some(temporary)) => temporary.folder.path().join("run.db"),
            (Some(database), None) => database.clone(),
            (None, None) => return Err(Failure::new("STORE_PATH", "there is no database to run in")),
        };
        if database.exists()
            && let Some(address) = sqlite::holder(&database)?.and_then(|holder| holder.address)
        {
            return Ok(Client::Server(Server::at(&address)?));
        }
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let mut home = Home::open(&database, &folder)?;
        sync::agents(&home.runtime, self.agents.iter().flat_map(|agents| &agents.files), &folder).await?;
        sync::siblings(&home.runtime, &self.workflow, Path::new(&self.file)).await?;
        home.start(Work { schedules: false, grace: Duration::from_secs(2) });
        Ok(Client::Here(Box::new(home)))
    }
}

async fn follow(
    args: &Run,
    prepared: &Prepared,
    client: &Client,
    wait: Option<Duration>,
    temporary: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let run = start(args, prepared, client).await?;
    if !args.quiet {
        output.note(format_args!("run {}", output.err.bold(&run)));
    }
    let mut follower = Follower::new(&run);
    let mut desk = Desk::new(args, &run, temporary, output);
    let work = async {
        loop {
            let news = follower.next(client).await?;
            for told in &news {
                if !args.quiet && !told.is_detail() {
                    output.note(told.text(output.err));
                }
                desk.notice(told.event.as_ref());
            }
            if follower.ended().is_some() {
                return Ok::<(), Failure>(());
            }
            desk.answer(client).await?;
            follower.pause().await;
        }
    };
    let stopped = async {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = work => result?,
        () = stopped => {}
        () = interrupted() => {
            let where_to = if client.is_server() { "the run goes on" } else { "the run goes on when its database is served" };
            output.note(if temporary { "interrupted; the run is gone with its temporary database" } else { where_to });
        }
    }
    let document = client.get(&format!("/workflow-runs/{}", Client::segment(&run))).await?;
    report(&document, output)?;
    Ok(Exit::of_status(text(&document, "status")))
}

/// Whoever ends this command ends what it performs: by Ctrl-C, by `kill`, or with the terminal.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        use tokio::signal::unix::signal;
        if let (Ok(mut terminate), Ok(mut hangup)) =
            (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

async fn start(args: &Run, prepared: &Prepared, client: &Client) -> Result<String, Failure> {
    let definition = serde_json::to_value(&prepared.workflow.definition).map(Value::from).unwrap_or_default();
    let mut path = format!("/workflows/{}", Client::segment(&prepared.workflow.id));
    if args.new_version {
        path.push_str("?newVersion=true");
    }
    let registered = match client {
        // The text itself, so that what a run pinned can be read as it was written.
        Client::Here(home) => {
            sync::workflow(&home.runtime, &prepared.source, &prepared.file, args.new_version).await?
        }
        Client::Server(_) => client.call(Method::PUT, &path, Some(&definition), None).await?.1,
    };
    let body = output::object([
        ("workflowId", (&*prepared.workflow.id).into()),
        ("version", registered.get("version").cloned().unwrap_or_default()),
        ("input", prepared.input.clone()),
        ("starter", input::user(args.approver.as_deref()).into()),
    ]);
    let (_, started) = client.call(Method::POST, "/workflow-runs", Some(&body), args.key.as_deref()).await?;
    Ok(text(&started, "runId").to_owned())
}

/// The output on stdout; with `--output json` the whole run. What went wrong on stderr.
fn report(run: &Value, output: Output) -> Result<(), Failure> {
    let status = text(run, "status");
    if output.json {
        output.json(&crate::runs::without(run, &["context"]))?;
    } else if let Some(result) = run.get("output") {
        output.value(result)?;
    }
    if let (Some(error), false) = (run.get("error"), output.json) {
        output.note(format_args!(
            "{} {}: {}",
            output.err.status(status),
            text(error, "type"),
            plain(text(error, "message"))
        ));
        if let Some(code) = error.get("code").and_then(Value::as_str) {
            output.note(format_args!("  see docs/errors/{code}.md"));
        }
    } else if status != "COMPLETED" && !output.json {
        output.note(output.err.status(status));
    }
    Ok(())
}

/// What the run asks, and how it is answered.
struct Desk<'a> {
    args: &'a Run,
    run: &'a str,
    temporary: bool,
    output: Output,
    /// Questions that nobody has answered yet.
    open: Vec<ApprovalRequested>,
    /// Being asked on the terminal.
    asking: Option<(ApprovalRequested, tokio::task::JoinHandle<Option<String>>)>,
    votes: HashMap<String, usize>,
}

impl<'a> Desk<'a> {
    fn new(args: &'a Run, run: &'a str, temporary: bool, output: Output) -> Self {
        Self { args, run, temporary, output, open: Vec::new(), asking: None, votes: HashMap::new() }
    }

    fn notice(&mut self, event: Option<&Event>) {
        // That one was settled meanwhile is seen when it is answered: it is refused then, and left.
        if let Some(Event::ApprovalRequested(request)) = event {
            self.open.push((**request).clone());
        }
    }

    /// Answers what is open, as far as anybody can.
    async fn answer(&mut self, client: &Client) -> Result<(), Failure> {
        if self.args.yes {
            for request in std::mem::take(&mut self.open) {
                for approver in self.approvers(&request) {
                    self.decide(client, &request, true, &approver, None).await?;
                }
            }
            return Ok(());
        }
        if let Some((request, answer)) = self.asking.take() {
            if !answer.is_finished() {
                self.asking = Some((request, answer));
                return Ok::<(), Failure>(());
            }
            let line = answer.await.ok().flatten();
            let approver = input::user(self.args.approver.as_deref());
            match line.as_deref().map(str::trim) {
                Some("y" | "Y" | "yes") => self.decide(client, &request, true, &approver, None).await?,
                Some("n" | "N" | "no") => self.decide(client, &request, false, &approver, None).await?,
                Some(line) if line.starts_with("n ") || line.starts_with("no ") => {
                    let why = line.split_once(' ').map(|(_, why)| why.trim());
                    self.decide(client, &request, false, &approver, why).await?;
                }
                Some(_) => self.open.insert(0, request),
                // The end of the terminal's input.
                None => return Err(Self::unanswerable(&request)),
            }
        }
        if self.asking.is_none() && !self.open.is_empty() {
            let request = self.open.remove(0);
            if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
                // While this process holds the database, nobody else can answer.
                if self.temporary || !client.is_server() {
                    return Err(Self::unanswerable(&request));
                }
                self.output.note(format_args!(
                    "waits for approval: {}\n  stepwell approve {} {}",
                    plain(&request.message),
                    self.run,
                    request.id
                ));
                return Ok::<(), Failure>(());
            }
            let paint = self.output.err;
            let title =
                request.title.as_deref().map_or_else(String::new, |title| format!("{}\n", plain(title)));
            if let Some(summary) = &request.summary {
                self.output.note(serde_json::to_string_pretty(summary).unwrap_or_default());
            }
            let question = format!(
                "{title}{} {}",
                paint.yellow(&plain(&request.message)),
                paint.dim("[y]es, [n]o, n WHY: ")
            );
            self.asking = Some((request, tokio::task::spawn_blocking(move || ask(&question))));
        }
        Ok(())
    }

    /// In whose names a question is approved under `--yes`: as given, else as it asks.
    fn approvers(&self, request: &ApprovalRequested) -> Vec<String> {
        if self.args.approver.is_some() || request.approvers.is_empty() {
            return vec![input::user(self.args.approver.as_deref())];
        }
        let quorum = usize::try_from(request.quorum).unwrap_or(usize::MAX);
        request.approvers.iter().take(quorum).map(ToString::to_string).collect()
    }

    async fn decide(
        &mut self,
        client: &Client,
        request: &ApprovalRequested,
        approve: bool,
        approver: &str,
        comment: Option<&str>,
    ) -> Result<(), Failure> {
        *self.votes.entry(request.id.to_string()).or_default() += 1;
        let mut body = output::object([("approver", approver.into())]);
        if let Some(object) = body.object_mut() {
            if let Some(comment) = comment {
                object.insert("comment", comment);
            }
            if approver.starts_with("team:") {
                object.insert("approver", input::user(None));
                object.insert("teams", Value::from(vec![approver]));
            }
        }
        let verb = if approve { "approve" } else { "reject" };
        let path = format!(
            "/workflow-runs/{}/approvals/{}/{verb}",
            Client::segment(self.run),
            Client::segment(&request.id)
        );
        match client.post(&path, &body).await {
            Ok(_) => Ok(()),
            // Somebody else was first, or its time was over: the run says how it went on.
            Err(failure) if failure.code == "APPROVAL_SETTLED" => Ok(()),
            Err(failure) if self.args.yes => Err(failure),
            Err(failure) => {
                self.output.failure(&failure);
                Ok(())
            }
        }
    }

    fn unanswerable(request: &ApprovalRequested) -> Failure {
        Failure::new(
            "APPROVAL_UNANSWERABLE",
            format!("the run asks, and nobody can answer here: {}", plain(&request.message)),
        )
        .hint("use --yes or a terminal; a run with --db waits in its database: `stepwell serve`, then `stepwell approve`")
    }
}

/// Asks on the terminal; `None` at the end of its input.
fn ask(question: &str) -> Option<String> {
    let mut error = std::io::stderr().lock();
    let _ = write!(error, "{question}");
    let _ = error.flush();
    drop(error);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).ok()?;
    (read > 0).then_some(line)
}
