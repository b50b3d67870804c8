//! A workflow as typed values: what is left when every spelling has been read and every reference resolved.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use expression::Expression;
use expression::Names;
use expression::Path;
use expression::Program;
use expression::SecretRef;
use expression::Template;
use expression::Tree;
use expression::Value;

use crate::EventFilter;
use crate::Schema;

/// A length of time in milliseconds, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// A valid workflow: every state is known, every target resolved, every expression parsed.
///
/// Made only by [`parse`](crate::parse), so that whoever holds one need not check it again.
#[derive(Debug)]
pub struct Workflow {
    /// The workflow's stable identifier.
    pub id: Arc<str>,
    /// The version as it was written (`1.10` stays `1.10`); without one, the catalog counts.
    pub version: Option<Arc<str>>,
    /// A title for people.
    pub name: Option<String>,
    /// What the workflow is for.
    pub description: Option<String>,
    /// What an input must look like.
    pub input_schema: Option<Schema>,
    /// What the run's output must look like.
    pub output_schema: Option<Schema>,
    /// How long a run may take, pauses not counted.
    pub timeout: Option<Millis>,
    /// Free labels, copied to each run's summary.
    pub labels: BTreeMap<String, String>,
    /// What starts runs besides people: schedules, webhooks, events.
    pub triggers: Vec<Trigger>,
    /// The outermost list of states.
    pub root: Block,
    /// All states, nested ones too; a [`StateId`] is an index into it.
    pub(crate) states: Vec<State>,
    /// States by address.
    pub(crate) addresses: HashMap<Arc<str>, StateId>,
    /// What names mean inside this workflow's expressions.
    pub names: Names,
    /// The definition as JSON, canonical: the catalog stores it and the hash is over it.
    pub definition: Value,
    /// SHA-256 of the canonical definition, in hexadecimal: what a run pins.
    pub hash: Arc<str>,
}

impl Workflow {
    /// The state with this id. An id of another workflow finds nothing.
    pub fn state(&self, id: StateId) -> Option<&State> {
        self.states.get(id.0 as usize)
    }

    /// The state at this address, by which journals know it.
    pub fn state_at(&self, address: &str) -> Option<&State> {
        self.state(*self.addresses.get(address)?)
    }

    /// All states, nested ones too, in the order of the file.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.states.iter()
    }
}

/// Where a state stands in [`Workflow`]. Stable for one definition hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct StateId(pub u32);

/// A list of states with its own start; transitions never leave it.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where execution enters.
    pub start: StateId,
    /// The states of this list, in the order of the file.
    pub states: Vec<StateId>,
}

/// One state of a list.
#[derive(Debug)]
pub struct State {
    /// Its place in the workflow.
    pub id: StateId,
    /// The name by which transitions and `steps.NAME` know it (the `id`, or without one the `name`).
    pub name: Arc<str>,
    /// A title for people, where `name` stands beside `id`.
    pub title: Option<String>,
    /// Where it stands in the definition, unique in it and stable: made of structure and names alone, as
    /// `review/branches/pods/check_pods`, `t/try/x`, `t/catch/0/x`, `t/finally/x`, `each/iterator/x`. `/` and `%` in a
    /// name are percent-encoded. Journals name states by it.
    pub address: Arc<str>,
    /// True for the one state that a branch or iterator given by `agent:` stands for; it is not part of a path.
    pub implicit: bool,
    /// Skipped when this is false.
    pub condition: Option<Expression>,
    /// What it does.
    pub kind: Kind,
    /// Where its output is written, besides `steps.NAME`.
    pub result_path: Option<Path>,
    /// Root keys it writes: `output: {key: path}`.
    pub output: Vec<(Arc<str>, OutputValue)>,
    /// Where execution goes on; `None` ends the list. A `switch` has its targets in its kind.
    pub next: Option<StateId>,
    /// Of an operation: one attempt's limit. Of a composite state or a sub-workflow: the whole's limit.
    pub timeout: Option<Millis>,
    /// Line and column (from 1) in the source, for errors.
    pub line: u32,
    /// See `line`.
    pub column: u32,
}

/// What one key of a state's `output` mapping is made of.
#[derive(Debug)]
pub enum OutputValue {
    /// `$` or `$.a.b`: a path into the state's own result.
    Own(Path),
    /// Anything else: rendered over the context after the result is written.
    Tree(Tree),
}

