//! People and programs beside the home: they ask until they are told something.

use std::sync::Arc;
use std::time::Duration;

use engine::RunId;
use engine::Vote;
use expression::Value;
use fastrand::Rng;
use runtime::ControlError;
use runtime::Runtime;
use runtime::SignalRequest;
use runtime::StartError;
use runtime::StartRequest;
use runtime::VoteError;
use runtime::ports::ApprovalFilter;
use runtime::ports::ApprovalRow;
use runtime::ports::PageRequest;

use crate::flow::Act;
use crate::flow::STARTER;
use crate::home::Home;
use crate::invariants::Violation;
use crate::observation::Asked;
use crate::observation::What;
use crate::plan::Plan;
use crate::world::World;

/// How long a client waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it asks.
const TRIES: u32 = 500;

/// A client of one run.
#[derive(Clone)]
pub(crate) struct Client {
    world: Arc<World>,
    home: Arc<Home>,
    request: StartRequest,
    pub(crate) run: RunId,
    rng: Rng,
}

/// What is asked.
enum Request {
    Start(Box<StartRequest>),
    Pause,
    Resume,
    Cancel,
    Redrive,
    Signal(SignalRequest),
    Vote(Arc<str>, Vote),
}

/// No answer, or one that says nothing about what was asked.
enum Refusal {
    Again,
    Told(&'static str),
}

impl Client {
    /// The client of the run with this number.
    pub(crate) fn new(world: &Arc<World>, home: &Arc<Home>, plan: &Plan, number: u32) -> Self {
        let workflow = plan.flow.workflow_id();
        let key: Arc<str> = format!("run-{number}").into();
        let run = RunId::from_key(workflow, &key);
        let request = StartRequest {
            key: Some(key),
            starter: Some(STARTER.into()),
            ..StartRequest::new(workflow, plan.flow.input())
        };
        Self { world: world.clone(), home: home.clone(), request, run, rng: world.rng("client", number) }
    }

    /// Starts the run and does what the flow's clients do, each at its time.
    pub(crate) async fn play(mut self, plan: Arc<Plan>, after: u64) {
        tokio::time::sleep(Duration::from_millis(after)).await;
        let begun = tokio::time::Instant::now();
        let started = self.request.clone();
        self.ask(&self.run.clone(), Request::Start(Box::new(started))).await;
        let mut acts = tokio::task::JoinSet::new();
        for (number, cue) in (0..).zip(plan.flow.cues()) {
            tokio::time::sleep_until(begun + Duration::from_millis(cue.after)).await;
            // Each in a task of its own: one that is not answered does not hold up the next.
            let mut client = self.clone();
            client.rng = Rng::with_seed(crate::world::mix(self.rng.get_seed(), number));
            let act = cue.act.clone();
            acts.spawn(async move { client.act(act).await });
        }
        while acts.join_next().await.is_some() {}
    }

    async fn act(&mut self, act: Act) {
        let run = self.run.clone();
        match act {
            Act::Approve { state, approver, comment } => self.vote(&state, true, &approver, comment).await,
            Act::Reject { state, approver, comment } => self.vote(&state, false, &approver, comment).await,
            Act::Signal { id, name, payload } => {
                // Without an id of its own each try would be another signal.
                let id = id.unwrap_or_else(|| format!("{name}-{:08x}", self.rng.u32(..)));
                let payload = Value::from(payload);
                let (id, name) = (Some(id.into()), name.into());
                self.ask(&run, Request::Signal(SignalRequest { id, name, payload, by: None })).await;
            }
            Act::Pause => self.ask(&run, Request::Pause).await,
            Act::Resume => self.ask(&run, Request::Resume).await,
            Act::Cancel => self.ask(&run, Request::Cancel).await,
            Act::Redrive => self.ask(&run, Request::Redrive).await,
            Act::StartAgain => {
                let request = self.request.clone();
                self.ask(&run, Request::Start(Box::new(request))).await;
            }
        }
    }

    /// Decides what a state asks just then, in the run or in one that it has started.
    async fn vote(&mut self, state: &str, approve: bool, approver: &str, comment: Option<String>) {
        for row in self.pending().await {
            if *row.state == *state && self.world.ancestor(&row.scope.run) == self.run {
                let comment = comment.as_deref().map(Into::into);
                let vote =
                    Vote { approve, approver: approver.into(), teams: Vec::new(), comment, form: None };
                self.ask(&row.scope.run, Request::Vote(row.request.id.clone(), vote)).await;
            }
        }
    }

