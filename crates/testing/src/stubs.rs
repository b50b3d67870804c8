//! The world's side of a test: stubbed agents, and a log of every call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::ChildKey;
use engine::Error;
use engine::ScopePath;
use engine::error_type;
use expression::Value;
use model::Action;
use model::Agent;
use model::Kind;
use model::Workflow;
use parking_lot::Mutex;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::file::Answer;
use crate::file::Reply;
use crate::file::Stub;
use crate::rehearsal::Called;
use crate::rehearsal::Noted;
use crate::rehearsal::Notes;

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The agent's name, or the action's.
    pub(crate) agent: Arc<str>,
    /// The rendered request.
    pub(crate) request: Value,
}

/// Performs actions as the test says, and the defined static agents as they are.
pub(crate) struct Stubs {
    shared: Arc<Shared>,
    /// The agents defined beside the workflow.
    defined: BTreeMap<Arc<str>, Arc<Agent>>,
    /// What is not stubbed and harmless: static agents, `log`.
    others: Arc<dyn Agents>,
}

struct Shared {
    state: Mutex<State>,
    order: BranchOrder,
    notes: Option<Notes>,
}

#[derive(Default)]
struct State {
    stubs: BTreeMap<Arc<str>, Given>,
    made: Vec<Made>,
    problems: Vec<String>,
    /// What each attempt was answered. In a rehearsal, one that is performed again because its worker died gets the same
    /// answer, at the time it would have had it: the agent knows the key.
    answered: BTreeMap<Attempt, Option<Ready>>,
    /// Calls of this instant, not answered yet.
    waiting: Vec<Waiting>,
}

/// A stub and how many of its answers were given.
struct Given {
    stub: Stub,
    calls: usize,
}

/// An answer, and when it is there.
#[derive(Clone)]
struct Ready {
    answer: Answer,
    at: Instant,
}

/// An attempt, by its idempotency key and number.
type Attempt = (Arc<str>, u32);

struct Waiting {
    attempt: Attempt,
    /// It is performed again.
    again: bool,
    place: Vec<Place>,
    made: Made,
    answer: oneshot::Sender<Option<Ready>>,
}

/// Where a call stands among those of the same instant: the branch's or item's index on each level.
type Place = (u32, String);

impl Stubs {
    pub(crate) fn new(
        stubs: &BTreeMap<Arc<str>, Stub>,
        workflow: &Workflow,
        defined: BTreeMap<Arc<str>, Arc<Agent>>,
        others: Arc<dyn Agents>,
        notes: Option<Notes>,
    ) -> Self {
        let stubs =
            stubs.iter().map(|(name, stub)| (name.clone(), Given { stub: stub.clone(), calls: 0 })).collect();
        let state = Mutex::new(State { stubs, ..State::default() });
        let order = BranchOrder::of(workflow);
        Self { shared: Arc::new(Shared { state, order, notes }), defined, others }
    }

    /// The calls made, in order; those of one instant in branch or item order.
    pub(crate) fn made(&self) -> Vec<Made> {
        self.shared.state.lock().made.clone()
    }

    /// What the test did not foresee: calls of agents it says nothing of.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.shared.state.lock().problems.clone()
    }

    /// Notes the call and gives the answer the test has for it, if it has one.
    ///
    /// All calls of one virtual instant are collected before the first is answered, and counted in branch or item
    /// order, so that a list of answers means the same however tasks are scheduled.
    async fn answer(&self, agent: &Arc<str>, call: &Call) -> Option<Ready> {
        let (send, receive) = oneshot::channel();
        let made = Made { agent: agent.clone(), request: self.as_given(agent, &call.request) };
        let waiting = Waiting {
            attempt: (call.idempotency_key.clone(), call.attempt),
            again: call.epoch > 1,
            place: self.shared.order.place(&call.scope),
            made,
            answer: send,
        };
        let first = {
            let mut state = self.shared.state.lock();
            state.waiting.push(waiting);
            state.waiting.len() == 1
        };
        if first {
            let shared = self.shared.clone();
            // The clock is virtual: it moves on only when nothing else can happen at this instant. The task is its own
            // because this call may be cancelled.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                shared.answer_all();
            });
        }
        receive.await.ok().flatten()
    }

    /// The request as the agent gets it: with the fields that its schema names in its input.
    fn as_given(&self, agent: &str, request: &Value) -> Value {
        let mut given = request.clone();
        if let Some(defined) = self.defined.get(agent)
            && defined.input_schema.is_some()
            && let Some(given) = given.object_mut()
        {
            given.insert("input", agents::request::input(request, defined.input_schema.as_ref()));
        }
        given
    }

    fn problem(&self, problem: String) {
        self.shared.state.lock().problems.push(problem);
    }

    async fn perform_stub(&self, agent: &Arc<str>, call: &Call, ready: Ready) -> Result<Value, CallError> {
        let defined = self.defined.get(agent);
        if let Some(defined) = defined {
            let input = agents::request::input(&call.request, defined.input_schema.as_ref());
            agents::request::check(agent, &input, defined.input_schema.as_ref())?;
        }
        if ready.at > Instant::now() {
            tokio::time::sleep_until(ready.at).await;
        }
        match ready.answer.what {
            Reply::Output(output) => {
                let schema = defined.and_then(|agent| agent.output_schema.as_ref());
                // An action's output is given as it is; only an agent's may be text.
                let output = match call.action {
                    Action::Agent(_) => agents::output::from_value(&output, schema.is_some()),
                    _ => output,
                };
                agents::output::check(agent, &output, schema)?;
                Ok(output)
            }
            Reply::Error { kind, message, definite, retry_after } => Err(CallError {
                error: Error::new(kind, message),
                definite,
                retry_after: retry_after.map(|after| Duration::from_millis(after.0)),
            }),
        }
    }
}

