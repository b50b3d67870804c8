//! One test, from its world to what came of it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::ApprovalRequested;
use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::Trigger;
use engine::Vote;
use expression::Value;
use jiff::Timestamp;
use model::Agent;
use model::Millis;
use model::Workflow;
use parking_lot::Mutex;
use runtime::Doing;
use runtime::Runtime;
use runtime::SignalRequest;
use runtime::StartError;
use runtime::StartRequest;
use runtime::VoteError;
use runtime::memory;
use runtime::memory::SeededIds;
use runtime::memory::VirtualClock;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::check;
use crate::check::Observed;
use crate::check::Refusal;
use crate::file::Answers;
use crate::file::Case;
use crate::file::Control;
use crate::file::Decision;
use crate::file::Verb;
use crate::history::Happened;
use crate::journey::Journals;
use crate::journey::Map;
use crate::narrate::Narrator;
use crate::report::Failure;
use crate::stubs::Stubs;
use crate::world::Appended;
use crate::world::Homes;
use crate::world::Watched;

/// When virtual clocks start, unless the test says otherwise.
const START: &str = "2026-01-01T00:00:00Z";
/// A run that makes more records than this is taken for one that never ends.
const MAX_RECORDS: usize = 300_000;
/// Between two looks whether anything can still happen, at first and at most; in virtual time.
const LOOK: Duration = Duration::from_mins(1);
/// After this much virtual time all has happened that was about to.
const INSTANT: Duration = Duration::from_millis(1);
const MAX_LOOK: Duration = Duration::from_hours(24);
/// A run that lives longer than this virtual time is not waited for.
const MAX_LIFE: Duration = Duration::from_hours(20 * 365 * 24);

/// The process that performs the run, and those that take over from it.
struct Machine {
    ports: runtime::Ports,
    process: Mutex<Process>,
}

struct Process {
    runtime: Runtime,
    service: Option<JoinHandle<()>>,
    /// How many there were, with this one.
    number: u32,
}

impl Machine {
    fn new(ports: runtime::Ports) -> Self {
        let process = Mutex::new(Process::begin(ports.clone(), 1));
        Self { ports, process }
    }

    fn runtime(&self) -> Runtime {
        self.process.lock().runtime.clone()
    }

    /// As `kill -9` and a new start would: whatever the process has in flight is gone.
    async fn restart(&self) {
        let (number, service) = {
            let mut process = self.process.lock();
            (process.number + 1, process.service.take())
        };
        // Nothing of it is left when the next one looks.
        if let Some(service) = service {
            service.abort();
            let _ = service.await;
        }
        // Those in memory die with their process.
        let doorbell = Arc::new(memory::Doorbell::new(self.ports.clock.clone()));
        let ports = runtime::Ports { doorbell, ..self.ports.clone() };
        *self.process.lock() = Process::begin(ports, number);
    }
}

impl Process {
    fn begin(ports: runtime::Ports, number: u32) -> Self {
        let runtime = Runtime::new(
            ports,
            runtime::Options::exclusive(if number == 1 {
                "test".to_owned()
            } else {
                format!("test-{number}")
            }),
        );
        // The schedules of the workflow are not what is tested: a run is started as a tick would.
        let options = runtime::ServiceOptions {
            schedules: false,
            recover: number > 1,
            ..runtime::ServiceOptions::default()
        };
        let service = runtime::Service::new(runtime.clone(), options);
        let service = Some(tokio::spawn(service.run(std::future::pending())));
        Self { runtime, service, number }
    }
}

/// What all tests of one file share.
pub(crate) struct Stage {
    pub(crate) workflow: Arc<Workflow>,
    /// The workflow's text and file, and those of the workflows beside it.
    pub(crate) definitions: Vec<Definition>,
    /// The agents defined beside it.
    pub(crate) agents: BTreeMap<Arc<str>, Arc<Agent>>,
}