    /// What is asked just now, as lists show it.
    async fn pending(&mut self) -> Vec<ApprovalRow> {
        let filter = ApprovalFilter { run: None, pending: true };
        let page = PageRequest { limit: 1000, cursor: None };
        for _ in 0..TRIES {
            let process = self.home.reach(&mut self.rng).await;
            let rows = tokio::select! {
                biased;
                () = process.life.died() => continue,
                rows = process.runtime.approvals(&filter, &page) => rows,
            };
            match rows {
                Ok(rows) => return rows.items,
                Err(_) => self.wait().await,
            }
        }
        Vec::new()
    }

    /// Approves what a row asks, whoever may.
    pub(crate) async fn approve(&mut self, row: &ApprovalRow) {
        let request = &row.request;
        let anybody = (0..request.quorum).map(|n| format!("user:reviewer-{n}@example.com").into());
        let asked = request.approvers.iter().filter(|who| who.starts_with("user:")).cloned();
        let people: Vec<Arc<str>> =
            if request.approvers.is_empty() { anybody.collect() } else { asked.collect() };
        for approver in people.into_iter().filter(|who| request.excluded.as_ref() != Some(who)) {
            let vote = Vote { approve: true, approver, teams: Vec::new(), comment: None, form: None };
            self.ask(&row.scope.run, Request::Vote(request.id.clone(), vote)).await;
        }
    }

    /// Sends the signal that somebody waits for.
    pub(crate) async fn send(&mut self, run: &RunId, name: Arc<str>, number: u32) {
        let id = Some(format!("last-{name}-{number}").into());
        let request = SignalRequest { id, name, payload: Value::from("at last"), by: None };
        self.ask(run, Request::Signal(request)).await;
    }

    /// Resumes a paused run.
    pub(crate) async fn resume(&mut self, run: &RunId) {
        self.ask(run, Request::Resume).await;
    }

    async fn wait(&mut self) {
        let millis = self.rng.u64(50..5000);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Asks until it is told something.
    async fn ask(&mut self, run: &RunId, request: Request) {
        for lost in 0..TRIES {
            let process = self.home.reach(&mut self.rng).await;
            let answer = tokio::select! {
                biased;
                () = process.life.died() => Err(Refusal::Again),
                answer = request.put(&process.runtime, run) => answer,
                // Whoever serves it notices that nobody waits any more, and stops.
                () = tokio::time::sleep(PATIENCE) => Err(Refusal::Again),
            };
            let answer = match answer {
                Ok(()) => Ok(()),
                Err(Refusal::Told(code)) => Err(code.to_owned()),
                Err(Refusal::Again) => {
                    self.wait().await;
                    continue;
                }
            };
            let asked = request.asked();
            self.world.observe(None, What::Told { run: Some(run.clone()), asked, answer, lost });
            return;
        }
        let what = format!("nobody answered {:?} in {TRIES} tries", request.asked());
        self.world.violated(Violation { invariant: "deaf", what });
    }
}

impl Request {
    async fn put(&self, runtime: &Runtime, run: &RunId) -> Result<(), Refusal> {
        match self {
            Self::Start(request) => drop(runtime.start((**request).clone()).await?),
            Self::Pause => drop(runtime.pause(run, None).await?),
            Self::Resume => drop(runtime.resume(run, None).await?),
            Self::Cancel => drop(runtime.cancel(run, None, None).await?),
            Self::Redrive => drop(runtime.redrive(run, None).await?),
            Self::Signal(request) => drop(runtime.signal(run, request.clone()).await?),
            Self::Vote(approval, vote) => drop(runtime.vote(run, approval, vote.clone()).await?),
        }
        Ok(())
    }

    fn asked(&self) -> Asked {
        match self {
            Self::Start(request) => Asked::Start(request.key.clone()),
            Self::Pause => Asked::Pause,
            Self::Resume => Asked::Resume,
            Self::Cancel => Asked::Cancel,
            Self::Redrive => Asked::Redrive,
            Self::Signal(request) => Asked::Signal(request.id.clone().unwrap_or_default()),
            Self::Vote(approval, vote) => Asked::Vote {
                approval: approval.clone(),
                approve: vote.approve,
                approver: vote.approver.clone(),
            },
        }
    }
}

/// A failure of the home itself says nothing about the request.
fn refusal(own: bool, code: &'static str) -> Refusal {
    if own && code != "RUN_NOT_FOUND" { Refusal::Again } else { Refusal::Told(code) }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        refusal(matches!(error, StartError::Other(_)), error.code())
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        refusal(matches!(error, ControlError::Other(_)), error.code())
    }
}

impl From<VoteError> for Refusal {
    fn from(error: VoteError) -> Self {
        refusal(matches!(error, VoteError::Other(_)), error.code())
    }
}
