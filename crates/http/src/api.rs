//! Every path and what it does.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use engine::RunId;
use engine::Vote;
use expression::Value;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use model::Millis;
use runtime::RunView;
use runtime::Runtime;
use runtime::SignalRequest;
use runtime::StartRequest;
use runtime::Started;
use runtime::ports::ApprovalFilter;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use runtime::ports::RunStatus;
use runtime::ports::Secrets;
use tokio::sync::watch;

use crate::Error;
use crate::Home;
use crate::definitions;
use crate::documents;
use crate::documents::List;
use crate::error::json;
use crate::extract::IdempotencyKey;
use crate::extract::Json;
use crate::extract::Parameters;
use crate::extract::Segments;
use crate::hooks;
use crate::hooks::Hooks;
use crate::server::told;

/// Requests that wait for the end of a run at once.
const MAX_WAITING: usize = 10_000;
/// Nobody waits longer with one request.
pub(crate) const MAX_WAIT: Duration = Duration::from_mins(10);
/// Rows of a list, unless asked for fewer.
const DEFAULT_LIMIT: usize = 50;
/// Rows of a list at most.
pub(crate) const MAX_LIMIT: usize = 1_000;

/// The API over one runtime. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    service: TowerToHyperService<Router>,
}

pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) given: Given,
    pub(crate) hooks: Hooks,
    waiting: AtomicUsize,
    /// True once nobody is to be waited for any more.
    stopping: watch::Sender<bool>,
}

/// What a home gives its API besides the runtime.
#[derive(Clone)]
pub(crate) struct Given {
    routes: Routes,
    project: Option<Arc<dyn Project>>,
    pub(crate) secrets: Option<Arc<dyn Secrets>>,
    pub(crate) home: Home,
}

impl Given {
    fn of(routes: Routes) -> Self {
        Self { routes, project: None, secrets: None, home: Home::default() }
    }
}

/// The files that a server was started with. It reads them itself, so that nothing can be registered over the network
/// (a program to run, above all) that does not stand in them.
#[async_trait]
pub trait Project: Send + Sync + 'static {
    /// Where they are.
    fn folder(&self) -> String;

    /// Registers what is new and disables what is gone, or with `check` only says so; answers with what it did.
    async fn sync(&self, new_version: bool, check: bool) -> Result<Value, Error>;
}

impl Api {
    /// The API over `runtime`, of a home that is embedded: nothing but workflows can be registered over it.
    pub fn new(runtime: Runtime) -> Self {
        Self::over(runtime, Given::of(everything))
    }

    /// The part of it that starts runs: by `POST /api/v1/workflow-runs` and by webhooks.
    pub fn of_starts(runtime: Runtime) -> Self {
        Self::over(runtime, Given::of(starts))
    }

    /// The part of it that records people's decisions.
    pub fn of_decisions(runtime: Runtime) -> Self {
        Self::over(runtime, Given::of(decisions))
    }

    /// The same, for a server that was started with a project.
    #[must_use]
    pub fn with_project(self, project: Arc<dyn Project>) -> Self {
        let given = Given { project: Some(project), ..self.shared.given.clone() };
        Self::over(self.shared.runtime.clone(), given)
    }

    /// The same, with the secrets by which webhooks are signed; without them none is received.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<dyn Secrets>) -> Self {
        let given = Given { secrets: Some(secrets), ..self.shared.given.clone() };
        Self::over(self.shared.runtime.clone(), given)
    }

    /// The same, for another home.
    #[must_use]
    pub fn with_home(self, home: Home) -> Self {
        let given = Given { home, ..self.shared.given.clone() };
        Self::over(self.shared.runtime.clone(), given)
    }

    fn over(runtime: Runtime, given: Given) -> Self {
        let stopping = watch::Sender::new(false);
        let hooks = Hooks::default();
        let shared = Arc::new(Shared { runtime, given, hooks, waiting: AtomicUsize::new(0), stopping });
        let router = (shared.given.routes)()
            .fallback(unknown_path)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(shared.clone());
        Self { service: TowerToHyperService::new(router), shared }
    }

    /// Answers one request. Whether it may be made is not asked here: that is the server's matter.
    pub async fn call(&self, request: Request<Body>) -> Response {
        match self.service.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Requests that wait for a run answer now, with where it stands.
    pub fn stop_waiting(&self) {
        self.shared.stopping.send_replace(true);
    }
}

/// Some of the paths.
type Routes = fn() -> Router<Arc<Shared>>;

/// What starts runs.
fn starts() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/workflow-runs", post(start_run))
        .route("/hooks/{workflow}/{name}", post(hooks::receive))
}

/// What records people's decisions.
fn decisions() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/workflow-runs/{run}/approvals/{approval}/approve", post(approve))
        .route("/api/v1/workflow-runs/{run}/approvals/{approval}/reject", post(reject))
}