/// What came of a test: failures, and the timeline.
pub(crate) async fn perform(stage: &Stage, case: &Case, homes: &Homes) -> (Vec<Failure>, Vec<String>) {
    let start = case.now.unwrap_or_else(|| START.parse().unwrap_or(Timestamp::UNIX_EPOCH));
    let clock = Arc::new(VirtualClock::new(start));
    let home = match homes(clock.clone()) {
        Ok(home) => home,
        Err(error) => return (vec![Failure::problem(error)], Vec::new()),
    };
    for definition in &stage.definitions {
        if let Err(error) = home.catalog.register(definition.clone(), true).await {
            return (
                vec![Failure::problem(format!("the catalog does not take {}: {error}", definition.id))],
                Vec::new(),
            );
        }
    }
    let (appended, records) = mpsc::unbounded_channel();
    let defined = Arc::new(home.catalog.clone());
    let others = match agents::Options::default().build(defined) {
        Ok(actions) => Arc::new(actions),
        Err(error) => return (vec![Failure::problem(error.to_string())], Vec::new()),
    };
    let stubs = Arc::new(Stubs::new(&case.agents, &stage.workflow, stage.agents.clone(), others));
    let ports = runtime::Ports {
        journal: Arc::new(Watched { journal: home.journal, appended }),
        catalog: home.catalog,
        doorbell: home.doorbell,
        agents: stubs.clone(),
        clock,
        ids: Arc::new(SeededIds::new(1)),
    };
    let machine = Machine::new(ports);
    let runtime = machine.runtime();
    let request = match request(stage, case, start) {
        Ok(request) => request,
        Err(failure) => return (vec![failure], Vec::new()),
    };
    let run = match runtime.start(request).await {
        Ok(started) => started.run,
        Err(error) => return (check::refusal(&case.expect, &refusal(&error)), Vec::new()),
    };
    let mut play = Play::new(stage, case, machine, run.clone());
    play.direct(records).await;
    let mut failures = match play.observe(&stubs).await {
        Ok(observed) => check::run(&case.expect, &observed, &stage.workflow.names),
        Err(error) => vec![Failure::problem(format!("the run cannot be read: {}: {error}", error.code()))],
    };
    failures.extend(play.shared.problems.lock().drain(..).map(Failure::problem));
    if !failures.is_empty() {
        failures.extend(stubs.problems().into_iter().map(Failure::problem));
    }
    (failures, play.timeline)
}

fn request(stage: &Stage, case: &Case, now: Timestamp) -> Result<StartRequest, Failure> {
    let mut request = StartRequest::new(stage.workflow.id.clone(), case.input.clone());
    request.starter.clone_from(&case.starter);
    if let Some(state) = &case.cron {
        let schedule = stage.workflow.triggers.iter().find_map(|trigger| match trigger {
            model::Trigger::Schedule(schedule) if schedule.name == *state => Some(schedule),
            _ => None,
        });
        let Some(schedule) = schedule else {
            return Err(Failure::problem(format!("the workflow has no cron state `{state}` to start it")));
        };
        request.input = schedule.input.clone();
        request.trigger = Trigger::Schedule { name: state.clone(), tick: now };
    }
    Ok(request)
}

fn refusal(error: &StartError) -> Refusal {
    let paths = match error {
        StartError::Input { violations, .. } => {
            violations.iter().map(|violation| violation.path.clone()).collect()
        }
        _ => Vec::new(),
    };
    Refusal { code: error.code().to_owned(), message: error.to_string(), paths }
}

/// A run being played: what happens in it, and what the test does about it.
struct Play<'a> {
    stage: &'a Stage,
    shared: Arc<Shared>,
    run: RunId,
    script: Vec<Cue>,
    journals: Journals,
    /// The state that each scope is in.
    states: HashMap<ScopeKey, Arc<str>>,
    approvals: Vec<(Arc<str>, Value)>,
    narrators: HashMap<RunId, Narrator>,
    /// The workflow of each child run.
    children: HashMap<RunId, Arc<str>>,
    /// Every event, if the test looks at them.
    history: Option<Vec<Happened>>,
    start: Option<Timestamp>,
    timeline: Vec<String>,
    ended: bool,
    records: usize,
}

/// What the tasks that act in a run share with the play.
struct Shared {
    machine: Machine,
    problems: Mutex<Vec<String>>,
    answers: HashMap<Arc<str>, Answers>,
    /// How many decisions of each state were used.
    used: Mutex<HashMap<Arc<str>, usize>>,
    /// Actions that must still be tried, even when the run is over.
    must: AtomicUsize,
    /// Actions that are still to come while the run lasts.
    may: AtomicUsize,
}

/// Something to do at a time after the start.
struct Cue {
    at: Instant,
    action: Action,
}

