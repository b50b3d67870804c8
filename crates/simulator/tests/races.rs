//! The race table: who wins, and what the others are told, when people, clocks and workers meet at one run.
//!
//! Each act is one row of [`Model::take`], the whole rule. In every order of three acts, one after the other, each is
//! answered and ends as the rule says. At the same instant, from two processes whose store takes random milliseconds, there
//! is an order by which the rule gives all the answers that were given and the end that came; so there is exactly one winner,
//! and who lost was told what stands and left no trace.
//!
//! | who comes second | after approve or reject | after the deadline or the run's timeout | after cancel | after the end of the work | while paused |
//! | --- | --- | --- | --- | --- | --- |
//! | approve, reject | 409 `APPROVAL_SETTLED` with the decision that stands; 200, nothing changes, for the same decision by the same person | 409 `APPROVAL_SETTLED`, no decision | 409 `APPROVAL_SETTLED`, no decision | (nothing is asked) | is taken; what follows waits for resume |
//! | the deadline, the run's timeout | changes nothing | changes nothing | changes nothing | changes nothing | stands still until resume |
//! | cancel | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | the run ends |
//! | pause | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_PAUSED` |
//! | resume | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | what was decided, done or sent meanwhile takes effect |
//! | signal | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | 409 `RUN_OVER` | is kept |
//! | the agent's success | (nobody asks) | is a late result | is a late result | (once) | is recorded; what follows waits for resume |
//!
//! (Where the decision is the run's last state. A run that is not paused answers resume with 409 `RUN_NOT_PAUSED`. A signal that
//! was sent in time is heard, also when the deadline is noticed first; one that was sent later is kept, until the run is over.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // It is a test.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::Vote;
use expression::Value;
use parking_lot::Mutex;
use runtime::ControlError;
use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::Service;
use runtime::ServiceOptions;
use runtime::SignalRequest;
use runtime::StartRequest;
use runtime::VoteError;
use runtime::memory;
use runtime::memory::Fault;
use runtime::memory::Faulty;
use runtime::ports::Agents;
use runtime::ports::ApprovalFilter;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::Catalog;
use runtime::ports::DefinitionKind;
use runtime::ports::Doorbell;
use runtime::ports::Journal;
use runtime::ports::PageRequest;
use tokio::time::Instant;

/// What meets at a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Approve,
    Reject,
    /// The deadline of the approval or the signal.
    Deadline,
    /// The run's own timeout.
    Timeout,
    /// The agent succeeds.
    Finish,
    Cancel,
    Pause,
    Resume,
    Signal,
}
use Act::Approve;
use Act::Cancel;
use Act::Deadline;
use Act::Finish;
use Act::Pause;
use Act::Reject;
use Act::Resume;
use Act::Signal;
use Act::Timeout;

/// What the run does meanwhile, in its only state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// It asks for an approval.
    Asks,
    /// It performs an agent.
    Works,
    /// It waits for a signal.
    Hears,
}
use Setting::Asks;
use Setting::Hears;
use Setting::Works;

const SETTINGS: [(Setting, &[Act]); 3] = [
    (Asks, &[Approve, Reject, Deadline, Timeout, Cancel, Pause, Resume, Signal]),
    (Works, &[Finish, Timeout, Cancel, Pause, Resume, Signal]),
    (Hears, &[Signal, Deadline, Timeout, Cancel, Pause, Resume]),
];

/// When time acts: the deadline, the run's timeout, the end of the agent's work.
const THEN: Duration = Duration::from_mins(10);
/// What has not happened by now does not happen.
const LONG_AFTER: Duration = Duration::from_mins(30);
const SEEDS: u64 = 16;

impl Act {
    /// It comes by itself when it is time.
    fn is_of_time(self) -> bool {
        matches!(self, Deadline | Timeout | Finish)
    }
}

/// A run as the rule sees it.
#[derive(Clone)]
struct Model {
    setting: Setting,
    over: Option<&'static str>,
    paused: bool,
    /// The vote that decided.
    decided: Option<Act>,
    /// The agent succeeded.
    done: bool,
    /// A signal that nobody took yet.
    sent: bool,
}

impl Model {
    fn new(setting: Setting) -> Self {
        Self { setting, over: None, paused: false, decided: None, done: false, sent: false }
    }

