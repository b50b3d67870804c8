//! The tree that a flow is.
//!
//! Ways that part and meet again are nested here (the arms of a `switch`, what follows a rejection), though the file has
//! them in one flat list: whatever is cut out, what is left has no state that nothing leads to. Loops back count
//! themselves, so that nothing that is cut out makes them endless.

use serde::Deserialize;
use serde::Serialize;

/// One workflow.
#[allow(clippy::struct_excessive_bools)] // Each is one option of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Its id.
    pub id: String,
    /// The limit of its runs, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// It says what its input must look like, with defaults.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input_schema: bool,
    /// Its output must be an object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub object_output: bool,
    /// It begins with a schedule (that never fires).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cron: bool,
    /// Its lists are written from the end to the start, with `start`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reversed: bool,
    /// Its states.
    pub states: Vec<Node>,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Skipped when this expression is false.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Where its output is written too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_path: Option<String>,
    /// Root keys and what they are made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<(String, String)>,
    /// The limit of a composite state or a called workflow, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Its list ends here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// What it does.
    pub kind: Kind,
}

/// What a state does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Calls an agent, as `agent` or (`long`) as an operation.
    Agent {
        /// What is asked of whom.
        work: Work,
        /// Written as an `operation`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        long: bool,
    },
    /// The action `log`.
    Log {
        /// What.
        message: String,
    },
    /// Asks people.
    Approval {
        /// The question.
        message: String,
        /// Who may decide; empty: anyone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        approvers: Vec<String>,
        /// How many must approve, if not one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quorum: Option<u32>,
        /// The starter may not decide.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        separation: bool,
        /// Seconds; without, an hour.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<u64>,
        /// Where what is shown stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summary: Option<String>,
        /// What a rejection does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_reject: Option<Route>,
        /// What the deadline does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_timeout: Option<Route>,
    },
    /// Goes one of several ways, which meet again behind it.
    Switch {
        /// What the conditions are about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_path: Option<String>,
        /// In order.
        arms: Vec<Arm>,
        /// Where none holds; without it, that is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<Vec<Node>>,
    },
    /// Branches at once.
    Parallel {
        /// In order.
        branches: Vec<Branch>,
        /// When it goes on.
        join: Join,
        /// All branches end before a failure counts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        wait: bool,
        /// Its output is an array.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        array: bool,
    },
    /// The same for each item.
    Foreach {
        /// Where the items are.
        items: String,
        /// What an item is called, if not `item`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item_name: Option<String>,
        /// How many at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        concurrency: Option<u32>,
        /// All iterations end before a failure counts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        wait: bool,
        /// Its output is an array of rows.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        array: bool,
        /// What is done for each.
        body: Body,
        /// Instead of an iteration's own output: keys and paths.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        output: Vec<(String, String)>,
    },
    /// So many rounds, counted in the context by a state of the body's own.
    While {
        /// Rounds after which its condition no longer holds.
        rounds: u32,
        /// Holds too while it goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        also: Option<String>,
        /// Its `maxIterations`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        /// What a round does, after counting.
        body: Vec<Node>,
    },
    /// Goes back to a state of its list, a few times; two states in the file, one that counts.
    Again {
        /// To which.
        to: String,
        /// How often.
        times: u32,
    },
    /// Writes data.
    Inject {
        /// Which.
        data: serde_json::Value,
    },
    /// Computes.
    Transform {
        /// Its program.
        program: String,
        /// What its `input` is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<String>,
    },
    /// Waits for so long.
    Wait {
        /// A duration, or a template of one.
        duration: String,
    },
    /// Waits until then.
    Until {
        /// A time of day, or of a date.
        time: String,
    },
    /// Waits for a signal.
    Signal {
        /// Its name.
        signal: String,
        /// How long, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<u64>,
        /// What is done when it does not come; without it, that is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_timeout: Option<Vec<Node>>,
    },
    /// Tries, catches, always does the last.
    Try {
        /// What is tried.
        body: Vec<Node>,
        /// Clauses, in order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        catches: Vec<Catch>,
        /// What is always done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finally: Option<Vec<Node>>,
    },
    /// Calls one of the flow's children.
    Workflow {
        /// Its id.
        workflow: String,
        /// Its input; without, what flows in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<serde_json::Value>,
    },
    /// Raises an error.
    Fail {
        /// Its type.
        error: String,
        /// What it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Ends its list.
    Succeed {
        /// With this, keys and paths.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        output: Vec<(String, String)>,
    },
}

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Which agent.
    pub agent: String,
    /// What it is to do: what [`behaviour`](super::behaviour) reads.
    pub task: String,
    /// Its input; without, what flows in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// Its variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<serde_json::Value>,
    /// The limit of one attempt, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry: Vec<Retry>,
    /// `atMostOnce`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

/// One retry rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// The first pause, in milliseconds.
    pub backoff: u64,
    /// Pauses double.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exponential: bool,
    /// No pause is longer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<u64>,
    /// The share that may be taken off, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<u32>,
    /// Error types; empty: the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

/// Where an approval goes that was not approved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Route {
    /// One of the words that `onReject` or `onTimeout` know.
    Word(String),
    /// Through these states, then on.
    States(Vec<Node>),
}

