//! A whole run in one thread: scopes, children and time, with nothing but `decide`. Every decision is checked against the fold
//! of its journal.
// Shared by test binaries, each of which uses a part of it; a test may panic anywhere.
#![allow(unreachable_pub, missing_docs, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::Value;
use jiff::SignedDuration;
use jiff::Timestamp;
use model::Workflow;
use stepwell_engine::Activity;
use stepwell_engine::ChildEnded;
use stepwell_engine::Decision;
use stepwell_engine::Encoded;
use stepwell_engine::Env;
use stepwell_engine::Error;
use stepwell_engine::Event;
use stepwell_engine::Failure;
use stepwell_engine::ForkContext;
use stepwell_engine::Next;
use stepwell_engine::Outcome;
use stepwell_engine::Record;
use stepwell_engine::RunId;
use stepwell_engine::RunStarted;
use stepwell_engine::Scope;
use stepwell_engine::ScopeKey;
use stepwell_engine::ScopePath;
use stepwell_engine::Stimulus;
use stepwell_engine::Trigger;
use stepwell_engine::decide;

/// What the stubbed action answers: by agent (or action), state, attempt.
pub type Answer = dyn FnMut(&Asked) -> Option<Result<Value, Failure>>;

/// One performance.
#[derive(Clone, Debug)]
pub struct Asked {
    pub agent: String,
    pub state: String,
    pub scope: ScopePath,
    pub visit: u32,
    pub attempt: u32,
    pub epoch: u32,
    pub key: String,
    pub request: Value,
}

struct Stored {
    scope: Scope,
    base: Option<Arc<ForkContext>>,
    records: Vec<Encoded>,
}

pub struct World {
    pub workflow: Workflow,
    pub now: Timestamp,
    pub asked: Vec<Asked>,
    /// Attempts that were claimed and not answered: their worker is as good as dead.
    pub unanswered: Vec<Asked>,
    answer: Box<Answer>,
    scopes: BTreeMap<ScopePath, Stored>,
    inbox: Vec<stepwell_engine::Signal>,
    appends: u64,
    heavy: bool,
    /// Whether the workers that hold attempts are alive.
    alive: bool,
    /// How long it takes from one record to the next of the same visit.
    pub slowness: SignedDuration,
}

pub fn json(text: &str) -> Value {
    Value::parse_json(text).unwrap()
}

pub fn failure(kind: &str, definite: bool) -> Failure {
    Failure { error: Error::new(kind, format!("{kind} happened")), definite, retry_after: None }
}

impl World {
    pub fn new(source: &str, answer: impl FnMut(&Asked) -> Option<Result<Value, Failure>> + 'static) -> Self {
        let parsed = model::parse(source, &model::Options::default());
        let workflow = parsed
            .workflow
            .unwrap_or_else(|| panic!("{}", model::render_issues(source, "test", &parsed.issues, false)));
        Self {
            workflow,
            now: "2026-01-31T09:00:00Z".parse().unwrap(),
            asked: Vec::new(),
            unanswered: Vec::new(),
            answer: Box::new(answer),
            scopes: BTreeMap::new(),
            inbox: Vec::new(),
            appends: 0,
            heavy: false,
            alive: true,
            slowness: SignedDuration::ZERO,
        }
    }

    pub fn start(&mut self, input: Value) {
        let run = RunId::new("run");
        let deadline = self
            .workflow
            .timeout
            .map(|timeout| self.now + SignedDuration::from_millis(i64::try_from(timeout.0).unwrap()));
        let started = RunStarted {
            run: run.clone(),
            workflow: self.workflow.id.clone(),
            version: "1".into(),
            hash: self.workflow.hash.clone(),
            agents: BTreeMap::new(),
            input,
            starter: Some("user:starter".into()),
            trigger: Trigger::Manual,
            deadline,
            parent: None,
        };
        self.scopes
            .insert(ScopePath::root(), Stored { scope: Scope::root(run), base: None, records: Vec::new() });
        self.give(&ScopePath::root(), Stimulus::StartRun(Box::new(started)));
        self.settle();
    }

    pub fn root(&self) -> &Scope {
        &self.scopes[&ScopePath::root()].scope
    }

    pub fn scope(&self, path: &str) -> Option<&Scope> {
        self.scopes.get(&ScopePath::from_stored(path)).map(|stored| &stored.scope)
    }

