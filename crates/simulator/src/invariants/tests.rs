//! For each invariant a stream that breaks it, and streams that keep it.

mod controls;
mod retries;

use std::sync::Arc;
use std::time::Duration;

use engine::ApprovalRequested;
use engine::ChildEnded;
use engine::ChildKey;
use engine::Encoded;
use engine::Error;
use engine::Event;
use engine::FORMAT;
use engine::Inherited;
use engine::Outcome;
use engine::Record;
use engine::RunId;
use engine::RunStarted;
use engine::Scope;
use engine::ScopeKey;
use engine::ScopePath;
use engine::ScopeStarted;
use engine::StepId;
use engine::Trigger;
use engine::Vote;
use expression::Value;
use jiff::Timestamp;
use model::Workflow;
use runtime::Runtime;
use runtime::ports::ApprovalRow;
use runtime::ports::CallError;
use runtime::ports::DueRow;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::News;
use runtime::ports::Notice;
use runtime::ports::Place;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;

use super::Checker;
use super::Options;
use super::Violation;
use crate::observation::Asked;
use crate::observation::Observation;
use crate::observation::ProcessId;
use crate::observation::What;

const SOURCE: &str = r#"
id: w
timeoutSeconds: 86400
states:
  - {id: pay, type: agent, agent: x, task: pay, timeoutSeconds: 10, retry: {maxAttempts: 3, backoffSeconds: 10, backoff: exponential, maxBackoffSeconds: 15, jitter: 0.5, retryOn: [declined]}, next: once}
  - {id: once, type: agent, agent: x, task: once, atMostOnce: true, next: nap}
  - {id: nap, type: wait, duration: 60s, next: ask}
  - {id: ask, type: approval, message: ok?, approvers: ["user:a", "user:b"], quorum: 2, next: hear}
  - {id: hear, type: signal, signal: go, next: each}
  - id: each
    type: foreach
    itemsPath: workflow.input.items
    maxConcurrency: 2
    iterator:
      states:
        - {id: work, type: agent, agent: x, task: work}
"#;

const NAMES: usize = 19;

/// A history being made up: what is appended is stored, and seen by the checker.
struct Story {
    checker: Checker,
    store: runtime::memory::Store,
    workflow: Arc<Workflow>,
    now: Timestamp,
    by: u32,
    calls: u64,
    appended: u64,
    contexts: Vec<(ScopeKey, Scope)>,
    revision: u64,
}

type Seen = Result<(), Violation>;

fn run() -> RunId {
    RunId::new("r")
}

fn root() -> ScopeKey {
    ScopeKey::root(run())
}

fn inbox() -> ScopeKey {
    ScopeKey::new(run(), ScopePath::inbox())
}

fn child(index: u32) -> ScopeKey {
    ScopeKey::new(run(), ScopePath::root().child("each", 1, &ChildKey::Index(index)))
}

fn step(state: &str) -> StepId {
    StepId::new(&run(), &ScopePath::root(), state, 1)
}

