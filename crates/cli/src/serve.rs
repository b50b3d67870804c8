//! `stepwell serve`: the API and the workers over one database, until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expression::Value;
use http_api::Error as ApiError;

use crate::args::Global;
use crate::args::Serve;
use crate::home;
use crate::home::Home;
use crate::home::Work;
use crate::output;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::sync;
use crate::sync::Catalog;
use crate::sync::Options;
use crate::sync::Project;

pub(crate) fn run(args: &Serve, global: &Global, output: Output) -> Result<Exit, Failure> {
    log(output);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("SYSTEM", format!("cannot start: {error}")))?;
    runtime.block_on(serve(args, global, output))
}

async fn serve(args: &Serve, global: &Global, output: Output) -> Result<Exit, Failure> {
    let project = match (&args.project, &args.workflows) {
        (Some(folder), _) => Some(Project::at(folder)?),
        (None, Some(folder)) => Some(Project::of_workflows(folder)?),
        (None, None) if Path::new("workflows").is_dir() => Some(Project::at(Path::new("."))?),
        (None, None) => None,
    };
    let database = match (&global.db, &args.project) {
        (None, Some(folder)) => folder.join(home::DEFAULT_DATABASE),
        _ => home::database(global),
    };
    // The address first: a wrong one is found before anything is touched.
    let listener = http_api::bind(&args.listen).await.map_err(Failure::from)?;
    let folder = match &project {
        Some(project) => project.folder.clone(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    let mut home = Home::open(&database, &folder)?;
    if let Some(project) = &project {
        let options = Options { new_version: args.new_version, prune: true, check: false };
        let report = project.sync(&Catalog::Here(&home.runtime), options).await?;
        announce(&report, output);
    }
    home.start(Work { schedules: true, grace: Duration::from_secs(args.grace) });
    let address = listener
        .local_addr()
        .map_err(|error| Failure::new("ADDRESS_UNAVAILABLE", format!("the address is unknown: {error}")))?;
    let address = format!("http://{address}");
    home.store.publish_address(&address)?;
    let api = home.api.clone();
    let api = match project {
        Some(project) => api.with_project(Arc::new(Served { project, runtime: home.runtime.clone() })),
        None => api,
    };
    if output.json {
        output.json(&output::object([
            ("address", address.into()),
            ("database", home.store.path().to_string_lossy().into_owned().into()),
        ]))?;
    } else {
        output.text(&address);
        output.note(format_args!("serving {} at {address}", home.store.path().display()));
    }
    http_api::serve(listener, api, stop(output)).await;
    home.close().await;
    output.note("stopped");
    Ok(Exit::Done)
}

fn announce(report: &sync::Report, output: Output) {
    for item in report.items.iter().filter(|item| item.change != "unchanged") {
        let version = item.version.as_deref().unwrap_or_default();
        output.note(format_args!("{:<10} {:<8} {} {version}", item.change, item.kind, item.id));
        if let Some(message) = &item.message {
            output.note(message.trim_end());
        }
    }
}

/// Until somebody wants it to end: SIGTERM, or Ctrl-C.
async fn stop(output: Output) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        use tokio::signal::unix::signal;
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            output.note("stopping: what is being performed may finish");
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
    output.note("stopping: what is being performed may finish");
}

/// The project that a server was started with.
struct Served {
    project: Project,
    runtime: runtime::Runtime,
}

#[async_trait]
impl http_api::Project for Served {
    fn folder(&self) -> String {
        self.project.folder.to_string_lossy().into_owned()
    }

    async fn sync(&self, new_version: bool, check: bool) -> Result<Value, ApiError> {
        let report = self
            .project
            .sync(&Catalog::Here(&self.runtime), Options { new_version, prune: true, check })
            .await;
        let report = report.map_err(|failure| ApiError::internal(&failure.code, failure.message))?;
        serde_json::to_value(report)
            .map(Value::from)
            .map_err(|error| ApiError::internal("RESULT_NOT_JSON", error.to_string()))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { code: error.code, message: error.message, hint: error.hint, details: error.details }
    }
}

/// Logs go to stderr, as text or as JSON, from the level that `STEPWELL_LOG` says; unless it is set, warnings and what
/// workflows log.
pub(crate) fn log(output: Output) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("STEPWELL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,stepwell::workflow=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output.err.0);
    let set = if output.json { builder.json().try_init() } else { builder.try_init() };
    if let Err(error) = set {
        output.note(format_args!("logging cannot be set up: {error}"));
    }
}