/// One way of a `switch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// When it is taken.
    #[serde(rename = "if")]
    pub condition: Clause,
    /// What is done on it.
    pub states: Vec<Node>,
}

/// A condition of a `switch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Clause {
    /// A YAML boolean.
    Constant(bool),
    /// An expression.
    Expression(String),
}

/// One branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// What it does.
    pub body: Body,
    /// Instead of its own output: keys and paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<(String, String)>,
}

/// What a branch or iteration does.
#[allow(clippy::large_enum_variant)] // Few of them live at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Body {
    /// States.
    States(Vec<Node>),
    /// `agent:` in their place.
    Agent(Work),
}

/// When a `parallel` goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Join {
    /// When all have succeeded.
    All,
    /// When one has.
    Any,
    /// When so many have.
    Count(u32),
}

/// One clause of `catch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catch {
    /// Error types; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// A name for the error.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// What is done.
    pub states: Vec<Node>,
}

impl Definition {
    /// Shows each node, outer ones first.
    pub fn each<'a>(&'a self, see: &mut dyn FnMut(&'a Node)) {
        each(&self.states, see);
    }
}

fn each<'a>(list: &'a [Node], see: &mut dyn FnMut(&'a Node)) {
    for node in list {
        see(node);
        for (_, list) in node.lists() {
            each(list, see);
        }
    }
}

impl Node {
    /// A state that does only this.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            condition: None,
            result_path: None,
            output: Vec::new(),
            timeout: None,
            end: false,
            kind,
        }
    }

    /// The lists in it, and whether they are ways through its own list.
    pub fn lists(&self) -> Vec<(bool, &Vec<Node>)> {
        match &self.kind {
            Kind::Approval { on_reject, on_timeout, .. } => [on_reject, on_timeout]
                .into_iter()
                .flatten()
                .filter_map(Route::states)
                .map(|l| (true, l))
                .collect(),
            Kind::Switch { arms, default, .. } => {
                arms.iter().map(|arm| &arm.states).chain(default).map(|list| (true, list)).collect()
            }
            Kind::Signal { on_timeout, .. } => on_timeout.iter().map(|list| (true, list)).collect(),
            Kind::Parallel { branches, .. } => {
                branches.iter().filter_map(|branch| branch.body.states()).map(|list| (false, list)).collect()
            }
            Kind::Foreach { body, .. } => body.states().into_iter().map(|list| (false, list)).collect(),
            Kind::While { body, .. } => vec![(false, body)],
            Kind::Try { body, catches, finally } => std::iter::once(body)
                .chain(catches.iter().map(|clause| &clause.states))
                .chain(finally)
                .map(|list| (false, list))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The same lists, in the same order, to change.
    pub fn lists_mut(&mut self) -> Vec<(bool, &mut Vec<Node>)> {
        match &mut self.kind {
            Kind::Approval { on_reject, on_timeout, .. } => [on_reject, on_timeout]
                .into_iter()
                .flatten()
                .filter_map(Route::states_mut)
                .map(|list| (true, list))
                .collect(),
            Kind::Switch { arms, default, .. } => {
                arms.iter_mut().map(|arm| &mut arm.states).chain(default).map(|list| (true, list)).collect()
            }
            Kind::Signal { on_timeout, .. } => on_timeout.iter_mut().map(|list| (true, list)).collect(),
            Kind::Parallel { branches, .. } => branches
                .iter_mut()
                .filter_map(|branch| branch.body.states_mut())
                .map(|list| (false, list))
                .collect(),
            Kind::Foreach { body, .. } => body.states_mut().into_iter().map(|list| (false, list)).collect(),
            Kind::While { body, .. } => vec![(false, body)],
            Kind::Try { body, catches, finally } => std::iter::once(body)
                .chain(catches.iter_mut().map(|clause| &mut clause.states))
                .chain(finally)
                .map(|list| (false, list))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The agents that it calls itself.
    pub fn agents(&self) -> Vec<String> {
        let works: Vec<&Work> = match &self.kind {
            Kind::Agent { work, .. } => vec![work],
            Kind::Parallel { branches, .. } => {
                branches.iter().filter_map(|branch| branch.body.work()).collect()
            }
            Kind::Foreach { body, .. } => body.work().into_iter().collect(),
            _ => Vec::new(),
        };
        works.into_iter().map(|work| work.agent.clone()).collect()
    }
}

impl Route {
    fn states(&self) -> Option<&Vec<Node>> {
        match self {
            Self::States(states) => Some(states),
            Self::Word(_) => None,
        }
    }

    fn states_mut(&mut self) -> Option<&mut Vec<Node>> {
        match self {
            Self::States(states) => Some(states),
            Self::Word(_) => None,
        }
    }
}

impl Body {
    pub(super) fn states(&self) -> Option<&Vec<Node>> {
        match self {
            Self::States(states) => Some(states),
            Self::Agent(_) => None,
        }
    }

    fn states_mut(&mut self) -> Option<&mut Vec<Node>> {
        match self {
            Self::States(states) => Some(states),
            Self::Agent(_) => None,
        }
    }

    pub(super) fn work(&self) -> Option<&Work> {
        match self {
            Self::Agent(work) => Some(work),
            Self::States(_) => None,
        }
    }
}