enum Action {
    Signal(crate::file::Signal),
    Control(Control),
}

impl<'a> Play<'a> {
    fn new(stage: &'a Stage, case: &Case, machine: Machine, run: RunId) -> Self {
        let start = Instant::now();
        let at = |after: model::Millis| start + Duration::from_millis(after.0);
        let signals = case
            .signals
            .iter()
            .map(|signal| Cue { at: at(signal.after), action: Action::Signal(signal.clone()) });
        let control = case
            .control
            .iter()
            .map(|control| Cue { at: at(control.after), action: Action::Control(control.clone()) });
        let mut script: Vec<Cue> = signals.chain(control).collect();
        script.sort_by_key(|cue| cue.at);
        let shared = Arc::new(Shared {
            machine,
            problems: Mutex::default(),
            answers: case.approvals.iter().map(|(state, answers)| (state.clone(), answers.clone())).collect(),
            used: Mutex::default(),
            must: AtomicUsize::new(0),
            may: AtomicUsize::new(0),
        });
        Self {
            stage,
            shared,
            run,
            script,
            journals: Journals::new(),
            states: HashMap::new(),
            approvals: Vec::new(),
            narrators: HashMap::new(),
            children: HashMap::new(),
            history: (!case.expect.history.is_empty()).then(Vec::new),
            start: None,
            timeline: Vec::new(),
            ended: false,
            records: 0,
        }
    }

    /// Lets the run go on, and does what the script says, until it is over or nothing can happen any more.
    async fn direct(&mut self, mut records: mpsc::UnboundedReceiver<Appended>) {
        let script =
            tokio::spawn(follow(std::mem::take(&mut self.script), self.shared.clone(), self.run.clone()));
        let born = Instant::now();
        let mut look = LOOK;
        let mut last = INSTANT;
        loop {
            tokio::select! {
                biased;
                Some(record) = records.recv() => {
                    self.notice(&record);
                    look = LOOK;
                    if self.records > MAX_RECORDS {
                        self.problem(format!("the run made more than {MAX_RECORDS} records; it was not waited for any longer"));
                        break;
                    }
                    continue;
                }
                // When the run is over, what can still happen happens within this instant.
                () = tokio::time::sleep(last), if self.ended => {
                    if self.shared.must.load(Ordering::Relaxed) == 0 {
                        break;
                    }
                    last = (last * 2).min(LOOK);
                }
                () = tokio::time::sleep(look) => {
                    look = (look * 2).min(MAX_LOOK);
                    if script.is_finished() && self.shared.may.load(Ordering::Relaxed) == 0 && self.is_still().await {
                        break;
                    }
                }
            }
            if born.elapsed() > MAX_LIFE {
                self.problem(
                    "the run is still alive after 20 years; it was not waited for any longer".to_owned(),
                );
                break;
            }
        }
        script.abort();
    }

    fn problem(&self, problem: String) {
        self.shared.problems.lock().push(problem);
    }

    /// Whether nothing will happen in the run by itself: no deadline, no work.
    async fn is_still(&self) -> bool {
        let mut runs = vec![self.run.clone()];
        while let Some(run) = runs.pop() {
            let Ok(view) = self.shared.machine.runtime().get(&run).await else { return false };
            for position in view.current {
                let still = position.due.is_none()
                    && match position.activity {
                        Doing::Signal | Doing::Paused | Doing::Children | Doing::Approval | Doing::Ended => {
                            true
                        }
                        Doing::Subworkflow => {
                            runs.extend(position.child.clone());
                            true
                        }
                        _ => false,
                    };
                if !still {
                    return false;
                }
            }
        }
        true
    }

    fn notice(&mut self, Appended { scope, record }: &Appended) {
        self.records += 1;
        let Ok(record) = Record::decode(&record.body) else {
            self.problem(format!("record {} of {scope} cannot be read", record.seq));
            return;
        };
        for event in record.events {
            let line = self.narrators.entry(scope.run.clone()).or_default().line(&scope.path, &event);
            self.remember(scope, record.at, &event, &line.state);
            self.timeline.push(shown(&self.run, scope, record.at, &line));
            match &event {
                Event::StateEntered { state, .. } => {
                    self.states.insert(scope.clone(), state.clone());
                }
                Event::ApprovalRequested(request) => self.asked(scope, request),
                Event::SubworkflowRequested { run, workflow, .. } => {
                    self.children.insert(run.clone(), workflow.clone());
                }
                Event::Ended { .. } if scope.run == self.run && scope.path.is_root() => self.ended = true,
                Event::Redriven { .. } if scope.run == self.run && scope.path.is_root() => self.ended = false,
                _ => {}
            }
            if scope.run == self.run {
                self.journals.entry(scope.path.clone()).or_default().push(event);
            }
        }
    }