    /// The rule: what an act does, and what whoever acted is told.
    fn take(&mut self, act: Act) -> Option<String> {
        let answer = match (act, self.over) {
            (Approve | Reject, _) if self.decided == Some(act) => "200, as before".to_owned(),
            (Approve | Reject, _) if self.decided.is_some() => {
                format!("APPROVAL_SETTLED by {:?}", self.decided.unwrap())
            }
            (Approve | Reject, Some(_)) => "APPROVAL_SETTLED by nobody".to_owned(),
            (Cancel | Pause | Resume | Signal, Some(status)) => format!("RUN_OVER {status}"),
            (Pause, None) if self.paused => "RUN_PAUSED".to_owned(),
            (Resume, None) if !self.paused => "RUN_NOT_PAUSED".to_owned(),
            (Approve | Reject, None) => {
                self.decided = Some(act);
                "200".to_owned()
            }
            (Cancel, None) => {
                self.over = Some("CANCELLED");
                "200".to_owned()
            }
            (Pause | Resume, None) => {
                self.paused = act == Pause;
                "200".to_owned()
            }
            (Signal, None) => {
                self.sent = true;
                "200".to_owned()
            }
            (Finish, None) => {
                self.done = true;
                return None;
            }
            (Deadline, None) if !self.paused && self.decided.is_none() => {
                // One that was sent in time is in time.
                self.go_on();
                self.over = self.over.or(Some("TIMED_OUT"));
                return None;
            }
            (Timeout, None) if !self.paused => {
                self.over = Some("TIMED_OUT");
                return None;
            }
            (Deadline | Timeout | Finish, _) => return None,
        };
        Some(answer)
    }

    /// The run goes on, as far as it can.
    fn go_on(&mut self) {
        if self.paused || self.over.is_some() {
            return;
        }
        self.over = match (self.setting, self.decided) {
            (Asks, Some(Approve)) => Some("COMPLETED"),
            (Asks, Some(_)) => Some("FAILED"),
            (Works, _) if self.done => Some("COMPLETED"),
            (Hears, _) if self.sent => Some("COMPLETED"),
            _ => None,
        };
    }

    /// The run long after; whatever was to come in `acts` has come, unless it is paused.
    fn end(mut self, acts: &[Act]) -> &'static str {
        if self.paused && acts.contains(&Finish) {
            self.done = true;
        }
        self.go_on();
        for act in acts.iter().filter(|act| act.is_of_time()) {
            self.take(*act);
            self.go_on();
        }
        match (self.over, self.paused, self.setting) {
            (Some(status), ..) => status,
            (None, true, _) => "PAUSED",
            (None, false, Asks) => "WAITING_APPROVAL",
            (None, false, Works) => "RUNNING",
            (None, false, Hears) => "WAITING_SIGNAL",
        }
    }
}

/// What came of acts: the answer to each that somebody gave, and the run's status long after.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    answers: Vec<Option<String>>,
    end: String,
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: Vec<&str> = self.answers.iter().map(|answer| answer.as_deref().unwrap_or("-")).collect();
        write!(f, "{}; then {}", answers.join(", "), self.end)
    }
}

/// What the rule says when the acts come in this order (places in `acts`), and the run goes on after each.
fn in_order(setting: Setting, acts: &[Act], order: &[usize]) -> Came {
    let mut model = Model::new(setting);
    let mut answers = vec![None; acts.len()];
    for place in order {
        answers[*place] = model.take(acts[*place]);
        model.go_on();
    }
    Came { answers, end: model.end(acts).to_owned() }
}

/// Everything the rule allows when the acts come at once: any order, and a signal is heard some time after it was sent.
fn at_once(setting: Setting, acts: &[Act]) -> Vec<Came> {
    fn walk(model: &Model, acts: &[Act], left: &[usize], answers: &[Option<String>], all: &mut Vec<Came>) {
        if left.is_empty() {
            all.push(Came { answers: answers.to_vec(), end: model.clone().end(acts).to_owned() });
        }
        for place in left {
            let mut model = model.clone();
            let mut answers = answers.to_vec();
            answers[*place] = model.take(acts[*place]);
            let left: Vec<usize> = left.iter().copied().filter(|other| other != place).collect();
            if model.setting == Hears && model.sent {
                walk(&model, acts, &left, &answers, all);
                // Sent when the time was over, and nobody had seen that it was: kept, for nobody.
                if acts[*place] == Signal && acts.contains(&Deadline) {
                    walk(&Model { sent: false, ..model.clone() }, acts, &left, &answers, all);
                }
            }
            model.go_on();
            walk(&model, acts, &left, &answers, all);
        }
    }
    let places: Vec<usize> = (0..acts.len()).collect();
    let mut all = Vec::new();
    walk(&Model::new(setting), acts, &places, &vec![None; acts.len()], &mut all);
    all
}