    pub fn scopes(&self) -> impl Iterator<Item = (&ScopePath, &Scope)> {
        self.scopes.iter().map(|(path, stored)| (path, &stored.scope))
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.root().outcome()
    }

    pub fn context(&self, path: &str) -> Value {
        expression::Path::parse(path)
            .unwrap()
            .read(self.root().context())
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn events(&self, path: &str) -> Vec<Event> {
        let stored = &self.scopes[&ScopePath::from_stored(path)];
        stored.records.iter().flat_map(|record| Record::decode(&record.body).unwrap().events).collect()
    }

    pub fn records(&self, path: &str) -> usize {
        self.scopes[&ScopePath::from_stored(path)].records.len()
    }

    /// States entered by a scope, in order, with children's own in braces.
    pub fn path(&self, scope: &str) -> Vec<String> {
        self.events(scope)
            .into_iter()
            .filter_map(|event| match event {
                Event::StateEntered { state, .. } => Some(state.to_string()),
                _ => None,
            })
            .collect()
    }

    /// One stimulus to one scope; and what it leads to in that scope.
    pub fn give(&mut self, path: &ScopePath, stimulus: Stimulus) -> Decision {
        let mut stored = self.scopes.remove(path).unwrap_or_else(|| panic!("no scope {path}"));
        let decision = self.decide_once(&mut stored, stimulus);
        let next = decision.next;
        self.scopes.insert(path.clone(), stored);
        match next {
            Next::Again { heavy } => {
                self.now += self.slowness;
                self.heavy = heavy;
                self.give(path, Stimulus::Visit);
                self.heavy = false;
            }
            Next::Perform => self.perform(path),
            _ => {}
        }
        decision
    }

    fn decide_once(&mut self, stored: &mut Stored, stimulus: Stimulus) -> Decision {
        let env = Env {
            now: self.now,
            worker: "w".into(),
            may_perform: true,
            budget: None,
            claim_is_live_until: self.alive.then_some(Timestamp::MAX),
            entropy: 0,
            heavy: self.heavy,
        };
        let fresh = stored.scope.seq() == 0;
        let decision = decide(&mut stored.scope, &self.workflow, stimulus, &env);
        if decision.events.is_empty() {
            return decision;
        }
        self.appends += 1;
        let record = stored.scope.seal(decision.events.clone(), self.appends.to_string().into()).unwrap();
        stored.records.push(record);
        let mut replayed = match (&stored.base, fresh) {
            (Some(base), _) => Scope::child(stored.scope.key().clone(), base.clone()),
            (None, _) => Scope::root(stored.scope.key().run.clone()),
        };
        for record in &stored.records {
            replayed.replay(&self.workflow, record).unwrap();
        }
        same(&replayed, &stored.scope, "the live fold and the replayed one differ");
        let again = Scope::from_snapshot(&stored.scope.snapshot().unwrap()).unwrap();
        same(&again, &stored.scope, "a snapshot gives another scope");
        decision
    }

    fn perform(&mut self, path: &ScopePath) {
        let scope = &self.scopes[path].scope;
        let claim = scope.claim(&self.workflow).unwrap();
        let agent = match &claim.operation.action {
            model::Action::Agent(agent) => agent.to_string(),
            other => format!("{other:?}"),
        };
        let asked = Asked {
            agent,
            state: claim.state.name.to_string(),
            scope: path.clone(),
            visit: claim.visit,
            attempt: claim.attempt,
            epoch: claim.epoch,
            key: format!("{}/{}/{}", scope.key().run, claim.step, claim.key),
            request: claim.request.clone(),
        };
        let (state, visit, attempt, epoch) =
            (claim.state.name.clone(), claim.visit, claim.attempt, claim.epoch);
        self.asked.push(asked.clone());
        match (self.answer)(&asked) {
            Some(result) => {
                self.give(path, Stimulus::Performed { state, visit, attempt, epoch, result });
            }
            None => self.unanswered.push(asked),
        }
    }

    /// Until nothing more happens at this time: what every visit and repair would do.
    pub fn settle(&mut self) {
        loop {
            let before = self.appends;
            let paths: Vec<_> = self.scopes.keys().cloned().collect();
            for path in paths {
                self.settle_scope(&path);
            }
            if self.appends == before {
                return;
            }
        }
    }

    fn settle_scope(&mut self, path: &ScopePath) {
        if let Some((name, after)) = self.scopes[path].scope.awaited_signal() {
            let (name, inbox) = (name.clone(), self.inbox.clone());
            let signals =
                inbox.into_iter().filter(|signal| signal.name == name && signal.number > after).collect();
            self.give(path, Stimulus::Signals(signals));
        }
        self.give(path, Stimulus::Visit);
        let scope = &self.scopes[path].scope;
        let Some(view) = scope.fork(&self.workflow) else { return };
        let (fork, clocks) = (view.seq(), view.clocks());
        let children: Vec<_> =
            view.live().map(|index| (index, view.path(index), view.start(index))).collect();
        let base = Arc::new(scope.fork_context(&self.workflow).unwrap());
        let run = scope.key().run.clone();
        let mut ended = Vec::new();
        for (index, child, started) in children {
            if !self.scopes.contains_key(&child) {
                let key = ScopeKey::new(run.clone(), child.clone());
                let stored = Stored {
                    scope: Scope::child(key, base.clone()),
                    base: Some(base.clone()),
                    records: Vec::new(),
                };
                self.scopes.insert(child.clone(), stored);
                self.give(&child, Stimulus::StartChild { started: Box::new(started), clocks });
            } else if !self.scopes[&child].scope.has(clocks) {
                self.give(&child, Stimulus::Sync(clocks));
            }
            let stored = &self.scopes[&child].scope;
            if let Some(outcome) = stored.outcome() {
                ended.push(ChildEnded { index, seq: stored.seq(), outcome: outcome.clone() });
            }
        }
        if !ended.is_empty() {
            self.give(path, Stimulus::ChildrenEnded { fork, ended });
        }
    }

    /// Time passes; every deadline on the way is met when it comes.
    pub fn pass(&mut self, seconds: i64) {
        let until = self.now + SignedDuration::from_secs(seconds);
        loop {
            let due = self.scopes.values().filter_map(|stored| stored.scope.due()).min();
            match due.filter(|due| *due <= until) {
                Some(due) if due > self.now => self.now = due,
                Some(_) => {
                    // Due already: a settled world with something due waits for somebody else (a claim in flight).
                    self.now = until;
                    self.settle();
                    return;
                }
                None => {
                    self.now = until;
                    self.settle();
                    return;
                }
            }
            self.settle();
        }
    }

    pub fn control(&mut self, stimulus: Stimulus) -> Decision {
        let decision = self.give(&ScopePath::root(), stimulus);
        self.settle();
        decision
    }

    pub fn signal(&mut self, name: &str, payload: Value) {
        let number = self.inbox.len() as u64 + 1;
        self.inbox.push(stepwell_engine::Signal { number, name: name.into(), payload, at: self.now });
        self.settle();
    }

    /// Answers an attempt that was left unanswered.
    pub fn answer_late(&mut self, index: usize, result: Result<Value, Failure>) {
        let asked = self.unanswered.remove(index);
        let visit = asked.visit;
        let (state, attempt, epoch) = (asked.state.as_str().into(), asked.attempt, asked.epoch);
        self.give(&asked.scope, Stimulus::Performed { state, visit, attempt, epoch, result });
        self.settle();
    }

    /// Visits every scope whose attempt nobody answered, as if its worker were dead.
    pub fn workers_die(&mut self) {
        let paths: Vec<_> = self.scopes.keys().cloned().collect();
        for path in paths {
            if self.scopes[&path].scope.activity() == Activity::Performing {
                self.alive = false;
                self.give(&path, Stimulus::Visit);
                self.alive = true;
            }
        }
        self.settle();
    }
}

fn same(left: &Scope, right: &Scope, what: &str) {
    let text = |scope: &Scope| String::from_utf8(scope.snapshot().unwrap().to_vec()).unwrap();
    let (left, right) = (text(left), text(right));
    if left != right {
        let at = left.bytes().zip(right.bytes()).position(|(left, right)| left != right).unwrap_or_default();
        let near = |text: &str| text.chars().skip(at.saturating_sub(60)).take(200).collect::<String>();
        panic!("{what}:\n  {}\n  {}", near(&left), near(&right));
    }
}