fn everything() -> Router<Arc<Shared>> {
    // Flat rather than nested: a nested router writes every request's URI anew.
    Router::new()
        .merge(starts())
        .merge(decisions())
        .route("/api/v1/workflows", get(definitions::list_workflows).post(definitions::create_workflow))
        .route("/api/v1/workflows/validate", post(definitions::validate_workflow))
        .route(
            "/api/v1/workflows/{id}",
            get(definitions::get_workflow)
                .put(definitions::update_workflow)
                .delete(definitions::disable_workflow),
        )
        .route("/api/v1/workflows/{id}/enable", post(definitions::enable_workflow))
        .route("/api/v1/agents", get(definitions::list_agents).post(definitions::create_agent))
        .route(
            "/api/v1/agents/{name}",
            get(definitions::get_agent).put(definitions::update_agent).delete(definitions::disable_agent),
        )
        .route("/api/v1/agents/{name}/enable", post(definitions::enable_agent))
        .route("/api/v1/workflow-runs", get(list_runs))
        .route("/api/v1/workflow-runs/{run}", get(get_run))
        .route("/api/v1/workflow-runs/{run}/events", get(list_events))
        .route("/api/v1/workflow-runs/{run}/pause", post(pause))
        .route("/api/v1/workflow-runs/{run}/resume", post(resume))
        .route("/api/v1/workflow-runs/{run}/cancel", post(cancel))
        .route("/api/v1/workflow-runs/{run}/redrive", post(redrive))
        .route("/api/v1/workflow-runs/{run}/signals", post(signal))
        .route("/api/v1/workflow-runs/{run}/approvals", get(list_run_approvals))
        .route("/api/v1/workflow-approvals", get(list_approvals))
        .route("/api/v1/home", get(get_home))
        .route("/api/v1/sync", get(get_project).post(sync_project))
        .route("/health", get(health))
        .route("/health/ready", get(ready))
}

pub(crate) type Answer = Result<Response, Error>;
pub(crate) type Shape = State<Arc<Shared>>;

// Runs.