impl Story {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let parsed = model::parse(SOURCE, &model::Options { file: "w.yaml", agents: None, workflows: None });
        let workflow = Arc::new(parsed.workflow.unwrap_or_else(|| panic!("{:?}", parsed.issues)));
        Self {
            checker: Checker::new([workflow.clone()], options),
            store: runtime::memory::Store::new(),
            workflow,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            by: 1,
            calls: 0,
            appended: 0,
            contexts: Vec::new(),
            revision: 0,
        }
    }

    /// A story in which the run has started.
    fn started() -> Self {
        let mut story = Self::new();
        story.start().unwrap();
        story
    }

    fn see(&mut self, what: What) -> Seen {
        self.checker.see(&Observation { at: self.now, clock: self.now, what })
    }

    /// The bus hears of the run.
    fn notify(&mut self, id: &str, news: News) -> Seen {
        let (run, workflow, version) = (run(), self.workflow.id.clone(), "1".into());
        let notice = Notice { id: format!("{run}/{id}").into(), at: self.now, run, workflow, version, news };
        self.see(What::Notified(Box::new(notice)))
    }

    fn pass(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
    }

    fn start(&mut self) -> Seen {
        let started = RunStarted {
            run: run(),
            workflow: "w".into(),
            version: "1".into(),
            hash: self.workflow.hash.clone(),
            agents: std::collections::BTreeMap::new(),
            input: Value::parse_json(r#"{"items": [1, 2, 3]}"#).unwrap(),
            starter: Some("user:s".into()),
            trigger: Trigger::Manual,
            deadline: Some(self.now + Duration::from_hours(24)),
            parent: None,
        };
        self.put(&root(), vec![Event::RunStarted(Box::new(started))])
    }

    fn encode(&mut self, scope: &ScopeKey, events: Vec<Event>) -> Encoded {
        self.appended += 1;
        let last = self.checker.ledger.line(scope).and_then(|line| line.stored.last());
        let record = Record {
            format: FORMAT,
            seq: last.map_or(1, |last| last.seq + 1),
            append_id: format!("a{}", self.appended).into(),
            prev: last.map_or_else(|| "".into(), |last| last.hash.clone()),
            at: self.now,
            events,
        };
        record.encode().unwrap()
    }

    fn append(&mut self, scope: &ScopeKey, record: Encoded, extras: Vec<Extra>) -> Seen {
        let stored = self.store.append(scope, &record, extras.clone());
        futures_now(stored).unwrap();
        let by = ProcessId(self.by);
        self.see(What::Appended { by, scope: scope.clone(), record, extras })
    }

    fn put(&mut self, scope: &ScopeKey, events: Vec<Event>) -> Seen {
        self.put_with(scope, events, Vec::new())
    }

    fn put_with(&mut self, scope: &ScopeKey, events: Vec<Event>, mut extras: Vec<Extra>) -> Seen {
        let end = events.iter().find_map(|event| match event {
            Event::Ended { outcome } => Some(super::promises::status_of(outcome)),
            _ => None,
        });
        let forked = events.iter().any(|event| matches!(event, Event::Forked { .. }));
        let record = self.encode(scope, events);
        if let Some(status) = end.filter(|_| scope.path.is_root()) {
            extras.push(Extra::Summary(Box::new(self.summary(status))));
        }
        if forked {
            extras.push(Extra::ForkContext(self.context(&record)));
        }
        self.append(scope, record, extras)
    }

    /// What the fork in this record of the root gives its children.
    fn context(&mut self, record: &Encoded) -> Arc<[u8]> {
        let mut scope = Scope::root(run());
        let before = self.checker.ledger.line(&root()).unwrap().stored.clone();
        for stored in before.iter().chain([record]) {
            scope.replay(&self.workflow, stored).unwrap();
        }
        let context = scope.fork_context(&self.workflow).unwrap();
        self.contexts.push((root(), scope));
        serde_json::to_vec(&context).unwrap().into()
    }

    fn summary(&self, status: RunStatus) -> RunSummary {
        RunSummary {
            run: run(),
            workflow: "w".into(),
            version: "1".into(),
            status,
            starter: Some("user:s".into()),
            started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            updated_at: self.now,
            ended_at: status.is_terminal().then_some(self.now),
            error: None,
            stuck: None,
            labels: std::collections::BTreeMap::new(),
            revision: self.revision,
        }
    }

    fn show(&mut self, status: RunStatus) -> Seen {
        self.revision += 1;
        let summary = self.summary(status);
        self.see(What::Summary(Box::new(summary)))
    }

    fn call(&mut self, state: &str, (attempt, epoch, key): (u32, u32, u32)) -> Seen {
        let call = self.calls;
        self.calls += 1;
        let step = step(state);
        let key = format!("r/{step}/{key}").into();
        let (by, scope, state) = (ProcessId(self.by), root(), state.into());
        let request = Value::Null;
        self.see(What::Called { call, by, scope, step, state, attempt, epoch, key, request })
    }

    fn answer(&mut self, answer: Result<Value, CallError>) -> Seen {
        self.see(What::Answered { call: self.calls - 1, answer })
    }

    fn told(&mut self, asked: Asked) -> Seen {
        self.see(What::Told { run: Some(run()), asked, answer: Ok(()), lost: 0 })
    }

    /// The first attempt of `state` is claimed and called.
    fn claimed(state: &str) -> Self {
        let mut story = Self::started();
        story.put(&root(), vec![entered(state), claim((1, 1, 1))]).unwrap();
        story.call(state, (1, 1, 1)).unwrap();
        story
    }

    /// Three iterations, two of them launched and begun.
    fn forked() -> Self {
        let mut story = Self::started();
        let items = Value::parse_json("[1, 2, 3]").ok();
        let forked = Event::Forked { children: 3, items };
        story.put(&root(), vec![entered("each"), forked, launched(2)]).unwrap();
        story.begin(0).unwrap();
        story.begin(1).unwrap();
        story
    }

    fn begin(&mut self, index: u32) -> Seen {
        let started = ScopeStarted {
            fork: 2,
            state: self.address("each"),
            index,
            key: ChildKey::Index(index),
            item: Some(Value::Int(i64::from(index) + 1)),
            clocks: Inherited::default(),
        };
        self.put(&child(index), vec![Event::ScopeStarted(Box::new(started))])
    }

    fn address(&self, state: &str) -> Arc<str> {
        self.workflow.states().find(|known| *known.name == *state).unwrap().address.clone()
    }

    async fn runtime(&self) -> Runtime {
        let clock = Arc::new(runtime::memory::ManualClock::new(self.now));
        let store = Arc::new(self.store.clone());
        let ports = runtime::Ports {
            journal: store.clone(),
            catalog: store,
            doorbell: Arc::new(runtime::memory::Doorbell::new(clock.clone())),
            agents: Arc::new(Nobody),
            clock,
            ids: Arc::new(runtime::memory::SeededIds::new(1)),
        };
        let runtime = Runtime::new(ports, runtime::Options::shared("reader"));
        runtime.register_alone(SOURCE, None).await.unwrap();
        runtime
    }

    async fn finish(&self) -> Seen {
        self.checker.finish(&self.runtime().await).await
    }
}