/// What a state does.
#[derive(Debug)]
pub enum Kind {
    /// Performs one action.
    Operation(Operation),
    /// Asks people.
    Approval(Approval),
    /// Goes to the first case that holds.
    Switch(Switch),
    /// Runs branches at once and joins them.
    Parallel(Parallel),
    /// Runs the same states for each item.
    Foreach(Foreach),
    /// Runs states while a condition holds.
    While(While),
    /// Writes given data.
    Inject(Tree),
    /// Computes.
    Transform(Transform),
    /// Waits for a time.
    Wait(Wait),
    /// Waits for a named signal.
    Signal(Signal),
    /// Runs, catches, always runs `finally`.
    Try(Try),
    /// Runs another workflow as a child.
    Workflow(SubWorkflow),
    /// A schedule trigger; a run passes through it.
    Cron,
    /// Raises an error.
    Fail(Fail),
    /// Ends its list of states, with an output if given.
    Succeed(Option<Tree>),
}

/// One action and how it is attempted.
#[derive(Debug)]
pub struct Operation {
    /// Which action.
    pub action: Action,
    /// The action's request, rendered when the state is entered: for `agent.run` an object with `task`, `variables`
    /// and `input` (each only if written); for `http.call` `method, url, headers, query, body, expect`; for
    /// `lambda.invoke` `function, payload`; for `log` `message, level`.
    pub request: Tree,
    /// True when no `input` was written, so that what flows in is the action's input.
    pub receives_input: bool,
    /// Retry rules; the first that matches an error's type applies.
    pub retry: Vec<Retry>,
    /// The first takeover fails the attempt as `interrupted`.
    pub at_most_once: bool,
}

/// The actions an operation can perform. `human.approval` and `workflow.run` are kinds of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `agent.run`, with the agent's name.
    Agent(Arc<str>),
    /// `http.call`.
    Http,
    /// `lambda.invoke`.
    Lambda,
    /// `log`.
    Log,
}

/// One retry rule.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Attempts in all, the first one counted; at least 1.
    pub max_attempts: u32,
    /// The first pause.
    pub backoff: Millis,
    /// Whether pauses double.
    pub exponential: bool,
    /// No pause is longer.
    pub max_backoff: Millis,
    /// Up to this share of the pause (0 to 1) is taken off at random.
    pub jitter: f64,
    /// Error types it applies to; `None` is the default set of LANGUAGE §2.
    pub retry_on: Option<Vec<Arc<str>>>,
}

/// A question to people.
#[derive(Debug)]
pub struct Approval {
    /// What is asked.
    pub message: Template,
    /// A short title.
    pub title: Option<Template>,
    /// What is shown beside the question.
    pub summary_path: Option<Path>,
    /// Who may decide (`user:…`, `team:…`); empty: anyone.
    pub approvers: Vec<Template>,
    /// How many approvals approve; at least 1.
    pub quorum: u32,
    /// The run's starter may not decide.
    pub separation_of_duties: bool,
    /// How long it waits.
    pub deadline: Millis,
    /// What a rejection does.
    pub on_reject: OnReject,
    /// What the deadline does.
    pub on_timeout: OnTimeout,
    /// What a decision's `form` must look like.
    pub form_schema: Option<Schema>,
}

/// What a rejection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReject {
    /// Raises the error `rejected`.
    Fail,
    /// Cancels the run.
    Cancel,
    /// Goes to a state.
    Goto(StateId),
}

/// What a passed deadline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// Raises the error `timeout`; uncaught, the run is `TIMED_OUT`.
    Fail,
    /// Counts as approved.
    Approve,
    /// Counts as rejected.
    Reject,
    /// Goes to a state.
    Goto(StateId),
}

/// Conditional routing.
#[derive(Debug)]
pub struct Switch {
    /// Whose value the conditions are about.
    pub data_path: Option<Path>,
    /// In order; the first that holds wins.
    pub cases: Vec<(Condition, StateId)>,
    /// Where to go when none holds; without it the run fails.
    pub default: Option<StateId>,
}

/// An expression, or a YAML boolean.
#[derive(Debug)]
pub enum Condition {
    /// Known when the file was read.
    Constant(bool),
    /// Evaluated.
    Expression(Expression),
}

/// Branches at once.
#[derive(Debug)]
pub struct Parallel {
    /// In declared order; names are unique.
    pub branches: Vec<Branch>,
    /// When the state goes on.
    pub join: Join,
    /// How the outputs are put together.
    pub aggregation: Aggregation,
}

/// One branch.
#[derive(Debug)]
pub struct Branch {
    /// Its name, the key of its output.
    pub name: Arc<str>,
    /// Its states.
    pub block: Block,
    /// Overrides the branch's output; rendered over the branch's context at its end.
    pub output: Option<Tree>,
}

/// When a fork goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// How many children must succeed.
    pub mode: JoinMode,
    /// What a failed child does to the others.
    pub on_failure: OnFailure,
}

/// How many children must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinMode {
    /// All of them.
    All,
    /// This many (`any` is 1); at least 1, at most the number of branches.
    Count(u32),
}