    fn remember(&mut self, scope: &ScopeKey, at: Timestamp, event: &Event, state: &Arc<str>) {
        let Some(history) = &mut self.history else { return };
        let start = *self.start.get_or_insert(at);
        let child = self.children.get(&scope.run);
        let event = match serde_json::to_value(event) {
            Ok(event) => Value::from(event),
            Err(_) => return,
        };
        history.push(Happened {
            after: Millis(u64::try_from(at.duration_since(start).as_millis()).unwrap_or_default()),
            scope: child.map_or_else(|| scope.path.to_string(), |child| format!("{child}:{}", scope.path)),
            state: state.clone(),
            event,
        });
    }

    fn asked(&mut self, scope: &ScopeKey, request: &ApprovalRequested) {
        let address = self.states.get(scope).cloned().unwrap_or_default();
        let known = if scope.run == self.run { self.stage.workflow.state_at(&address) } else { None };
        let state = match known {
            Some(state) => state.name.clone(),
            None => address.rsplit('/').next().unwrap_or_default().into(),
        };
        let shown = serde_json::to_value(request).map(Value::from).unwrap_or_default();
        self.approvals.push((state.clone(), shown));
        if self.shared.answers.contains_key(&state) {
            tokio::spawn(answer(self.shared.clone(), scope.run.clone(), state, request.id.clone()));
        }
    }

    async fn observe(&self, stubs: &Stubs) -> Result<Observed, runtime::Error> {
        let view = self.shared.machine.runtime().get(&self.run).await?;
        Ok(Observed {
            status: view.summary.status.to_string(),
            output: view.output,
            error: view.summary.error,
            context: view.context,
            trail: Map::of(&self.stage.workflow).trail(&self.journals, &engine::ScopePath::root()),
            calls: stubs.made(),
            approvals: self.approvals.clone(),
            history: self.history.clone().unwrap_or_default(),
        })
    }
}

fn shown(run: &RunId, scope: &ScopeKey, at: Timestamp, line: &crate::narrate::Line) -> String {
    let place = if scope.run == *run { String::new() } else { format!("[{}] ", scope.run) };
    let path = if scope.path.is_root() { "" } else { scope.path.as_str() };
    let state = line.state.rsplit('/').next().unwrap_or_default();
    let gap = if path.is_empty() || state.is_empty() { "" } else { " " };
    format!("{at:.3} {place}{path}{gap}{state}: {}", line.text)
}