struct Nobody;

#[async_trait::async_trait]
impl runtime::ports::Agents for Nobody {
    async fn perform(&self, _: runtime::ports::Call) -> Result<Value, CallError> {
        std::future::pending().await
    }
}

/// The memory store never waits.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[track_caller]
fn breaks(invariant: &str, seen: &Seen) {
    match seen {
        Err(violation) if violation.invariant == invariant => {}
        other => panic!("expected {invariant} to be broken: {other:?}"),
    }
}

fn entered(state: &str) -> Event {
    visited(state, 1)
}

fn visited(state: &str, visit: u32) -> Event {
    Event::StateEntered { state: state.into(), visit, deadline: None }
}

fn claim((attempt, epoch, key): (u32, u32, u32)) -> Event {
    let request = (attempt == 1 && epoch == 1).then_some(Value::Null);
    Event::StepClaimed { attempt, epoch, key, worker: "p".into(), request, secrets: Vec::new() }
}

fn succeeded(output: i64) -> Event {
    Event::StepSucceeded { attempt: 1, epoch: 1, output: Value::Int(output) }
}

fn completed() -> Event {
    Event::StateCompleted { output: None, writes: Vec::new(), next: Some("nap".into()) }
}

fn failed(error: Error, definite: bool, retry_at: Option<Timestamp>) -> Event {
    Event::StepFailed { attempt: 1, epoch: 1, error, definite, retry_at }
}

fn launched(upto: u32) -> Event {
    Event::ChildrenLaunched { upto, again: Vec::new() }
}

fn paused() -> Event {
    Event::Paused { by: None, inherited: None }
}

fn resumed(shift: u64) -> Event {
    Event::Resumed { by: None, shift, inherited: None }
}

fn cancelled() -> Event {
    Event::CancelRequested { by: None, inherited: None, reason: None }
}

fn redriven() -> Event {
    Event::Redriven { by: None, inherited: None }
}

fn ended(outcome: Outcome) -> Event {
    Event::Ended { outcome }
}

fn cancelled_end() -> Event {
    ended(Outcome::Cancelled { reason: None })
}

fn agent_error() -> Error {
    Error::new("declined", "no")
}

fn done(index: u32, seq: u64) -> Event {
    let outcome = Outcome::Completed { output: Value::Int(1) };
    Event::ChildrenEnded { fork: 2, ended: vec![ChildEnded { index, seq, outcome }] }
}

fn vote(approver: &str, approve: bool) -> Event {
    let (approver, teams) = (approver.into(), Vec::new());
    Event::ApprovalVoted { vote: Vote { approve, approver, teams, comment: None, form: None } }
}

fn decided(approver: &str, approved: bool) -> Event {
    let output = format!(r#"{{"approved": {approved}, "approver": "{approver}"}}"#);
    Event::ApprovalDecided { approved, output: Value::parse_json(&output).unwrap() }
}

fn question(story: &Story) -> ApprovalRequested {
    ApprovalRequested {
        id: step("ask").as_str().into(),
        message: "ok?".into(),
        title: None,
        summary: None,
        approvers: vec!["user:a".into(), "user:b".into()],
        quorum: 2,
        excluded: Some("user:b2".into()),
        deadline: story.now + Duration::from_hours(1),
    }
}

fn asking() -> Story {
    let mut story = Story::started();
    let request = Box::new(question(&story));
    story.put(&root(), vec![entered("ask"), Event::ApprovalRequested(request)]).unwrap();
    story
}

fn signal(id: &str, payload: i64) -> Event {
    Event::SignalSent { id: id.into(), name: "go".into(), payload: Value::Int(payload), by: None }
}

#[test]
fn every_invariant_has_a_name_and_a_promise() {
    let names: std::collections::BTreeSet<_> = super::INVARIANTS.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), NAMES);
}

#[test]
fn gapless() {
    let mut story = Story::started();
    let good = story.encode(&root(), vec![paused()]);
    let mut gap = Record::decode(&good.body).unwrap();
    gap.seq = 3;
    let see = |story: &mut Story, record: Encoded| {
        story.see(What::Appended { by: ProcessId(1), scope: root(), record, extras: Vec::new() })
    };
    breaks("gapless", &see(&mut story, gap.encode().unwrap()));
    let mut altered = Record::decode(&good.body).unwrap();
    altered.prev = "other".into();
    breaks("gapless", &see(&mut story, altered.encode().unwrap()));
    breaks("gapless", &see(&mut story, Encoded { hash: "other".into(), ..good.clone() }));
    let mut twice = Record::decode(&good.body).unwrap();
    twice.append_id = "a1".into();
    breaks("gapless", &see(&mut story, twice.encode().unwrap()));
    see(&mut story, good).unwrap();
}

