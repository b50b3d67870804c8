//! A test played for its history: what happened, beside whether it was as expected; with a process that may die.

use std::sync::Arc;

use engine::Encoded;
use engine::Error;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use engine::StepId;
use expression::Value;
use parking_lot::Mutex;
use runtime::ports::RunSummary;

use crate::case;
use crate::case::Stage;
use crate::file::Case;
use crate::file::File;
use crate::process::Conditions;
use crate::report::Failure;
use crate::run;
use crate::trail::Trail;
use crate::world::Homes;

/// The tests of a file, ready to be played again and again.
pub struct Rehearsal {
    stage: Box<Stage>,
}

/// What came of one play.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What was not as the test expects; nothing when it passed.
    pub failures: Vec<Failure>,
    /// What happened, in order.
    pub notes: Vec<Noted>,
    /// The names of the calls that the (first) process made of its ports, in order.
    pub calls: Vec<&'static str>,
    /// What happened in the run, a line each.
    pub timeline: Vec<String>,
    /// The run as it stands at the end; `None` when it was not started.
    pub end: Option<End>,
}

/// A run at its end.
#[derive(Clone, Debug)]
pub struct End {
    /// The run.
    pub run: RunId,
    /// Its status, as its journals say.
    pub status: String,
    /// Its output.
    pub output: Option<Value>,
    /// Its error.
    pub error: Option<Error>,
    /// The root's data.
    pub context: Value,
    /// The states entered.
    pub trail: Trail,
    /// What lists say of it.
    pub listed: Option<RunSummary>,
    /// The journals of all scopes, its child runs' included.
    pub journals: Vec<(ScopeKey, Vec<Encoded>)>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Noted {
    /// A record was stored, whether or not its writer was told.
    Appended(ScopeKey, Encoded),
    /// An action was performed.
    Called(Called),
}

/// An action that was performed.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// The agent's name, or the action's.
    pub agent: Arc<str>,
    /// In which run.
    pub run: RunId,
    /// In which of its scopes.
    pub scope: ScopePath,
    /// For which step.
    pub step: StepId,
    /// Its state.
    pub state: Arc<str>,
    /// The attempt.
    pub attempt: u32,
    /// The epoch.
    pub epoch: u32,
    /// The idempotency key.
    pub key: Arc<str>,
    /// The rendered request.
    pub request: Value,
}

/// Where what happens is noted.
pub(crate) type Notes = Arc<Mutex<Vec<Noted>>>;

impl Rehearsal {
    /// Reads what the tests of this file stand on.
    ///
    /// # Errors
    /// The workflow cannot be read, or has errors.
    pub fn of(file: &File) -> Result<Self, String> {
        run::stage(file).map(|stage| Self { stage })
    }

    /// Plays one of the tests.
    pub fn play(&self, case: &Case, homes: &Homes, conditions: Conditions) -> Account {
        let played = run::in_virtual_time(case::rehearse(&self.stage, case, homes, conditions));
        played
            .unwrap_or_else(|error| Account { failures: vec![Failure::problem(error)], ..Account::default() })
    }
}
