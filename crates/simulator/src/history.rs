//! One history: a plan, from its first start until nothing moves any more, and what is to be said about it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use model::Workflow;
use runtime::Doing;
use runtime::Options;
use runtime::Ports;
use runtime::RegisterError;
use runtime::Runtime;
use runtime::memory;
use runtime::ports::Agents;
use runtime::ports::ApprovalFilter;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::Catalog as _;
use runtime::ports::DefinitionKind;
use runtime::ports::DueRow;
use runtime::ports::Journal as _;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::home::Home;
use crate::invariants;
use crate::invariants::Checker;
use crate::invariants::Violation;
use crate::oracle;
use crate::panics;
use crate::plan;
use crate::plan::Fault;
use crate::plan::Hit;
use crate::plan::Plan;
use crate::process::OFFSET;
use crate::trace::Line;
use crate::world::Watch;
use crate::world::World;

/// No history takes longer than this.
const LONGEST: Duration = Duration::from_hours(24 * 90);
/// A scope that is not at rest is found within this much time, once faults are over: an hour between two looks, and the
/// sweeper's minute; twice, where what is found first only leads to the next; and the clocks' differences.
const FOUND: Duration = Duration::from_hours(3);
/// After the last run's end, what still comes late has come.
const LATE: Duration = Duration::from_mins(2);
/// Times that people answer what is still asked.
const ROUNDS: u32 = 300;

/// What became of a plan.
#[derive(Debug)]
pub struct History {
    /// What must not be.
    pub violation: Option<Violation>,
    /// How much was observed.
    pub observations: u64,
    /// How many calls there were at the ports.
    pub calls: u64,
    /// How much time passed in it.
    pub lasted: Duration,
    /// How many faults of each kind were made.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Answers that came too late, and were noted as such.
    pub late_results: u64,
    /// How runs ended, or what they wait for.
    pub outcomes: BTreeMap<String, u64>,
    /// What was held against the reference.
    pub compared: Compared,
    /// The faults that were made, if it was recorded.
    pub made: Vec<Fault>,
    /// What happened, if it was recorded.
    pub lines: Vec<Line>,
}

/// What was held against the reference.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Runs that agree with it, with their child runs.
    pub runs: u64,
    /// Moments of theirs.
    pub moments: u64,
    /// Runs that it can say nothing about, by why.
    pub not_comparable: BTreeMap<String, u64>,
}

/// Plays a plan. With `recording` it can tell afterwards all that happened.
pub fn play(plan: &Plan, recording: bool) -> History {
    play_watched(plan, recording, Box::new(|_| Ok(())))
}

/// The same, and somebody watches all that happens.
pub fn play_watched(plan: &Plan, recording: bool, watch: Watch) -> History {
    let listener = panics::Listener::new();
    let built = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let history = match built {
        Ok(tokio) => {
            // What panics outside of all processes takes the history with it.
            let story = AssertUnwindSafe(|| tokio.block_on(story(plan, recording, watch)));
            std::panic::catch_unwind(story).unwrap_or_else(|_| {
                let what = panics::taken().unwrap_or_default();
                History {
                    violation: Some(Violation { invariant: "panic", what }),
                    ..History::impossible(String::new())
                }
            })
        }
        Err(error) => History::impossible(format!("no tokio runtime: {error}")),
    };
    drop(listener);
    history
}

impl History {
    fn impossible(what: String) -> Self {
        Self {
            violation: Some(Violation { invariant: "impossible", what }),
            observations: 0,
            calls: 0,
            lasted: Duration::ZERO,
            kinds: BTreeMap::new(),
            late_results: 0,
            outcomes: BTreeMap::new(),
            compared: Compared::default(),
            made: Vec::new(),
            lines: Vec::new(),
        }
    }
}