#[test]
fn performed_once() {
    let mut story = Story::claimed("pay");
    // Another process, while the first is alive and holds its lease.
    story.pass(29);
    story.by = 2;
    breaks("performed-once", &story.put(&root(), vec![claim((1, 2, 1))]));

    let mut story = Story::claimed("pay");
    let lease =
        runtime::ports::Lease { worker: "p".into(), claim: 2, until: story.now + Duration::from_secs(50) };
    story.pass(20);
    story.see(What::Renewed { by: ProcessId(1), scope: root(), lease }).unwrap();
    story.pass(15);
    story.by = 2;
    breaks("performed-once", &story.put(&root(), vec![claim((1, 2, 1))]));

    // Once the lease is over, or the process has died, it may; and what succeeded is not called again.
    for dies in [true, false] {
        let mut story = Story::claimed("pay");
        if dies {
            story.see(What::ProcessDied(ProcessId(1))).unwrap();
        } else {
            story.pass(30);
        }
        story.by = 2;
        story.put(&root(), vec![claim((1, 2, 1))]).unwrap();
        story.call("pay", (1, 2, 1)).unwrap();
        breaks("performed-once", &story.call("pay", (1, 2, 1)));
    }

    // By its own clock it may take it sooner, as long as that clock is ahead.
    for is_set_right in [false, true] {
        let mut story = Story::started();
        let ahead = story.now + Duration::from_secs(25);
        let jumped = What::ClockJumped(ProcessId(2));
        story.checker.see(&Observation { at: story.now, clock: ahead, what: jumped.clone() }).unwrap();
        story.pass(1);
        if is_set_right {
            story.see(jumped).unwrap();
            story.pass(1);
        }
        story.put(&root(), vec![entered("pay"), claim((1, 1, 1))]).unwrap();
        story.pass(5);
        story.by = 2;
        let seen = story.put(&root(), vec![claim((1, 2, 1))]);
        if is_set_right { breaks("performed-once", &seen) } else { seen.unwrap() }
    }

    let mut story = Story::claimed("pay");
    story.answer(Ok(Value::Int(7))).unwrap();
    story.put(&root(), vec![succeeded(7)]).unwrap();
    breaks("performed-once", &story.put(&root(), vec![claim((1, 2, 1))]));

    // A worker that did not stand still does not call what was taken over.
    let mut story = Story::started();
    story.put(&root(), vec![entered("pay"), claim((1, 1, 1))]).unwrap();
    story.see(What::ProcessDied(ProcessId(1))).unwrap();
    story.by = 2;
    story.put(&root(), vec![claim((1, 2, 1))]).unwrap();
    story.by = 1;
    breaks("performed-once", &story.call("pay", (1, 1, 1)));
}

#[test]
fn one_key_per_attempt() {
    let retry = |definite: bool, key: u32| {
        let mut story = Story::claimed("pay");
        story.answer(Err(CallError { error: agent_error(), definite, retry_after: None })).unwrap();
        let at = story.now + Duration::from_secs(10);
        story.put(&root(), vec![failed(agent_error(), definite, Some(at))]).unwrap();
        story.pass(10);
        story.put(&root(), vec![claim((2, 1, key))])?;
        story.call("pay", (2, 1, key))
    };
    retry(true, 2).unwrap();
    retry(false, 1).unwrap();
    breaks("one-key-per-attempt", &retry(true, 1));
    breaks("one-key-per-attempt", &retry(false, 2));

    let mut story = Story::started();
    story.put(&root(), vec![entered("pay"), claim((1, 1, 1))]).unwrap();
    breaks("one-key-per-attempt", &story.call("pay", (1, 1, 2)));

    let mut story = Story::claimed("once");
    story.see(What::ProcessDied(ProcessId(1))).unwrap();
    breaks("one-key-per-attempt", &story.put(&root(), vec![claim((1, 2, 1))]));
}

