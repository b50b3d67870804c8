//! One test, from its world to what came of it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
use runtime::ControlError;
use runtime::Doing;
use runtime::Ports;
use runtime::Runtime;
use runtime::SignalRequest;
use runtime::StartError;
use runtime::StartRequest;
use runtime::VoteError;
use runtime::memory::SeededIds;
use runtime::memory::VirtualClock;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use tokio::sync::mpsc;
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
use crate::process::Calls;
use crate::process::Conditions;
use crate::process::Process;
use crate::rehearsal::Account;
use crate::rehearsal::End;
use crate::rehearsal::Notes;
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

/// How long a run is watched, in virtual time.
#[derive(Clone, Copy)]
struct Patience {
    /// Until the first look whether anything can still happen.
    look: Duration,
    /// A run that lives longer is not waited for.
    life: Duration,
}

/// Where nothing goes wrong.
const USUAL: Patience = Patience { look: LOOK, life: Duration::from_hours(20 * 365 * 24) };
/// Where a process may die: what it left behind is found within the time before the first look.
const RECOVERY: Patience = Patience { look: Duration::from_hours(3), life: Duration::from_hours(7 * 24) };

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
    let set = match Set::build(stage, case, homes, None).await {
        Ok(set) => set,
        Err(failure) => return (vec![failure], Vec::new()),
    };
    let process = Arc::new(Process::new(set.ports.clone(), set.shared));
    let (failures, timeline, _) = set.play(process, USUAL).await;
    (failures, timeline)
}

/// All that came of a test whose process these conditions befall.
pub(crate) async fn rehearse(stage: &Stage, case: &Case, homes: &Homes, conditions: Conditions) -> Account {
    let notes = Notes::default();
    let set = match Set::build(stage, case, homes, Some(notes.clone())).await {
        Ok(set) => set,
        Err(failure) => return Account { failures: vec![failure], ..Account::default() },
    };
    let calls = Calls::default();
    let process = Process::under(conditions, set.ports.clone(), calls.clone());
    let (failures, timeline, end) = set.play(process, RECOVERY).await;
    let calls = std::mem::take(&mut *calls.lock());
    let notes = std::mem::take(&mut *notes.lock());
    Account { failures, notes, calls, timeline, end }
}

/// A test with everything in its place.
struct Set<'a> {
    stage: &'a Stage,
    case: &'a Case,
    ports: Ports,
    shared: bool,
    stubs: Arc<Stubs>,
    records: mpsc::UnboundedReceiver<Appended>,
}

impl<'a> Set<'a> {
    async fn build(
        stage: &'a Stage,
        case: &'a Case,
        homes: &Homes,
        notes: Option<Notes>,
    ) -> Result<Self, Failure> {
        let clock = Arc::new(VirtualClock::new(begins(case)));
        let home = homes(clock.clone()).map_err(Failure::problem)?;
        let shared = home.shared;
        for definition in &stage.definitions {
            let registered = home.catalog.register(definition.clone(), true).await;
            registered.map_err(|error| {
                Failure::problem(format!("the catalog does not take {}: {error}", definition.id))
            })?;
        }
        let (appended, records) = mpsc::unbounded_channel();
        let defined = Arc::new(home.catalog.clone());
        let others = agents::Options::default().build(defined);
        let others = Arc::new(others.map_err(|error| Failure::problem(error.to_string()))?);
        let stubs = Stubs::new(&case.agents, &stage.workflow, stage.agents.clone(), others, notes.clone());
        let stubs = Arc::new(stubs);
        let ports = Ports {
            journal: Arc::new(Watched { journal: home.journal, appended, notes }),
            catalog: home.catalog,
            doorbell: home.doorbell,
            agents: stubs.clone(),
            clock,
            ids: Arc::new(SeededIds::new(1)),
        };
        Ok(Self { stage, case, ports, shared, stubs, records })
    }

    /// Plays the test in this process.
    async fn play(
        self,
        process: Arc<Process>,
        patience: Patience,
    ) -> (Vec<Failure>, Vec<String>, Option<End>) {
        let Self { stage, case, ports, stubs, records, .. } = self;
        let mut request = match request(stage, case, begins(case)) {
            Ok(request) => request,
            Err(failure) => return (vec![failure], Vec::new(), None),
        };
        // So that whoever asks again gets the same run.
        request.run_id = Some(ports.ids.run());
        let start = |runtime: Runtime| {
            let request = request.clone();
            async move { runtime.start(request).await }
        };
        let run = match process.ask(start, StartError::code).await.0 {
            Ok(started) => started.run,
            Err(error) => return (check::refusal(&case.expect, &refusal(&error)), Vec::new(), None),
        };
        let mut play = Play::new(stage, case, process, ports, run);
        play.direct(records, patience).await;
        let (mut failures, end) = match play.observe(&stubs).await {
            Ok((observed, end)) => (check::run(&case.expect, &observed, &stage.workflow.names), Some(end)),
            Err(error) => {
                let problem = format!("the run cannot be read: {}: {error}", error.code());
                (vec![Failure::problem(problem)], None)
            }
        };
        failures.extend(play.shared.problems.lock().drain(..).map(Failure::problem));
        if !failures.is_empty() {
            failures.extend(stubs.problems().into_iter().map(Failure::problem));
        }
        (failures, play.timeline, end)
    }
}