async fn story(plan: &Plan, recording: bool, watch: Watch) -> History {
    let checker = Checker::new(workflows(plan), options(plan));
    let world = Arc::new(World::new(plan, checker, watch, recording));
    let observer = Runtime::new(clean(&world), Options::shared("observer"));
    if let Err(error) = deploy(&observer, plan).await {
        return History::impossible(error);
    }
    if let Some(replica) = &world.replica
        && let Err(error) =
            deploy(&Runtime::new(over(&replica.store, &world), Options::shared("observer")), plan).await
    {
        return History::impossible(error);
    }
    let mut tasks = JoinSet::new();
    let whole = async {
        let home = Home::new(&world, plan);
        home.open(&mut tasks);
        let story = Story { plan, world: &world, home: &home, observer: &observer };
        story.tell().await;
    };
    tokio::select! {
        biased;
        () = world.broken() => {}
        () = whole => {}
        () = tokio::time::sleep(LONGEST) => {
            let what = format!("no rest after {LONGEST:?}");
            world.violated(Violation { invariant: "livelock", what });
        }
    }
    let lasted = Duration::from_millis(world.elapsed());
    world.stand_still();
    tasks.shutdown().await;
    let mut late_results = 0;
    if let Some(checker) = world.checker() {
        late_results = checker.late_results();
        let reader = Runtime::new(clean(&world), Options::shared("reader"));
        if let Err(violation) = checker.finish(&reader).await {
            world.violated(violation);
        }
    }
    let mut compared = Compared::default();
    if world.is_whole() {
        match compare(&world, plan).await {
            Ok(found) => compared = found,
            Err(violation) => world.violated(violation),
        }
    }
    let mut outcomes = BTreeMap::new();
    for summary in runs(&world).await {
        *outcomes.entry(summary.status.to_string()).or_default() += 1;
    }
    let ledger = world.close();
    History {
        violation: ledger.violation,
        observations: ledger.observations,
        calls: ledger.calls,
        lasted,
        kinds: ledger.kinds,
        late_results,
        outcomes,
        compared,
        made: ledger.made,
        lines: ledger.lines,
    }
}

/// Holds the runs that clients started against the reference.
async fn compare(world: &World, plan: &Plan) -> Result<Compared, Violation> {
    let unreadable = |error: StoreError| Violation {
        invariant: "impossible",
        what: format!("a journal cannot be read: {error}"),
    };
    let workflows = workflows(plan).into_iter().map(|workflow| (workflow.hash.clone(), workflow)).collect();
    let mut journals = oracle::Journals::new();
    let runs = runs(world).await;
    for summary in &runs {
        let scopes = world.store.scopes(&summary.run, None, usize::MAX).await.map_err(unreadable)?;
        for path in scopes {
            let key = ScopeKey::new(summary.run.clone(), path);
            let records = world.store.read(&key, 0, usize::MAX).await.map_err(unreadable)?;
            journals.insert(key, records);
        }
    }
    let mut compared = Compared::default();
    for summary in runs.into_iter().filter(|summary| world.ancestor(&summary.run) == summary.run) {
        match oracle::compare(&workflows, &journals, &summary.run) {
            Ok(oracle::Verdict::Agrees(agreement)) => {
                let is_paused = matches!(summary.status, RunStatus::Paused | RunStatus::Pausing);
                if let Some(place) = agreement.behind.first().filter(|_| !is_paused) {
                    let what = format!("at rest, and could go on: {place}");
                    return Err(Violation { invariant: "as-the-reference-says", what });
                }
                compared.runs += 1;
                compared.moments += agreement.moments as u64;
            }
            Ok(oracle::Verdict::NotComparable(why)) => {
                let why = why.replace(summary.run.as_str(), "…");
                *compared.not_comparable.entry(why).or_default() += 1;
            }
            Err(difference) => {
                return Err(Violation { invariant: "as-the-reference-says", what: difference.to_string() });
            }
        }
    }
    Ok(compared)
}

/// What may run.
fn workflows(plan: &Plan) -> Vec<Arc<Workflow>> {
    let files = plan.flow.files().into_iter().filter(|file| file.kind == DefinitionKind::Workflow);
    let parsed = files.map(|file| {
        let options = model::Options { file: &file.name, agents: None, workflows: None };
        model::parse(&file.source, &options).workflow
    });
    parsed.flatten().map(Arc::new).collect()
}

/// What the world of a plan allows.
fn options(plan: &Plan) -> invariants::Options {
    let jumps = plan.blows.iter().map(|blow| match blow.what {
        Hit::Jump(millis) => millis.unsigned_abs(),
        _ => 0,
    });
    invariants::Options {
        exclusive: plan.home == plan::Home::Embedded,
        skew: Duration::from_millis(2 * OFFSET.unsigned_abs() + 2 * jumps.sum::<u64>()),
        invocations_end: matches!(plan.home, plan::Home::Serverless { .. }),
        ..invariants::Options::default()
    }
}