#[test]
fn never_backwards() {
    let mut story = Story::started();
    breaks("never-backwards", &story.put(&root(), vec![visited("pay", 2)]));

    let mut story = Story::started();
    story.pass(-1);
    breaks("never-backwards", &story.put(&root(), vec![paused()]));

    let end = || {
        let mut story = Story::started();
        story.put(&root(), vec![cancelled(), cancelled_end()]).unwrap();
        story.show(RunStatus::Cancelled).unwrap();
        story
    };
    breaks("never-backwards", &end().put(&root(), vec![cancelled_end()]));
    breaks("never-backwards", &end().show(RunStatus::Running));
    breaks("never-backwards", &Story::started().put(&root(), vec![redriven()]));
    let mut story = end();
    story.revision = 0;
    breaks("never-backwards", &story.show(RunStatus::Cancelled));
    let mut story = end();
    story.put(&root(), vec![redriven()]).unwrap();
    story.show(RunStatus::Running).unwrap();

    // The end and the summary that says so are one.
    let mut story = Story::started();
    let record = story.encode(&root(), vec![cancelled(), cancelled_end()]);
    breaks("never-backwards", &story.append(&root(), record, Vec::new()));
}

#[test]
fn decided_once() {
    let mut story = asking();
    story.put(&root(), vec![vote("user:a", true)]).unwrap();
    story.put(&root(), vec![vote("user:b", true), decided("user:b", true)]).unwrap();
    breaks("decided-once", &story.put(&root(), vec![decided("user:b", false)]));

    let vote_after = |before: Vec<Event>, events: Vec<Event>| {
        let mut story = asking();
        if !before.is_empty() {
            story.put(&root(), before).unwrap();
        }
        story.put(&root(), events)
    };
    let broken = [
        // Too few; the same person twice; somebody else; a vote that is no longer asked for; a decision forgotten.
        (vec![], vec![vote("user:a", true), decided("user:a", true)]),
        (vec![vote("user:a", true)], vec![vote("user:a", true)]),
        (vec![], vec![vote("user:c", true)]),
        (vec![], vec![vote("user:b2", true)]),
        (vec![vote("user:a", false), decided("user:a", false)], vec![vote("user:b", true)]),
        (vec![], vec![vote("user:a", false)]),
        (vec![], vec![vote("user:a", false), decided("user:b", false)]),
        (vec![], vec![decided("user:a", false)]),
    ];
    for (before, events) in broken {
        breaks("decided-once", &vote_after(before, events));
    }

    let mut story = asking();
    story.pass(3600);
    breaks("decided-once", &story.put(&root(), vec![vote("user:a", true)]));
    story = asking();
    story.pass(3600);
    story.put(&root(), vec![Event::WaitTimedOut {}]).unwrap();
    breaks("decided-once", &story.put(&root(), vec![vote("user:a", true)]));

    // The row says what the journal says, and stays so.
    let mut story = asking();
    let row = |story: &Story, approve: bool, settled: bool| {
        let request = question(story);
        let (Event::ApprovalVoted { vote }, Event::ApprovalDecided { output: decision, .. }) =
            (vote("user:a", approve), decided("user:a", approve))
        else {
            unreachable!()
        };
        vec![Extra::Approval(Box::new(ApprovalRow {
            scope: root(),
            workflow: "w".into(),
            state: "ask".into(),
            request,
            requested_at: story.now,
            votes: vec![vote],
            settled_at: settled.then_some(story.now),
            decision: settled.then_some(decision),
        }))]
    };
    let events = || vec![vote("user:a", false), decided("user:a", false)];
    let rejected = row(&story, false, true);
    story.put_with(&root(), events(), rejected).unwrap();
    let approved = row(&story, true, true);
    breaks("decided-once", &story.put_with(&root(), vec![completed()], approved));
    let mut story = asking();
    let open = row(&story, false, false);
    breaks("decided-once", &story.put_with(&root(), events(), open));
}

#[test]
fn cancel_starts_nothing() {
    let mut story = Story::started();
    breaks("cancel-starts-nothing", &story.put(&root(), vec![cancelled(), entered("pay"), claim((1, 1, 1))]));

    let mut story = Story::forked();
    story.put(&root(), vec![cancelled()]).unwrap();
    breaks("cancel-starts-nothing", &story.put(&root(), vec![cancelled_end()]));

    let mut story = Story::forked();
    for index in [0, 1] {
        story.put(&child(index), vec![cancelled(), cancelled_end()]).unwrap();
    }
    story.put(&root(), vec![cancelled()]).unwrap();
    let outcome = Outcome::Cancelled { reason: None };
    let ended = [0, 1].map(|index| ChildEnded { index, seq: 2, outcome: outcome.clone() }).to_vec();
    story.put(&root(), vec![Event::ChildrenEnded { fork: 2, ended }, cancelled_end()]).unwrap();
    story.put(&child(0), vec![redriven()]).unwrap();
    let work = Event::StateEntered { state: story.address("work"), visit: 1, deadline: None };
    breaks("cancel-starts-nothing", &story.put(&child(0), vec![work, claim((1, 1, 1))]));
}