/// What a failed child does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The first failure (that makes the join impossible) cancels the rest.
    FailFast,
    /// All end first; then the first failure in declared order counts.
    Wait,
}

/// How children's outputs are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// `parallel`: an object by branch name. `foreach`: `{results, count}`.
    Merge,
    /// `parallel`: an array in declared order. `foreach`: `[{item, index, output}]`.
    Array,
}

/// The same states for each item.
#[derive(Debug)]
pub struct Foreach {
    /// Where the array is.
    pub items: Path,
    /// The name of the item in the iteration.
    pub item_name: Arc<str>,
    /// How many iterations run at once; at least 1.
    pub max_concurrency: u32,
    /// The states of one iteration.
    pub block: Block,
    /// Overrides the iteration's output.
    pub output: Option<Tree>,
    /// What a failed iteration does to the others.
    pub on_failure: OnFailure,
    /// How the outputs are put together.
    pub aggregation: Aggregation,
}

/// States while a condition holds.
#[derive(Debug)]
pub struct While {
    /// Evaluated before each round.
    pub condition: Condition,
    /// More rounds than this are an error.
    pub max_iterations: u64,
    /// One round.
    pub block: Block,
}

/// A Starlark program.
#[derive(Debug)]
pub struct Transform {
    /// The program; its last statement's value is the output.
    pub program: Program,
    /// What `input` is in it, instead of what flows in.
    pub input_path: Option<Path>,
}

/// A durable wait.
#[derive(Debug)]
pub enum Wait {
    /// For so long, known when the file was read.
    For(Millis),
    /// For so long, rendered: seconds as a number or any spelling of a duration.
    ForTemplate(Template),
    /// Until a time: RFC 3339, or a local `HH:MM` (UTC) that comes next.
    Until(Template),
}

/// A wait for a named signal.
#[derive(Debug)]
pub struct Signal {
    /// The signal's name.
    pub name: Template,
    /// How long it waits; without it, for ever.
    pub timeout: Option<Millis>,
    /// Where to go when nothing came; without it, the error `timeout`.
    pub on_timeout: Option<StateId>,
}

/// Run, catch, finally.
#[derive(Debug)]
pub struct Try {
    /// What is tried.
    pub body: Block,
    /// The first clause that matches the error's type runs.
    pub catch: Vec<Catch>,
    /// Runs whatever happened.
    pub finally: Option<Block>,
}

/// One `catch` clause.
#[derive(Debug)]
pub struct Catch {
    /// Error types it catches; `None` catches all.
    pub errors: Option<Vec<Arc<str>>>,
    /// A second root key for `_error`.
    pub bind: Option<Arc<str>>,
    /// What runs.
    pub block: Block,
}

/// Another workflow as a child.
#[derive(Debug)]
pub struct SubWorkflow {
    /// Its id.
    pub workflow: Template,
    /// Its version; without one, the active one when it starts.
    pub version: Option<Arc<str>>,
    /// Its input; without one, what flows in.
    pub input: Option<Tree>,
}

/// An error raised by hand.
#[derive(Debug)]
pub struct Fail {
    /// The error's type.
    pub error: Template,
    /// Its message.
    pub message: Option<Template>,
}

/// What starts runs besides people.
#[derive(Debug)]
pub enum Trigger {
    /// On a schedule, from `triggers` or a start state of type `cron`.
    Schedule(Schedule),
    /// By a signed HTTP request.
    Webhook(Webhook),
    /// By an event whose fields match.
    Event(EventFilter),
}

/// A path that starts a run when somebody who knows the secret posts to it.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The last segment of its path, unique in the workflow.
    pub name: Arc<str>,
    /// By which requests are signed; without one nothing is received.
    pub secret: Option<SecretRef>,
    /// How requests are signed.
    pub signature: Signature,
    /// Headers that become part of the run's input, in lower case.
    pub headers: Vec<Arc<str>>,
}

/// How the requests of a webhook are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signature {
    /// Over the time, the delivery's id and the body.
    #[default]
    Stepwell,
    /// Over the body, as GitHub does it.
    GitHub,
}

/// A schedule.
#[derive(Debug)]
pub struct Schedule {
    /// The `cron` state it comes from, or `schedule-N` for the Nth of `triggers`.
    pub name: Arc<str>,
    /// Five fields: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// An IANA time zone name; UTC without one.
    pub timezone: String,
    /// Ticks start runs only when this is true.
    pub enabled: bool,
    /// What becomes of ticks that nobody was there for.
    pub missed: Missed,
    /// The input of a run that a tick starts; an object.
    pub input: Value,
}

/// What becomes of a schedule's ticks that nobody was there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Missed {
    /// They start nothing.
    #[default]
    Skip,
    /// They start their runs later, as far back as the runtime goes.
    CatchUp,
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {}", self.0)
    }
}
