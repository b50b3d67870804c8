//! `*.test.yaml` as typed values, every issue at its place.

mod read;

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::path::PathBuf;
use std::sync::Arc;

use expression::Path;
use expression::Value;
use jiff::Timestamp;
use model::Issue;
use model::Millis;

use crate::history::HistoryExpectation;
use crate::trail::Trail;

/// One test file.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it stands.
    pub path: PathBuf,
    /// The workflow it tests, relative to the file's folder.
    pub workflow: PathBuf,
    /// Its tests, in order.
    pub cases: Vec<Case>,
}

impl File {
    /// Reads the text of a test file, or says all that is wrong with it.
    pub fn parse(source: &str, path: &FilePath) -> Result<Self, Vec<Issue>> {
        read::file(source, path)
    }

    /// The workflow's file.
    pub fn workflow_path(&self) -> PathBuf {
        self.path.parent().unwrap_or(FilePath::new("")).join(&self.workflow)
    }
}

/// One test: a world, and what is expected of the run in it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Its line in the file.
    pub line: u32,
    /// The run's input.
    pub input: Value,
    /// Started as a tick of this `cron` state would start it.
    pub cron: Option<Arc<str>>,
    /// Who starts the run.
    pub starter: Option<Arc<str>>,
    /// When the virtual clock starts.
    pub now: Option<Timestamp>,
    /// What each agent answers, by its name (or that of an action).
    pub agents: BTreeMap<Arc<str>, Stub>,
    /// Who decides what, by the state that asks.
    pub approvals: BTreeMap<Arc<str>, Answers>,
    /// Signals, with the time after the start when each is sent.
    pub signals: Vec<Signal>,
    /// Control, with the time after the start when it is given.
    pub control: Vec<Control>,
    /// What must come of it.
    pub expect: Expect,
}

/// What a stubbed agent answers.
#[derive(Clone, Debug)]
pub struct Stub {
    /// The answers, in order of call.
    pub answers: Vec<Answer>,
    /// Whether the (only) answer is given to every call.
    pub always: bool,
}

/// One answer of a stubbed agent.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How long it takes.
    pub after: Millis,
    /// What it is.
    pub what: Reply,
}

/// What a stubbed agent says.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An output; a string is the agent's text.
    Output(Value),
    /// It fails.
    Error {
        /// The error's type.
        kind: Arc<str>,
        /// Its message.
        message: Arc<str>,
        /// It is not known whether the call took effect (a lost connection): the next attempt keeps the idempotency key.
        definite: bool,
        /// It asks not to be called again before.
        retry_after: Option<Millis>,
    },
}

/// The decisions given to one state.
#[derive(Clone, Debug)]
pub struct Answers {
    /// In order; `None`: nobody answers that time.
    pub decisions: Vec<Option<Decision>>,
    /// Whether the (only) decision is given each time it asks.
    pub always: bool,
}

/// One person's decision.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Approve or reject.
    pub approve: bool,
    /// Who.
    pub approver: Arc<str>,
    /// The teams they belong to.
    pub teams: Vec<Arc<str>>,
    /// Why.
    pub comment: Option<Arc<str>>,
    /// What they filled in.
    pub form: Option<Value>,
    /// How long after the question.
    pub after: Millis,
    /// The code with which it must be refused.
    pub refused: Option<String>,
}

/// A signal to send.
#[derive(Clone, Debug)]
pub struct Signal {
    /// How long after the start.
    pub after: Millis,
    /// By which it is known again.
    pub id: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
    /// What it carries.
    pub payload: Value,
    /// The code with which it must be refused.
    pub refused: Option<String>,
}

/// A control to give.
#[derive(Clone, Debug)]
pub struct Control {
    /// How long after the start.
    pub after: Millis,
    /// Which.
    pub verb: Verb,
    /// Who gives it.
    pub by: Option<Arc<str>>,
    /// Why (of a cancel).
    pub reason: Option<Arc<str>>,
    /// The code with which it must be refused.
    pub refused: Option<String>,
}

/// What can be done to a run, and to the process that performs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Its clocks stop.
    Pause,
    /// They go on.
    Resume,
    /// It ends.
    Cancel,
    /// It goes on from where it failed.
    Redrive,
    /// The process is killed, with all that it performs, and a new one takes over.
    Restart,
}

impl Verb {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("pause", Self::Pause),
        ("resume", Self::Resume),
        ("cancel", Self::Cancel),
        ("redrive", Self::Redrive),
        ("restart", Self::Restart),
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Redrive => "redrive",
            Self::Restart => "restart",
        }
    }
}

/// What is expected. What is not named is not looked at.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// The run's status.
    pub status: Option<String>,
    /// The states entered.
    pub path: Option<Trail>,
    /// What happened, event by event: of the run, or scope by scope.
    pub history: Vec<HistoryExpectation>,
    /// The run's whole output.
    pub output: Option<Value>,
    /// Values by path.
    pub context: Vec<(Path, Value)>,
    /// Calls of agents, in order per agent.
    pub calls: Vec<CallExpectation>,
    /// Agents that must not be called.
    pub not_called: Vec<Arc<str>>,
    /// The run's error.
    pub error: Option<ErrorExpectation>,
    /// Questions asked, in order per state: the state and what its question must say.
    pub approvals: Vec<(Arc<str>, Value)>,
    /// The start was refused.
    pub refused: Option<Refused>,
    /// The workflow itself is refused, with exactly these errors.
    pub invalid: Vec<Invalid>,
}

/// A call that must have been made.
#[derive(Clone, Debug)]
pub struct CallExpectation {
    /// The agent or action.
    pub agent: Arc<str>,
    /// What its request must at least hold.
    pub request: Value,
}

/// An error the run must have failed with.
#[derive(Clone, Debug, Default)]
pub struct ErrorExpectation {
    /// Its type.
    pub kind: Option<String>,
    /// A part of its message.
    pub contains: Option<String>,
    /// Its code.
    pub code: Option<String>,
    /// The state that raised it.
    pub state: Option<String>,
    /// How many attempts were made.
    pub attempts: Option<i64>,
    /// The type of the last attempt's error, inside a `retry_exhausted`.
    pub cause: Option<String>,
}

/// A start that must be refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The code.
    pub code: String,
    /// The places in the input, a set.
    pub paths: Option<Vec<String>>,
}

/// An issue the workflow must have.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// Its code.
    pub code: String,
    /// Its line.
    pub line: Option<u32>,
    /// Its JSON pointer.
    pub path: Option<String>,
    /// A part of its message or hint.
    pub contains: Option<String>,
}