#[test]
fn pause_holds() {
    let napping = || {
        let mut story = Story::started();
        let until = story.now + Duration::from_mins(1);
        story.put(&root(), vec![entered("nap"), Event::TimerStarted { until, absolute: false }]).unwrap();
        story
    };
    let mut story = napping();
    story.pass(59);
    breaks("pause-holds", &story.put(&root(), vec![Event::TimerFired {}]));
    let mut story = napping();
    story.put(&root(), vec![paused()]).unwrap();
    story.pass(100);
    breaks("pause-holds", &story.put(&root(), vec![Event::TimerFired {}]));
    let mut story = napping();
    story.put(&root(), vec![paused()]).unwrap();
    story.pass(100);
    story.put(&root(), vec![resumed(100_000)]).unwrap();
    story.pass(59);
    breaks("pause-holds", &story.put(&root(), vec![Event::TimerFired {}]));
    let mut story = napping();
    story.put(&root(), vec![paused()]).unwrap();
    story.pass(100);
    breaks("pause-holds", &story.put(&root(), vec![resumed(99_000)]));
    let mut story = napping();
    story.put(&root(), vec![paused()]).unwrap();
    story.pass(100);
    story.put(&root(), vec![resumed(100_000)]).unwrap();
    story.pass(60);
    story.put(&root(), vec![Event::TimerFired {}]).unwrap();

    // A cancel ends a pause.
    let mut story = napping();
    story.put(&root(), vec![paused()]).unwrap();
    story.put(&root(), vec![cancelled(), cancelled_end()]).unwrap();
    story.put(&root(), vec![redriven()]).unwrap();
    breaks("pause-holds", &story.put(&root(), vec![resumed(0)]));

    // The answer of what was in flight may come; nothing follows it.
    let mut story = Story::claimed("pay");
    story.put(&root(), vec![paused()]).unwrap();
    story.answer(Ok(Value::Int(1))).unwrap();
    story.put(&root(), vec![succeeded(1)]).unwrap();
    breaks("pause-holds", &story.put(&root(), vec![completed()]));

    // Once the run is shown as paused, none of its branches claims.
    let mut story = Story::forked();
    story.put(&root(), vec![paused()]).unwrap();
    story.show(RunStatus::Paused).unwrap();
    let work = Event::StateEntered { state: story.address("work"), visit: 1, deadline: None };
    breaks("pause-holds", &story.put(&child(0), vec![work, claim((1, 1, 1))]));

    let mut story = Story::started();
    story.pass(86_399);
    breaks("pause-holds", &story.put(&root(), vec![Event::DeadlinePassed {}]));
}

#[test]
fn join_once() {
    let finish = |story: &mut Story, index: u32| {
        let outcome = Outcome::Completed { output: Value::Int(1) };
        story.put(&child(index), vec![ended(outcome)]).unwrap();
    };
    let mut story = Story::forked();
    breaks("join-once", &story.put(&root(), vec![launched(3)]));
    let mut story = Story::forked();
    breaks("join-once", &story.begin(2));
    let mut story = Story::forked();
    breaks("join-once", &story.put(&root(), vec![done(0, 2)]));
    let mut story = Story::forked();
    finish(&mut story, 0);
    story.put(&root(), vec![done(0, 2)]).unwrap();
    breaks("join-once", &story.put(&root(), vec![done(0, 2)]));
    let mut story = Story::forked();
    finish(&mut story, 0);
    finish(&mut story, 1);
    story.put(&root(), vec![done(0, 2), done(1, 2)]).unwrap();
    let complete = || Event::StateCompleted { output: Some(Value::Int(1)), writes: Vec::new(), next: None };
    breaks("join-once", &story.put(&root(), vec![complete()]));
    let mut story = Story::forked();
    finish(&mut story, 0);
    finish(&mut story, 1);
    story.put(&root(), vec![done(0, 2), done(1, 2), launched(3)]).unwrap();
    story.begin(2).unwrap();
    finish(&mut story, 2);
    story.put(&root(), vec![done(2, 2), complete()]).unwrap();
    breaks("never-backwards", &story.put(&root(), vec![complete()]));
}

#[test]
fn late_changes_nothing() {
    let late = |epoch: u32| Event::LateResult {
        step: step("pay").as_str().into(),
        state: "pay".into(),
        visit: 1,
        attempt: 1,
        epoch,
        digest: "d".into(),
    };
    let superseded = || {
        let mut story = Story::claimed("pay");
        story.pass(30);
        story.answer(Ok(Value::Int(1))).unwrap();
        story.by = 2;
        story.put(&root(), vec![claim((1, 2, 1))]).unwrap();
        story
    };
    superseded().put(&root(), vec![late(1)]).unwrap();
    breaks("late-changes-nothing", &superseded().put(&root(), vec![late(2)]));
    breaks("late-changes-nothing", &superseded().put(&root(), vec![succeeded(1)]));
    breaks("late-changes-nothing", &superseded().put(&root(), vec![paused(), late(1)]));
}