#[test]
fn one_after_the_other_each_is_answered_as_the_rule_says() {
    let mut wrong = Vec::new();
    let mut played = 0;
    for (setting, known) in SETTINGS {
        for acts in triples(known) {
            // Time comes once.
            if acts.iter().filter(|act| act.is_of_time()).count() > 1 {
                continue;
            }
            played += 1;
            let expected = in_order(setting, &acts, &[0, 1, 2]);
            let result = play(setting, acts, None);
            let came = result.as_ref().map(|came| came == &expected);
            if came != Ok(true) {
                let named = acts.map(|act| format!("{act:?}")).join(" then ");
                wrong.push(format!("{setting:?}: {named}: expected {expected}, {}", shown(&result)));
            }
        }
    }
    println!("{played} orders");
    assert!(wrong.is_empty(), "{} of {played}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn at_the_same_instant_one_wins_and_the_others_are_told() {
    let mut wrong = Vec::new();
    let mut played = 0;
    for (setting, known) in SETTINGS {
        for acts in triples(known).into_iter().filter(|acts| acts.is_sorted()) {
            let allowed = at_once(setting, &acts);
            for seed in 0..SEEDS {
                played += 1;
                let result = play(setting, acts, Some(seed));
                if !result.as_ref().is_ok_and(|came| allowed.contains(came)) {
                    let named = acts.map(|act| format!("{act:?}")).join(" and ");
                    wrong
                        .push(format!("{setting:?}: {named}, same instant, seed {seed}: {}", shown(&result)));
                }
            }
        }
    }
    println!("{played} meetings");
    assert!(wrong.is_empty(), "{} of {played}:\n{}", wrong.len(), wrong.join("\n"));
}

fn shown(result: &Result<Came, String>) -> String {
    match result {
        Ok(came) => format!("came {came}"),
        Err(why) => why.clone(),
    }
}

/// Every three of these, in every order, also the same twice.
fn triples(acts: &[Act]) -> Vec<[Act; 3]> {
    let pairs = acts.iter().flat_map(|one| acts.iter().map(move |two| (*one, *two)));
    pairs.flat_map(|(one, two)| acts.iter().map(move |three| [one, two, *three])).collect()
}

/// Plays the acts against a run: one after the other, or with a seed all at once, from two processes.
fn play(setting: Setting, acts: [Act; 3], seed: Option<u64>) -> Result<Came, String> {
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio.block_on(async {
        let world = World::new(setting, &acts, seed).await;
        let answers = match seed {
            None => world.one_after_the_other(&acts).await,
            Some(seed) => Box::pin(world.at_once(&acts, seed)).await,
        };
        tokio::time::sleep(LONG_AFTER).await;
        let status = world.processes[0].get(&world.run).await.unwrap().summary.status.to_string();
        // What is in flight when a run is paused may be so for long.
        let end = status.replace("PAUSING", "PAUSED");
        let came = Came { answers, end };
        world.check(&acts, &came).await.map_err(|why| format!("{came}, but {why}"))?;
        Ok(came)
    })
}

/// A run, and two processes that share its store and its doorbells.
struct World {
    store: Arc<memory::Store>,
    processes: Vec<Runtime>,
    run: RunId,
    approval: Arc<str>,
    begun: Instant,
}

/// An agent that succeeds then, or when nobody looks any more.
struct Agent(Duration);

#[async_trait::async_trait]
impl Agents for Agent {
    async fn perform(&self, _: Call) -> Result<Value, CallError> {
        tokio::time::sleep(self.0).await;
        Ok(Value::object())
    }
}

impl World {
    async fn new(setting: Setting, acts: &[Act], seed: Option<u64>) -> Self {
        let clock = Arc::new(memory::VirtualClock::new("2026-01-31T09:00:00Z".parse().unwrap()));
        let store = Arc::new(memory::Store::new());
        let doorbell = Arc::new(memory::Doorbell::new(clock.clone()));
        let ids = Arc::new(memory::SeededIds::new(7));
        let work = if acts.contains(&Finish) { THEN } else { LONG_AFTER * 10 };
        let agents = Arc::new(Agent(work));
        let dice = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed.unwrap_or_default())));
        let begun = Instant::now();
        let mut processes = Vec::new();
        for worker in ["one", "two"] {
            let dice = dice.clone();
            let late = move |_: u64, name: &'static str| match name {
                // Once it comes to meetings, and not before: they begin alike.
                _ if seed.is_none() || begun.elapsed() < THEN / 2 => Fault::None,
                "receive" | "sleep" | "perform" => Fault::None,
                _ => Fault::Late(Duration::from_millis(dice.lock().u64(0..8))),
            };
            let journal = Faulty::new(store.clone(), late);
            let ports = Ports {
                catalog: Arc::new(journal.and(store.clone() as Arc<dyn Catalog>)),
                doorbell: Arc::new(journal.and(doorbell.clone() as Arc<dyn Doorbell>)),
                journal: Arc::new(journal.and(store.clone() as Arc<dyn Journal>)),
                agents: agents.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
            };
            let runtime = Runtime::new(ports, Options::shared(worker));
            let service = Service::new(runtime.clone(), ServiceOptions::default());
            tokio::spawn(service.run(std::future::pending()));
            processes.push(runtime);
        }
        let first = &processes[0];
        let agent = "type: static\noutput: nothing\n";
        first.register(DefinitionKind::Agent, agent, Some("x.agent.yaml"), false).await.unwrap();
        let source = source(setting, acts);
        first.register(DefinitionKind::Workflow, &source, Some("w.workflow.yaml"), false).await.unwrap();
        let run = first.start(StartRequest::new("race", Value::object())).await.unwrap().run;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let page = PageRequest { limit: 1, cursor: None };
        let asked = store.approvals(&ApprovalFilter::default(), &page).await.unwrap().items;
        let approval = asked.first().map_or_else(|| "none".into(), |row| row.request.id.clone());
        Self { store, processes, run, approval, begun }
    }

    /// What comes before time acts, comes a hundred seconds before, and what comes after, seconds after: so a pause in
    /// between leaves time enough for all.
    async fn one_after_the_other(&self, acts: &[Act; 3]) -> Vec<Option<String>> {
        let mut answers = Vec::new();
        let mut at = self.begun + THEN - Duration::from_secs(100);
        for (number, act) in acts.iter().enumerate() {
            if act.is_of_time() {
                at = self.begun + THEN;
            }
            at += Duration::from_secs(1);
            tokio::time::sleep_until(at).await;
            answers.push(self.act(*act, number, number).await);
        }
        answers
    }

    async fn at_once(&self, acts: &[Act; 3], seed: u64) -> Vec<Option<String>> {
        let mut dice = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let at = self.begun + THEN - Duration::from_millis(8);
        let acts = acts.iter().enumerate().map(|(number, act)| {
            let (at, process) = (at + Duration::from_millis(dice.u64(0..16)), dice.usize(0..2));
            async move {
                tokio::time::sleep_until(at).await;
                self.act(*act, number, process).await
            }
        });
        let [one, two, three] = acts.collect::<Vec<_>>().try_into().ok().unwrap();
        let (one, two, three) = tokio::join!(one, two, three);
        vec![one, two, three]
    }

    /// Does one, and says what came back.
    async fn act(&self, act: Act, number: usize, process: usize) -> Option<String> {
        let runtime = &self.processes[process % 2];
        let done = match act {
            Deadline | Timeout | Finish => return None,
            Approve | Reject => return Some(self.vote(runtime, act).await),
            Cancel => runtime.cancel(&self.run, None, None).await.map(|_| ()),
            Pause => runtime.pause(&self.run, None).await.map(|_| ()),
            Resume => runtime.resume(&self.run, None).await.map(|_| ()),
            Signal => {
                let id = Some(format!("signal-{number}").into());
                let request = SignalRequest { id, name: "go".into(), payload: Value::Null, by: None };
                runtime.signal(&self.run, request).await.map(|_| ())
            }
        };
        Some(match done {
            Ok(()) => "200".to_owned(),
            Err(ControlError::Over { status, .. }) => format!("RUN_OVER {status}"),
            Err(error) => error.code().to_owned(),
        })
    }

    async fn vote(&self, runtime: &Runtime, act: Act) -> String {
        let approver = if act == Approve { "user:alice" } else { "user:bob" };
        let vote = Vote {
            approve: act == Approve,
            approver: approver.into(),
            teams: Vec::new(),
            comment: None,
            form: None,
        };
        match runtime.vote(&self.run, &self.approval, vote).await {
            Ok(voted) if voted.changed => "200".to_owned(),
            Ok(_) => "200, as before".to_owned(),
            Err(VoteError::Settled { decision, .. }) => {
                let approved = decision.as_ref().and_then(|decision| decision.get("approved"));
                let by = match approved.map(Value::to_string).as_deref() {
                    Some("true") => "Approve",
                    Some("false") => "Reject",
                    _ => "nobody",
                };
                format!("APPROVAL_SETTLED by {by}")
            }
            Err(error) => error.code().to_owned(),
        }
    }

    /// What was done stands in the journals, once; what was refused does not. The run ends once, and lists say how.
    async fn check(&self, acts: &[Act], came: &Came) -> Result<(), String> {
        let mut events = Vec::new();
        let (mut deadline, mut sent) = (None, Vec::new());
        for path in self.store.scopes(&self.run, None, 100).await.unwrap() {
            let scope = ScopeKey::new(self.run.clone(), path);
            let mut prev: Arc<str> = "".into();
            for (number, stored) in (1..).zip(self.store.read(&scope, 0, 1000).await.unwrap()) {
                let record = Record::decode(&stored.body).unwrap();
                if (record.seq, &record.prev) != (number, &prev) {
                    return Err(format!("{scope} has a gap before record {}", record.seq));
                }
                prev = stored.hash.clone();
                for event in record.events {
                    match &event {
                        Event::SignalAwaited { deadline: until, .. } => deadline = *until,
                        Event::SignalSent { .. } => sent.push(record.at),
                        _ => {}
                    }
                    events.push(event);
                }
            }
        }
        let timed_out = events.iter().any(|event| matches!(event, Event::WaitTimedOut {}));
        if timed_out && !acts.contains(&Pause) && sent.iter().any(|at| Some(*at) <= deadline) {
            return Err(format!("of the signals sent at {sent:?} one was in time for {deadline:?}"));
        }
        let count = |kind: fn(&Event) -> bool| events.iter().filter(|event| kind(event)).count();
        let done = |act: Act| {
            let answers = acts.iter().zip(&came.answers);
            answers.filter(|(one, answer)| **one == act && answer.as_deref() == Some("200")).count()
        };
        let over = !came.end.starts_with("WAITING") && !matches!(&*came.end, "PAUSED" | "RUNNING");
        for (what, written, expected) in [
            (
                "votes",
                count(|event| matches!(event, Event::ApprovalVoted { .. })),
                done(Approve) + done(Reject),
            ),
            (
                "decisions",
                count(|event| matches!(event, Event::ApprovalDecided { .. })),
                done(Approve) + done(Reject),
            ),
            ("cancels", count(|event| matches!(event, Event::CancelRequested { .. })), done(Cancel)),
            ("pauses", count(|event| matches!(event, Event::Paused { .. })), done(Pause)),
            ("resumes", count(|event| matches!(event, Event::Resumed { .. })), done(Resume)),
            ("signals", count(|event| matches!(event, Event::SignalSent { .. })), done(Signal)),
            ("ends", count(|event| matches!(event, Event::Ended { .. })), usize::from(over)),
        ] {
            if written != expected {
                return Err(format!("{written} {what} stand in the journals, not {expected}"));
            }
        }
        let listed = self.store.run(&self.run).await.unwrap().unwrap();
        let status = listed.status.to_string().replace("PAUSING", "PAUSED");
        if (&*status, listed.stuck) != (&*came.end, None) {
            return Err(format!("lists say {status}"));
        }
        Ok(())
    }
}

fn source(setting: Setting, acts: &[Act]) -> String {
    let timeout = if acts.contains(&Timeout) { "timeoutSeconds: 10m\n" } else { "" };
    let deadline = if acts.contains(&Deadline) { "10m" } else { "24h" };
    let state = match setting {
        Asks => format!("{{id: s, type: human_approval, message: Go?, timeoutSeconds: {deadline}}}"),
        Works => "{id: s, type: agent, agent: x}".to_owned(),
        Hears => format!("{{id: s, type: signal, signal: go, timeoutSeconds: {deadline}}}"),
    };
    format!("id: race\n{timeout}states:\n  - {state}\n")
}