/// Does what the script says, each thing at its time.
async fn follow(script: Vec<Cue>, shared: Arc<Shared>, run: RunId) {
    let must = script.iter().filter(|cue| cue.action.is_due_anyway()).count();
    shared.must.fetch_add(must, Ordering::Relaxed);
    for cue in script {
        tokio::time::sleep_until(cue.at).await;
        let (name, refused, result) = match &cue.action {
            Action::Signal(signal) => {
                let request = SignalRequest {
                    id: signal.id.clone(),
                    name: signal.name.clone(),
                    payload: signal.payload.clone(),
                    by: None,
                };
                let sent = shared.machine.runtime().signal(&run, request).await.map(|_| ());
                (format!("signal {}", signal.name), &signal.refused, sent)
            }
            Action::Control(control) => {
                let by = control.by.clone();
                let runtime = shared.machine.runtime();
                let done = match control.verb {
                    Verb::Pause => runtime.pause(&run, by).await,
                    Verb::Resume => runtime.resume(&run, by).await,
                    Verb::Cancel => runtime.cancel(&run, by, control.reason.clone()).await,
                    Verb::Redrive => runtime.redrive(&run, by).await,
                    Verb::Restart => {
                        shared.machine.restart().await;
                        continue;
                    }
                };
                (control.verb.name().to_owned(), &control.refused, done.map(|_| ()))
            }
        };
        let result = result.map_err(|error| (error.code().to_owned(), error.to_string()));
        // A signal that comes when the run is over was only not needed.
        let needless = matches!(&cue.action, Action::Signal(_))
            && matches!(&result, Err((code, _)) if code == "RUN_OVER");
        if !(needless && refused.is_none()) {
            shared.judge(&name, refused.as_deref(), result);
        }
        if cue.action.is_due_anyway() {
            shared.must.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Action {
    /// Whether it is tried even when the run is over.
    fn is_due_anyway(&self) -> bool {
        match self {
            Self::Signal(signal) => signal.refused.is_some(),
            Self::Control(control) => control.refused.is_some() || control.verb == Verb::Redrive,
        }
    }
}

impl Shared {
    /// What was tried against what the test says of it.
    fn judge(&self, what: &str, refused: Option<&str>, result: Result<(), (String, String)>) {
        let problem = match (refused, result) {
            (None, Ok(())) => return,
            (Some(code), Err((actual, _))) if code == actual => return,
            (Some(code), Ok(())) => format!("{what} was accepted; it should have been refused with {code}"),
            (Some(code), Err((actual, message))) => {
                format!(
                    "{what} was refused with {actual} ({message}); it should have been refused with {code}"
                )
            }
            (None, Err((actual, message))) => format!("{what} was refused with {actual}: {message}"),
        };
        self.problems.lock().push(problem);
    }

    /// The next decision for a state, if there is one; `again` for one question after a first decision.
    fn next(&self, state: &Arc<str>, again: bool) -> Option<Decision> {
        let answers = self.answers.get(state)?;
        if answers.always {
            return if again { None } else { answers.decisions.first().cloned().flatten() };
        }
        let mut used = self.used.lock();
        let used = used.entry(state.clone()).or_default();
        let next = answers.decisions.get(*used)?;
        *used += 1;
        next.clone()
    }

    /// Whether the next decision for a state is one that must be refused, and so belongs to the question before.
    fn next_is_refused(&self, state: &Arc<str>) -> bool {
        let used = self.used.lock().get(state).copied().unwrap_or_default();
        let answers = self.answers.get(state).filter(|answers| !answers.always);
        answers
            .and_then(|answers| answers.decisions.get(used)?.as_ref())
            .is_some_and(|decision| decision.refused.is_some())
    }
}

/// Gives one question its decisions: one, or as many as it takes to settle it, and those that must be refused.
async fn answer(shared: Arc<Shared>, run: RunId, state: Arc<str>, approval: Arc<str>) {
    let asked = Instant::now();
    let mut again = false;
    while let Some(decision) = shared.next(&state, again) {
        again = true;
        let counter = if decision.refused.is_some() { &shared.must } else { &shared.may };
        counter.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep_until(asked + Duration::from_millis(decision.after.0)).await;
        let vote = Vote {
            approve: decision.approve,
            approver: decision.approver.clone(),
            teams: decision.teams.clone(),
            comment: decision.comment.clone(),
            form: decision.form.clone(),
        };
        let voted = shared.machine.runtime().vote(&run, &approval, vote).await;
        let settled = match &voted {
            Ok(voted) => voted.decision.is_some(),
            Err(error) => matches!(error, VoteError::Settled { .. }),
        };
        let result = voted.map(|_| ()).map_err(|error| (error.code().to_owned(), error.to_string()));
        // One that comes too late was only not needed.
        let late = settled && result.is_err() && decision.refused.is_none();
        if !late {
            let what = format!("the decision of {} on {state}", decision.approver);
            shared.judge(&what, decision.refused.as_deref(), result);
        }
        counter.fetch_sub(1, Ordering::Relaxed);
        let goes_on = !settled || shared.next_is_refused(&state);
        if !goes_on {
            return;
        }
    }
}

/// A definition as the catalog of a test takes it.
pub(crate) fn definition(
    kind: DefinitionKind,
    id: &Arc<str>,
    version: Option<&Arc<str>>,
    hash: &Arc<str>,
    source: &str,
    file: &str,
) -> Definition {
    Definition {
        kind,
        id: id.clone(),
        version: version.cloned(),
        hash: hash.clone(),
        source: source.into(),
        file: Some(file.into()),
        registered_at: Timestamp::UNIX_EPOCH,
        disabled: false,
    }
}