#[test]
fn answers_are_real() {
    let mut story = Story::claimed("pay");
    breaks("answers-are-real", &story.put(&root(), vec![succeeded(1)]));
    let mut story = Story::claimed("pay");
    story.answer(Ok(Value::Int(2))).unwrap();
    breaks("answers-are-real", &story.put(&root(), vec![succeeded(1)]));
    let mut story = Story::claimed("pay");
    breaks("answers-are-real", &story.put(&root(), vec![failed(agent_error(), true, None)]));
    let mut story = Story::claimed("pay");
    story.answer(Err(CallError { error: agent_error(), definite: false, retry_after: None })).unwrap();
    breaks("answers-are-real", &story.put(&root(), vec![failed(agent_error(), true, None)]));

    let timeout = |seconds: i64| {
        let mut story = Story::claimed("pay");
        story.pass(seconds);
        story.put(&root(), vec![failed(Error::new("timeout", "no answer"), false, None)])
    };
    timeout(10).unwrap();
    breaks("answers-are-real", &timeout(9));

    let interrupted =
        || failed(Error::new("interrupted", "died").with_code(engine::code::STEP_INTERRUPTED), false, None);
    let mut story = Story::claimed("pay");
    story.pass(30);
    breaks("answers-are-real", &story.put(&root(), vec![interrupted()]));
    let mut story = Story::claimed("once");
    story.pass(30);
    story.by = 2;
    story.put(&root(), vec![interrupted()]).unwrap();

    let hear = |number: u64, payload: i64| {
        let mut story = Story::started();
        story.put(&inbox(), vec![signal("s1", 1)]).unwrap();
        story.put(&inbox(), vec![signal("s2", 2)]).unwrap();
        let awaited = Event::SignalAwaited { name: "go".into(), deadline: None };
        let payload = Value::Int(payload);
        let received = Event::SignalReceived { name: "go".into(), number, payload };
        story.put(&root(), vec![entered("hear"), awaited, received])
    };
    hear(1, 1).unwrap();
    breaks("answers-are-real", &hear(1, 2));
    breaks("answers-are-real", &hear(2, 2));
    breaks("answers-are-real", &hear(3, 3));
}

#[test]
fn told_is_true() {
    let mut story = Story::new();
    breaks("told-is-true", &story.told(Asked::Start(None)));
    story.start().unwrap();
    story.told(Asked::Start(Some("k".into()))).unwrap();
    for asked in [Asked::Pause, Asked::Resume, Asked::Cancel, Asked::Redrive, Asked::Signal("s".into())] {
        breaks("told-is-true", &Story::started().told(asked));
    }
    story.put(&root(), vec![paused()]).unwrap();
    story.told(Asked::Pause).unwrap();
    breaks("told-is-true", &story.told(Asked::Pause));
    story.put(&inbox(), vec![signal("s", 1)]).unwrap();
    story.told(Asked::Signal("s".into())).unwrap();

    let mut story = asking();
    let approval: Arc<str> = step("ask").as_str().into();
    let asked = |approve| Asked::Vote { approval: approval.clone(), approve, approver: "user:a".into() };
    story.put(&root(), vec![vote("user:a", true)]).unwrap();
    story.told(asked(true)).unwrap();
    breaks("told-is-true", &story.told(asked(false)));
}

#[test]
fn findable() {
    let due = |story: &Story, scope: ScopeKey, minutes: i64| {
        let at = story.now + jiff::SignedDuration::from_mins(minutes);
        vec![DueRow { at, scope, seq: 1, visits: 0 }]
    };
    // In whatever home.
    let mut embedded = Story::with(Options { exclusive: true, ..Options::default() });
    embedded.start().unwrap();
    breaks("findable", &embedded.checker.findable(embedded.now, &[]));
    embedded.checker.findable(embedded.now, &due(&embedded, root(), 60)).unwrap();

    let story = Story::forked();
    breaks("findable", &story.checker.findable(story.now, &[]));
    breaks("findable", &story.checker.findable(story.now, &due(&story, child(0), 1)));
    breaks("findable", &story.checker.findable(story.now, &due(&story, root(), 100)));
    story.checker.findable(story.now, &due(&story, root(), 60)).unwrap();

    // Whoever waits for people is found at the deadline, whoever waits for a signal when it is sent.
    let story = asking();
    breaks("findable", &story.checker.findable(story.now, &due(&story, root(), 66)));
    story.checker.findable(story.now, &due(&story, root(), 60)).unwrap();
    let mut story = Story::started();
    story.put(&root(), vec![paused()]).unwrap();
    story.checker.findable(story.now, &[]).unwrap();
}

fn over_as(status: RunStatus) -> News {
    News::Status { status, previous: None, started_at: Timestamp::UNIX_EPOCH, error: None }
}