struct Story<'a> {
    plan: &'a Plan,
    world: &'a Arc<World>,
    home: &'a Arc<Home>,
    observer: &'a Runtime,
}

/// Whether a history can end here.
enum Rest {
    /// Every run is over.
    Over,
    /// Those that are not, wait for something that they name.
    Waits(Vec<Wait>),
    /// Something is to move, at this time at the latest; why.
    Moves(Option<Timestamp>, String),
}

/// What a run waits for.
enum Wait {
    Approval(RunId),
    Signal(RunId, Arc<str>),
    Resume(RunId),
    Child,
}

impl Story<'_> {
    fn violated(&self, invariant: &'static str, what: String) {
        self.world.violated(Violation { invariant, what });
    }

    async fn tell(&self) {
        let mut clients = JoinSet::new();
        let plan = Arc::new(self.plan.clone());
        for (number, after) in (0..).zip(&self.plan.starts) {
            let client = Client::new(self.world, self.home, self.plan, number);
            clients.spawn(client.play(plan.clone(), *after));
        }
        let chaos = async {
            for blow in &self.plan.blows {
                let at = Duration::from_millis(blow.after.saturating_sub(self.world.elapsed()));
                tokio::time::sleep(at).await;
                self.home.strike(blow);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_millis(self.plan.calm_after)) => {}
            () = chaos => {}
        }
        self.world.calm_down();
        if self.plan.abandoned {
            self.home.abandon();
            self.world.check_findable().await;
        }
        while clients.join_next().await.is_some() {}
        let mut client = Client::new(self.world, self.home, self.plan, 1000);
        for round in 0..ROUNDS {
            match self.rest().await {
                Some(waits) if self.plan.answered && !waits.is_empty() => {
                    self.answer(&mut client, waits, round).await;
                }
                _ => return,
            }
        }
        self.violated("endless", format!("still asking after {ROUNDS} answers"));
    }

    /// Lets time pass until nothing moves any more. Answers with what is waited for, unless that never comes to be.
    async fn rest(&self) -> Option<Vec<Wait>> {
        loop {
            match self.look().await {
                Rest::Over if self.is_settled().await => return Some(Vec::new()),
                Rest::Waits(waits) if self.is_settled().await => return Some(waits),
                Rest::Over | Rest::Waits(_) => tokio::time::sleep(LATE / 4).await,
                Rest::Moves(until, why) => {
                    let now = self.world.now();
                    let passed = until.is_none_or(|until| {
                        now.duration_since(until) > jiff::SignedDuration::try_from(FOUND).unwrap_or_default()
                    });
                    if passed && self.world.still_for() > FOUND {
                        self.violated("rest", format!("nothing moved for {FOUND:?}, but {why}"));
                        return None;
                    }
                    tokio::time::sleep(Duration::from_mins(1)).await;
                }
            }
        }
    }

    /// What still comes late has come, and the sweeper has looked at whatever is due by the slowest of the clocks.
    async fn is_settled(&self) -> bool {
        let still = self.world.still_for();
        if still < LATE || self.home.rings() {
            return false;
        }
        let due = self.world.store.due(self.world.now(), None, 1).await;
        still >= FOUND || due.is_ok_and(|due| due.is_empty())
    }

    async fn look(&self) -> Rest {
        let mut waits = Vec::new();
        for summary in runs(self.world).await {
            if summary.status.is_terminal() {
                continue;
            }
            let run = &summary.run;
            let view = match self.observer.get(run).await {
                Ok(view) => view,
                Err(error) => return Rest::Moves(None, format!("run {run} cannot be read: {error}")),
            };
            let status = view.summary.status;
            if status != summary.status {
                return Rest::Moves(None, format!("run {run} is {status} and listed as {}", summary.status));
            }
            let why = |what: &str| format!("run {run} is {status}: {what}");
            if status == RunStatus::Paused {
                waits.push(Wait::Resume(run.clone()));
                continue;
            }
            // What it performs may never be answered: it waits for that, or for the resume.
            if status == RunStatus::Pausing && self.world.still_for() >= FOUND && self.world.calls_agents() {
                waits.push(Wait::Resume(run.clone()));
                continue;
            }
            if view.current.is_empty() {
                return Rest::Moves(None, why("nothing in it is live"));
            }
            for place in view.current {
                let state = place.state.unwrap_or_default();
                let what = || why(&format!("{} in {state} ({:?})", place.scope, place.activity));
                match place.activity {
                    Doing::Approval => waits.push(Wait::Approval(run.clone())),
                    Doing::Signal => {
                        if let Some(at) = self.looked_at(run, &place.scope).await {
                            return Rest::Moves(Some(at), what());
                        }
                        let signal = place.signal.unwrap_or_default();
                        waits.push(Wait::Signal(run.clone(), signal));
                    }
                    Doing::Subworkflow => waits.push(Wait::Child),
                    _ => return Rest::Moves(place.due, what()),
                }
                if let Some(due) = place.due {
                    return Rest::Moves(Some(due), what());
                }
            }
        }
        if waits.iter().all(|wait| matches!(wait, Wait::Child)) && !waits.is_empty() {
            return Rest::Moves(None, "all that is waited for is child runs".to_owned());
        }
        if waits.is_empty() { Rest::Over } else { Rest::Waits(waits) }
    }

    /// When the sweeper looks again whether a signal has come, if it does.
    async fn looked_at(&self, run: &RunId, scope: &ScopePath) -> Option<Timestamp> {
        let rows = self.world.store.due(Timestamp::MAX, None, usize::MAX).await.ok()?;
        let theirs = |row: &&DueRow| {
            row.scope.run == *run && (row.scope.path == *scope || row.scope.path == ScopePath::inbox())
        };
        rows.iter().find(theirs).map(|row| row.at)
    }

    async fn answer(&self, client: &mut Client, waits: Vec<Wait>, round: u32) {
        for (number, wait) in (0..).zip(waits) {
            match wait {
                Wait::Approval(run) => {
                    let filter = ApprovalFilter { run: Some(run), pending: true };
                    let page = PageRequest { limit: 1000, cursor: None };
                    let Ok(rows) = self.world.store.approvals(&filter, &page).await else { return };
                    for row in rows.items {
                        client.approve(&row).await;
                    }
                }
                Wait::Signal(run, name) => client.send(&run, name, round * 1000 + number).await,
                Wait::Resume(run) => client.resume(&run).await,
                Wait::Child => {}
            }
        }
    }
}