async fn start_run(
    State(shared): Shape,
    Parameters(query): Parameters<documents::Wait>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<documents::Start>,
) -> Answer {
    let wait = query.wait.as_deref().map(|text| shared.wait_time(text)).transpose()?;
    let workflow = body.workflow_id;
    let request = StartRequest {
        version: body.version,
        key,
        starter: body.starter,
        ..StartRequest::new(workflow.clone(), body.input)
    };
    let (started, ended) = match wait {
        Some(wait) => shared.start_and_wait(request, wait).await?,
        None => (shared.runtime.start(request).await?, None),
    };
    let status = match &ended {
        Some(view) => view.summary.status,
        None if started.created && wait.is_none() => RunStatus::Pending,
        None => shared.runtime.get(&started.run).await?.summary.status,
    };
    let document = documents::Started {
        run_id: &started.run,
        workflow_id: &workflow,
        status,
        created: started.created,
        output: ended.as_ref().and_then(|view| view.output.as_ref()),
        error: ended.as_ref().and_then(|view| view.summary.error.as_ref()),
    };
    let code = match (&ended, wait) {
        // The time was over before the run was.
        (None, Some(_)) => StatusCode::ACCEPTED,
        (None, None) if started.created => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(json(code, &document))
}

async fn get_run(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Parameters(query): Parameters<documents::Wait>,
) -> Answer {
    let wait = query.wait.as_deref().map(|text| shared.wait_time(text)).transpose()?;
    let ended = match wait {
        Some(wait) => shared.wait(&run, wait).await.map(|end| end.is_some()),
        None => Ok(true),
    };
    let view = match shared.runtime.get(&run).await {
        Err(error) if error.needs_repair() => return shared.unreadable(&run, error).await,
        view => view?,
    };
    Ok(json(if ended? { StatusCode::OK } else { StatusCode::ACCEPTED }, &documents::Run::from(&view)))
}

async fn list_runs(State(shared): Shape, Parameters(query): Parameters<documents::ListRuns>) -> Answer {
    let statuses = query.status.as_deref().map(statuses).transpose()?.unwrap_or_default();
    let filter = RunFilter { workflow: query.workflow_id, statuses };
    let page = shared.runtime.runs(&filter, &page(query.limit, query.cursor)?).await?;
    Ok(json(StatusCode::OK, &List::<documents::Summary<'_>>::of(&page)))
}

async fn list_events(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Parameters(query): Parameters<documents::Paging>,
) -> Answer {
    let wanted = page(query.limit, query.cursor)?;
    let page = shared.runtime.timeline(&run, wanted.cursor.as_deref(), wanted.limit).await?;
    Ok(json(StatusCode::OK, &List::<documents::TimelineEvent<'_>>::of(&page)))
}

async fn pause(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Json(body): Json<documents::Control>,
) -> Answer {
    controlled(&shared.runtime.pause(&run, body.by).await?)
}

async fn resume(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Json(body): Json<documents::Control>,
) -> Answer {
    controlled(&shared.runtime.resume(&run, body.by).await?)
}

async fn cancel(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Json(body): Json<documents::Control>,
) -> Answer {
    controlled(&shared.runtime.cancel(&run, body.by, body.reason).await?)
}

async fn redrive(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Json(body): Json<documents::Control>,
) -> Answer {
    controlled(&shared.runtime.redrive(&run, body.by).await?)
}

async fn signal(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Json(body): Json<documents::SendSignal>,
) -> Answer {
    let request = SignalRequest { id: body.id, name: body.name, payload: body.payload, by: body.by };
    shared.runtime.signal(&run, request).await?;
    controlled(&shared.runtime.get(&run).await?)
}

/// Where a run stands after what was asked of it.
#[allow(clippy::unnecessary_wraps)] // An answer like all others.
fn controlled(view: &RunView) -> Answer {
    Ok(json(StatusCode::OK, &documents::Summary::from(&view.summary)))
}

// Approvals.

async fn list_run_approvals(
    State(shared): Shape,
    Segments(run): Segments<RunId>,
    Parameters(query): Parameters<documents::Paging>,
) -> Answer {
    // An unknown run has no approvals, but that is not the answer.
    shared.runtime.get(&run).await?;
    let filter = ApprovalFilter { run: Some(run), pending: false };
    let page = shared.runtime.approvals(&filter, &page(query.limit, query.cursor)?).await?;
    Ok(json(StatusCode::OK, &List::<documents::Approval<'_>>::of(&page)))
}

async fn list_approvals(
    State(shared): Shape,
    Parameters(query): Parameters<documents::ListApprovals>,
) -> Answer {
    let pending = match query.status.as_deref() {
        None | Some("pending") => true,
        Some("all") => false,
        Some(other) => return Err(query_error(format!("status `{other}` is neither `pending` nor `all`"))),
    };
    let filter = ApprovalFilter { run: None, pending };
    let page = shared.runtime.approvals(&filter, &page(query.limit, query.cursor)?).await?;
    Ok(json(StatusCode::OK, &List::<documents::Approval<'_>>::of(&page)))
}

async fn approve(
    State(shared): Shape,
    Segments((run, approval)): Segments<(RunId, Arc<str>)>,
    Json(body): Json<documents::Decide>,
) -> Answer {
    shared.decide(&run, &approval, true, body).await
}

async fn reject(
    State(shared): Shape,
    Segments((run, approval)): Segments<(RunId, Arc<str>)>,
    Json(body): Json<documents::Decide>,
) -> Answer {
    shared.decide(&run, &approval, false, body).await
}

impl Shared {
    async fn start_and_wait(
        &self,
        request: StartRequest,
        time: Duration,
    ) -> Result<(Started, Option<RunView>), Error> {
        let _place = Place::take(&self.waiting)?;
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            started = self.runtime.start_and_wait(request, time) => Ok(started?),
            () = told(&mut stopping) => Err(
                Error::new(StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", "the server ends; the run may have been started")
                    .hint("ask again with the same Idempotency-Key"),
            ),
        }
    }

    /// The run's end, if it comes in time and before the server ends.
    async fn wait(&self, run: &RunId, time: Duration) -> Result<Option<RunView>, Error> {
        let _place = Place::take(&self.waiting)?;
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            ended = self.runtime.wait(run, time) => Ok(ended?),
            () = told(&mut stopping) => Ok(None),
        }
    }

    /// What lists know of a run that cannot be read until somebody has repaired it, and why. Of one that is over that would not
    /// be the truth: what it gave is missing.
    async fn unreadable(&self, run: &RunId, error: runtime::Error) -> Answer {
        match self.runtime.ports().catalog.run(run).await {
            Ok(Some(mut summary)) if !summary.status.is_terminal() => {
                summary.stuck = Some(error.code().into());
                Ok(json(StatusCode::OK, &documents::Summary::from(&summary)))
            }
            _ => Err(error.into()),
        }
    }

    async fn decide(&self, run: &RunId, approval: &str, approve: bool, body: documents::Decide) -> Answer {
        let vote = Vote {
            approve,
            approver: body.approver.unwrap_or_else(|| Arc::from("user:local")),
            teams: body.teams,
            comment: body.comment,
            form: body.form,
        };
        let voted = self.runtime.vote(run, approval, vote).await?;
        Ok(json(StatusCode::OK, &documents::Decided::new(run, &voted)))
    }
}

/// One of the places to wait in; free again when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Error> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            return Ok(place);
        }
        let message = format!("{MAX_WAITING} requests wait already");
        Err(Error::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_WAITING", message)
            .hint("ask without `wait`, and again later"))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// The project.

async fn get_project(State(shared): Shape) -> Answer {
    let folder = shared.project()?.folder();
    Ok(json(StatusCode::OK, &Value::from(expression::Object::from_iter([("project", folder)]))))
}

async fn sync_project(State(shared): Shape, Json(body): Json<documents::Sync>) -> Answer {
    Ok(json(StatusCode::OK, &shared.project()?.sync(body.new_version, body.check).await?))
}

async fn get_home(State(shared): Shape, Parameters(_): Parameters<documents::Nothing>) -> Response {
    json(StatusCode::OK, &shared.given.home)
}

impl Shared {
    /// As long as was asked for, but no longer than the home can hold a request: whoever waits longer asks again.
    fn wait_time(&self, text: &str) -> Result<Duration, Error> {
        Ok(wait_time(text)?.min(Duration::from_secs(self.given.home.max_wait_seconds)))
    }

    fn project(&self) -> Result<&Arc<dyn Project>, Error> {
        self.given.project.as_ref().ok_or_else(|| {
            Error::new(StatusCode::CONFLICT, "NO_PROJECT_SERVED", "the server was started without a project")
                .hint("start it with `stepwell serve --project DIR`")
        })
    }
}

// The rest.

async fn health() -> Response {
    json(StatusCode::OK, &Value::from(expression::Object::from_iter([("status", "ok")])))
}

async fn ready(State(shared): Shape) -> Answer {
    if *shared.stopping.borrow() {
        return Err(Error::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SHUTTING_DOWN",
            "the server is about to end",
        ));
    }
    // Whether the store answers.
    shared.runtime.runs(&RunFilter::default(), &PageRequest { limit: 1, cursor: None }).await.map_err(
        |error| {
            let mut error = Error::from(error);
            error.status = StatusCode::SERVICE_UNAVAILABLE;
            error
        },
    )?;
    Ok(health().await)
}

async fn unknown_path(uri: Uri) -> Error {
    let hint = if uri.path().starts_with("/api/v1") {
        "there are /workflows, /workflow-runs and /workflow-approvals"
    } else {
        "the API begins at /api/v1"
    };
    Error::new(StatusCode::NOT_FOUND, "UNKNOWN_PATH", format!("there is nothing at {}", uri.path()))
        .hint(hint)
}

async fn method_not_allowed(request: Request<Body>) -> Error {
    let message = format!("{} cannot be done to {}", request.method(), request.uri().path());
    Error::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}

pub(crate) fn query_error(message: impl Into<String>) -> Error {
    Error::new(StatusCode::BAD_REQUEST, "QUERY_INVALID", message)
}

fn wait_time(text: &str) -> Result<Duration, Error> {
    let Millis(millis) = model::parse_duration(text)
        .map_err(|error| query_error(format!("wait: {error}")).hint(model::DURATION_HELP))?;
    let wait = Duration::from_millis(millis);
    if wait > MAX_WAIT {
        return Err(query_error(format!(
            "wait: `{text}` is longer than {} minutes",
            MAX_WAIT.as_secs() / 60
        ))
        .hint("ask again"));
    }
    Ok(wait)
}

pub(crate) fn page(limit: Option<usize>, cursor: Option<String>) -> Result<PageRequest, Error> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(query_error(format!("limit: {limit} is not between 1 and {MAX_LIMIT}")));
    }
    Ok(PageRequest { limit, cursor })
}

fn statuses(text: &str) -> Result<Vec<RunStatus>, Error> {
    // `canceled`, `paused` and `blocked` are accepted as input, in any case.
    let known = |word: &str| {
        Some(match word.to_ascii_uppercase().as_str() {
            "PENDING" => RunStatus::Pending,
            "RUNNING" => RunStatus::Running,
            "WAITING_APPROVAL" | "BLOCKED" => RunStatus::WaitingApproval,
            "WAITING_SIGNAL" => RunStatus::WaitingSignal,
            "WAITING_TIMER" => RunStatus::WaitingTimer,
            "PAUSING" => RunStatus::Pausing,
            "PAUSED" => RunStatus::Paused,
            "CANCELLING" | "CANCELING" => RunStatus::Cancelling,
            "COMPLETED" => RunStatus::Completed,
            "FAILED" => RunStatus::Failed,
            "CANCELLED" | "CANCELED" => RunStatus::Cancelled,
            "TIMED_OUT" => RunStatus::TimedOut,
            _ => return None,
        })
    };
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| known(word).ok_or_else(|| query_error(format!("status: `{word}` is no status of a run"))))
        .collect()
}