fn begins(case: &Case) -> Timestamp {
    case.now.unwrap_or_else(|| START.parse().unwrap_or(Timestamp::UNIX_EPOCH))
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
    /// Somebody who only looks, and whom nothing befalls.
    observer: Runtime,
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
    process: Arc<Process>,
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
    fn new(stage: &'a Stage, case: &Case, process: Arc<Process>, ports: Ports, run: RunId) -> Self {
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
            process,
            problems: Mutex::default(),
            answers: case.approvals.iter().map(|(state, answers)| (state.clone(), answers.clone())).collect(),
            used: Mutex::default(),
            must: AtomicUsize::new(0),
            may: AtomicUsize::new(0),
        });
        Self {
            stage,
            observer: Runtime::new(ports, runtime::Options::shared("observer")),
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
    async fn direct(&mut self, mut records: mpsc::UnboundedReceiver<Appended>, patience: Patience) {
        let script =
            tokio::spawn(follow(std::mem::take(&mut self.script), self.shared.clone(), self.run.clone()));
        let born = Instant::now();
        let mut look = patience.look;
        let mut last = INSTANT;
        loop {
            tokio::select! {
                biased;
                Some(record) = records.recv() => {
                    self.notice(&record);
                    look = patience.look;
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
            if born.elapsed() > patience.life {
                let days = patience.life.as_secs() / 86_400;
                self.problem(format!(
                    "the run is still alive after {days} days; it was not waited for any longer"
                ));
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
            let Ok(view) = self.observer.get(&run).await else { return false };
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

    async fn observe(&self, stubs: &Stubs) -> Result<(Observed, End), runtime::Error> {
        let view = self.observer.get(&self.run).await?;
        let observed = Observed {
            status: view.summary.status.to_string(),
            output: view.output,
            error: view.summary.error,
            context: view.context,
            trail: Map::of(&self.stage.workflow).trail(&self.journals, &engine::ScopePath::root()),
            calls: stubs.made(),
            approvals: self.approvals.clone(),
            history: self.history.clone().unwrap_or_default(),
        };
        let ports = self.observer.ports();
        let mut journals = Vec::new();
        for run in self.narrators.keys().collect::<BTreeSet<_>>() {
            for path in ports.journal.scopes(run, None, usize::MAX).await? {
                let scope = ScopeKey::new(run.clone(), path);
                let records = ports.journal.read(&scope, 0, usize::MAX).await?;
                journals.push((scope, records));
            }
        }
        let end = End {
            run: self.run.clone(),
            status: observed.status.clone(),
            output: observed.output.clone(),
            error: observed.error.clone(),
            context: observed.context.clone(),
            trail: observed.trail.clone(),
            listed: ports.catalog.run(&self.run).await?,
            journals,
        };
        Ok((observed, end))
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
    for (number, cue) in script.into_iter().enumerate() {
        tokio::time::sleep_until(cue.at).await;
        let (name, refused, result) = match &cue.action {
            Action::Signal(signal) => {
                // One without an id would be another signal each time it is sent again.
                let id = signal.id.clone().unwrap_or_else(|| format!("cue-{number}").into());
                let send = |runtime: Runtime| {
                    let request = SignalRequest {
                        id: Some(id.clone()),
                        name: signal.name.clone(),
                        payload: signal.payload.clone(),
                        by: None,
                    };
                    let run = run.clone();
                    async move { runtime.signal(&run, request).await.map(|_| ()) }
                };
                let (sent, again) = shared.process.ask(send, ControlError::code).await;
                // It may have ended the run when it was sent before.
                let done =
                    again && signal.refused.is_none() && matches!(sent, Err(ControlError::Over { .. }));
                (format!("signal {}", signal.name), &signal.refused, if done { Ok(()) } else { sent })
            }
            Action::Control(Control { verb: Verb::Restart, .. }) => {
                shared.process.restart().await;
                continue;
            }
            Action::Control(control) => {
                let give = |runtime: Runtime| {
                    let (run, control) = (run.clone(), control.clone());
                    async move { give(&runtime, &run, control).await }
                };
                let (given, again) = shared.process.ask(give, ControlError::code).await;
                let done = again && control.refused.is_none() && was_given(control.verb, &given);
                (control.verb.name().to_owned(), &control.refused, if done { Ok(()) } else { given })
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

async fn give(runtime: &Runtime, run: &RunId, control: Control) -> Result<(), ControlError> {
    let done = match control.verb {
        Verb::Pause => runtime.pause(run, control.by).await,
        Verb::Resume => runtime.resume(run, control.by).await,
        Verb::Cancel => runtime.cancel(run, control.by, control.reason).await,
        Verb::Redrive => runtime.redrive(run, control.by).await,
        Verb::Restart => return Ok(()),
    };
    done.map(|_| ())
}

/// Whether a control that is given again is refused because it was given before.
fn was_given(verb: Verb, given: &Result<(), ControlError>) -> bool {
    match given {
        Err(ControlError::Over { .. }) => verb != Verb::Redrive,
        Err(ControlError::Paused { .. }) => verb == Verb::Pause,
        Err(ControlError::NotPaused { .. }) => verb == Verb::Resume,
        Err(ControlError::Cancelling { .. }) => verb == Verb::Cancel,
        Err(ControlError::NotFailed { .. }) => verb == Verb::Redrive,
        _ => false,
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
        let cast = |runtime: Runtime| {
            let (run, approval, vote) = (run.clone(), approval.clone(), vote.clone());
            async move { runtime.vote(&run, &approval, vote).await }
        };
        let (voted, _) = shared.process.ask(cast, VoteError::code).await;
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