#[tokio::test]
async fn the_world_is_told() {
    let over = || {
        let mut story = Story::started();
        let summary = Extra::Summary(Box::new(story.summary(RunStatus::Cancelled)));
        story.put_with(&root(), vec![cancelled(), cancelled_end()], vec![summary]).unwrap();
        story
    };
    breaks("the-world-is-told", &over().finish().await);
    breaks("the-world-is-told", &over().notify("end/0", over_as(RunStatus::Failed)));
    breaks("the-world-is-told", &Story::started().notify("end/0", over_as(RunStatus::Cancelled)));
    let mut story = over();
    story.notify("end/1", over_as(RunStatus::Cancelled)).unwrap();
    breaks("the-world-is-told", &story.finish().await);
    story.notify("end/0", over_as(RunStatus::Cancelled)).unwrap();
    story.notify("end/0", over_as(RunStatus::Cancelled)).unwrap();
    story.finish().await.unwrap();
    breaks("the-world-is-told", &story.notify("end/0", News::Stuck { code: "X".into() }));
    // A question that was never asked.
    let approval = Place { approval: "x".into(), state: "ask".into(), scope: root().path };
    let news = News::ApprovalRequested { approval, deadline: story.now };
    breaks("the-world-is-told", &story.notify("approval/x/0/requested", news));
}

#[tokio::test]
async fn what_is_seen_at_the_end() {
    // A run that waits for people, and says so.
    let rest = || {
        let mut story = Story::started();
        let request = question(&story);
        let row = ApprovalRow {
            scope: root(),
            workflow: "w".into(),
            state: "ask".into(),
            request: request.clone(),
            requested_at: story.now,
            votes: Vec::new(),
            settled_at: None,
            decision: None,
        };
        let summary = story.summary(RunStatus::WaitingApproval);
        let extras = vec![Extra::Approval(Box::new(row)), Extra::Summary(Box::new(summary))];
        let events = vec![entered("ask"), Event::ApprovalRequested(Box::new(request.clone()))];
        let approval = Place { approval: request.id.clone(), state: "ask".into(), scope: root().path };
        story.put_with(&root(), events, extras).unwrap();
        let news = News::ApprovalRequested { approval, deadline: request.deadline };
        story.notify("approval/requested", news).unwrap();
        story
    };
    rest().finish().await.unwrap();

    // What is overdue does not rest; nor what performs.
    let mut story = rest();
    story.pass(3600 + 126);
    breaks("rest-is-named", &story.finish().await);
    let mut story = Story::started();
    let summary = Extra::Summary(Box::new(story.summary(RunStatus::Running)));
    story.put_with(&root(), vec![entered("pay"), claim((1, 1, 1))], vec![summary]).unwrap();
    breaks("rest-is-named", &story.finish().await);

    // The summary says something else.
    let mut story = rest();
    let summary = Extra::Summary(Box::new(story.summary(RunStatus::WaitingTimer)));
    story.put_with(&root(), vec![vote("user:a", true)], vec![summary]).unwrap();
    breaks("decided-once", &story.finish().await);
    let mut story = rest();
    let record = story.encode(&root(), vec![]);
    let summary = Extra::Summary(Box::new(story.summary(RunStatus::Running)));
    story.append(&root(), record, vec![summary]).unwrap();
    breaks("rest-is-named", &story.finish().await);

    // An entry of what has ended is left.
    let mut story = Story::started();
    let entry = Extra::Due(story.now);
    story.put_with(&root(), vec![cancelled(), cancelled_end()], vec![entry]).unwrap();
    story.finish().await.unwrap();
    story.pass(126);
    breaks("rest-is-named", &story.finish().await);

    // The store has a record that nobody saw.
    let mut story = rest();
    let unseen = story.encode(&root(), vec![paused()]);
    story.store.append(&root(), &unseen, Vec::new()).await.unwrap();
    breaks("replay", &story.finish().await);
    let mut story = rest();
    let unseen = story.encode(&inbox(), vec![signal("s", 1)]);
    story.store.append(&inbox(), &unseen, Vec::new()).await.unwrap();
    breaks("timeline", &story.finish().await);

    // A snapshot that says something else than the journal.
    let story = rest();
    let mut other = Scope::root(run());
    let first = story.checker.ledger.line(&root()).unwrap().stored.first().unwrap().clone();
    other.replay(&story.workflow, &first).unwrap();
    let mut paused = other.clone();
    let second = Record {
        format: FORMAT,
        seq: 2,
        append_id: "x".into(),
        prev: first.hash.clone(),
        at: story.now,
        events: vec![self::paused()],
    };
    paused.replay(&story.workflow, &second.encode().unwrap()).unwrap();
    story.store.put_snapshot(&root(), 2, paused.snapshot().unwrap()).await.unwrap();
    breaks("replay", &story.finish().await);
    let story = rest();
    story.store.put_snapshot(&root(), 1, other.snapshot().unwrap()).await.unwrap();
    story.finish().await.unwrap();
}