#[async_trait]
impl Agents for Stubs {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        let name: Arc<str> = match &call.action {
            Action::Agent(name) => name.clone(),
            Action::Http => "http.call".into(),
            Action::Lambda => "lambda.invoke".into(),
            Action::Log => "log".into(),
        };
        if let Some(notes) = &self.shared.notes {
            notes.lock().push(Noted::Called(called(&name, &call)));
        }
        if let Some(ready) = self.answer(&name, &call).await {
            return self.perform_stub(&name, &call, ready).await;
        }
        if self.shared.state.lock().stubs.contains_key(&name) {
            let message = format!("`{name}` is called more often than the test has answers for it");
            self.problem(message.clone());
            return Err(not_foreseen(message));
        }
        match (&call.action, self.defined.get(&name).map(|agent| &agent.kind)) {
            (Action::Log, _) | (Action::Agent(_), Some(model::agent::Kind::Static(_))) => {
                self.others.perform(call).await
            }
            (Action::Agent(_), defined) => {
                let why = if defined.is_some() { "is no static agent" } else { "is not defined" };
                let message = format!(
                    "agent `{name}` {why} and the test has no stub for it: add `agents: {{{name}: {{output: …}}}}`"
                );
                self.problem(message.clone());
                Err(not_foreseen(message))
            }
            _ => {
                let message = format!(
                    "the test has no stub for the action `{name}`: add `agents: {{{name}: {{output: …}}}}`"
                );
                self.problem(message.clone());
                Err(not_foreseen(message))
            }
        }
    }
}

fn called(agent: &Arc<str>, call: &Call) -> Called {
    Called {
        agent: agent.clone(),
        run: call.run.clone(),
        scope: call.scope.clone(),
        step: call.step.clone(),
        state: call.state.clone(),
        attempt: call.attempt,
        epoch: call.epoch,
        key: call.idempotency_key.clone(),
        request: call.request.clone(),
    }
}

/// Of the type that is not tried again.
fn not_foreseen(message: String) -> CallError {
    CallError { error: Error::new(error_type::VALIDATION, message), definite: true, retry_after: None }
}

impl Shared {
    fn answer_all(&self) {
        let mut state = self.state.lock();
        let mut waiting = std::mem::take(&mut state.waiting);
        waiting.sort_by(|a, b| a.place.cmp(&b.place));
        for Waiting { attempt, again, made, answer, .. } in waiting {
            if again
                && self.notes.is_some()
                && let Some(given) = state.answered.get(&attempt)
            {
                let _ = answer.send(given.clone());
                continue;
            }
            let given = state.stubs.get_mut(&made.agent).and_then(|given| {
                let index = if given.stub.always { 0 } else { given.calls };
                given.calls += 1;
                let answer = given.stub.answers.get(index).cloned()?;
                let at = Instant::now() + Duration::from_millis(answer.after.0);
                Some(Ready { answer, at })
            });
            state.made.push(made);
            state.answered.insert(attempt, given.clone());
            let _ = answer.send(given);
        }
    }
}

/// In which order the branches of each `parallel` stand.
struct BranchOrder {
    parallels: Vec<(Arc<str>, Vec<Arc<str>>)>,
}

impl BranchOrder {
    fn of(workflow: &Workflow) -> Self {
        let parallels = workflow.states().filter_map(|state| match &state.kind {
            Kind::Parallel(parallel) => Some((
                state.name.clone(),
                parallel.branches.iter().map(|branch| branch.name.clone()).collect(),
            )),
            _ => None,
        });
        Self { parallels: parallels.collect() }
    }

    /// From the root down: the index of each branch or item on the way to the scope, and its path for what is left.
    fn place(&self, scope: &ScopePath) -> Vec<Place> {
        let mut place = Vec::new();
        let mut scope = scope.clone();
        while let Some((parent, key)) = scope.parent() {
            let index = match &key {
                ChildKey::Index(index) => *index,
                ChildKey::Branch(name) => self.index(&scope, &parent, name).unwrap_or(0),
            };
            place.push((index, scope.as_str().to_owned()));
            scope = parent;
        }
        place.reverse();
        place
    }

    fn index(&self, scope: &ScopePath, parent: &ScopePath, branch: &Arc<str>) -> Option<u32> {
        let visit = scope.as_str().rsplit_once('#')?.1.split('/').next()?.parse().ok()?;
        let key = ChildKey::Branch(branch.clone());
        let (_, branches) = self.parallels.iter().find(|(state, branches)| {
            branches.contains(branch) && parent.child(state, visit, &key) == *scope
        })?;
        branches.iter().position(|name| name == branch).and_then(|index| u32::try_from(index).ok())
    }
}