async fn runs(world: &World) -> Vec<RunSummary> {
    let page = PageRequest { limit: 10_000, cursor: None };
    let found = world.store.runs(&RunFilter::default(), &page).await;
    found.map(|page| page.items).unwrap_or_default()
}

/// Ports at which nothing goes wrong, over the world's store.
pub(crate) fn clean(world: &Arc<World>) -> Ports {
    over(&world.store, world)
}

fn over(store: &memory::Store, world: &World) -> Ports {
    let store = Arc::new(store.clone());
    let clock = Arc::new(memory::VirtualClock::new(world.now()));
    Ports {
        journal: store.clone(),
        catalog: store,
        doorbell: Arc::new(memory::Doorbell::new(clock.clone())),
        agents: Arc::new(Nobody),
        clock,
        ids: Arc::new(memory::SeededIds::new(0)),
    }
}

/// Whoever only looks, calls nobody.
struct Nobody;

#[async_trait]
impl Agents for Nobody {
    async fn perform(&self, _: Call) -> Result<expression::Value, CallError> {
        std::future::pending().await
    }
}

async fn deploy(runtime: &Runtime, plan: &Plan) -> Result<(), String> {
    for file in plan.flow.files() {
        let registered = runtime.register(file.kind, &file.source, Some(&file.name), false).await;
        registered.map_err(|error| {
            let issues = match &error {
                RegisterError::Invalid { issues } => issues.iter().filter(|issue| issue.is_error()).collect(),
                _ => Vec::new(),
            };
            format!("{} is refused: {error}: {issues:?}\n{}", file.name, file.source)
        })?;
    }
    Ok(())
}
