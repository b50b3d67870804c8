//! What a run must have come to, given what the world answered: the language once more, separate and simple.
//!
//! [`interpret`] goes through a workflow from its start, without journals, workers or clocks. Whatever lies outside of the
//! language it asks an [`Oracle`]: how a step ended, who voted, which child was first, when a state was entered, and whether
//! history got that far at all. For every scope it tells the [`Moment`]s it went through, its context and how it ended.
//!
//! It uses `model` and `expression` and nothing else of ours: what it has in common with the engine is the language.

mod children;
mod evaluate;
mod scope;
mod states;
mod tried;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use expression::SecretSlot;
use expression::Value;
use jiff::Timestamp;
use model::Workflow;

/// What a run says about itself before anything has happened in it.
#[derive(Clone, Debug)]
pub struct Start {
    /// The run's id.
    pub run: Arc<str>,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// The input, defaults filled in.
    pub input: Value,
    /// When it began.
    pub started_at: Timestamp,
    /// Who started it.
    pub starter: Option<Arc<str>>,
    /// The tick that started it.
    pub tick: Option<Timestamp>,
}

/// A scope by the forks above it; the root has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub Vec<Below>);

/// One child of one visit of a state that forked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Below {
    /// The state that forked.
    pub state: Arc<str>,
    /// Its visit.
    pub visit: u32,
    /// Which child.
    pub child: Child,
}

/// A child among its siblings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Child {
    /// A branch, by its name.
    Branch(Arc<str>),
    /// An iteration, from 0.
    Item(u32),
}

/// Something that a scope goes through. The moments of a scope have one order, whatever happens around it.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// A state was entered.
    Entered {
        /// Its address.
        state: Arc<str>,
        /// How often a state of this name has been entered in this scope, this time included.
        visit: u32,
        /// Until when a composite state must be over.
        deadline: Option<Timestamp>,
    },
    /// A state's `if` was false.
    Skipped {
        /// Its address.
        state: Arc<str>,
        /// Where it goes on.
        next: Option<Arc<str>>,
    },
    /// The world was asked for something.
    Asked(Ask),
    /// People have decided.
    Decided {
        /// What they said.
        approved: bool,
        /// The approval's output.
        output: Value,
    },
    /// A list of states inside the current state was entered.
    Block(Role),
    /// An error was caught.
    Caught {
        /// By which clause.
        clause: u32,
        /// The error.
        error: Error,
    },
    /// The current state failed.
    Failed {
        /// With this.
        error: Error,
        /// Of a composite state that took too long: the depth of the list it stands in.
        floor: Option<u32>,
    },
    /// The current state ended.
    Completed {
        /// With this, if it has an output.
        output: Option<Value>,
        /// What its `output` wrote.
        writes: Vec<(Arc<str>, Value)>,
        /// Where it goes on.
        next: Option<Arc<str>>,
    },
    /// The workflow itself cancels the run.
    Cancels {
        /// Why, as far as the language says.
        reason: Option<Words>,
    },
    /// The scope ended.
    Ended(Outcome),
}

/// What a state asks of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// To perform an action.
    Step {
        /// The request.
        request: Value,
        /// Where secrets go in it.
        secrets: Vec<SecretSlot>,
    },
    /// To let time pass.
    Timer {
        /// Until then.
        until: Timestamp,
        /// Whether that is a time rather than a length of time.
        absolute: bool,
    },
    /// To send a signal.
    Signal {
        /// Its name.
        name: Arc<str>,
        /// Until then.
        deadline: Option<Timestamp>,
    },
    /// To decide.
    Approval(Box<Question>),
    /// To run children.
    Children {
        /// How many.
        count: u32,
        /// Of which items, for a `foreach`.
        items: Option<Value>,
    },
    /// To run another workflow.
    Run {
        /// Its id.
        workflow: Arc<str>,
        /// Its version.
        version: Option<Arc<str>>,
        /// Its input.
        input: Value,
    },
}

/// What people are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The question.
    pub message: Arc<str>,
    /// Its title.
    pub title: Option<Arc<str>>,
    /// What is shown beside it.
    pub summary: Option<Value>,
    /// Who may decide.
    pub approvers: Vec<Arc<str>>,
    /// How many approvals approve.
    pub quorum: u32,
    /// Who may not decide.
    pub excluded: Option<Arc<str>>,
    /// Until when.
    pub deadline: Timestamp,
}

/// A decision that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Whether it approves.
    pub approve: bool,
    /// Who decided.
    pub approver: Arc<str>,
    /// Why.
    pub comment: Option<Arc<str>>,
    /// What they filled in.
    pub form: Option<Value>,
}

/// Which list of states inside a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The body of a `while`.
    While,
    /// What is tried.
    Try,
    /// What always runs.
    Finally,
}

/// A message, as far as the language says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// These.
    Exactly(Arc<str>),
    /// Any that have these in them.
    With(Arc<str>),
}

/// An error inside a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// Its type.
    pub kind: Arc<str>,
    /// Its message.
    pub message: Words,
    /// The state that raised it, as those see it who catch it.
    pub state: Option<Arc<str>>,
    /// The attempts that were made; 0 where nothing was attempted.
    pub attempts: u32,
    /// Whether its message begins with the way it came.
    pub travelled: bool,
    /// Whether it is the deadline of an approval or a signal: uncaught, the run has timed out.
    pub waited: bool,
    /// The last attempt's error.
    pub cause: Option<Box<Error>>,
}

/// How a scope or a child run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With an output.
    Completed(Value),
    /// With an error that nothing caught.
    Failed(Error),
    /// With the deadline of an approval or a signal that nothing caught, or with that of the run.
    TimedOut(Error),
    /// Cancelled.
    Cancelled(Option<Words>),
}

/// Whether a moment happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It did; with the words of its error, where the language leaves them open.
    Yes(Option<Arc<str>>),
    /// History ends before it, or went another way.
    No,
    /// The composite state in the list at this depth took too long instead.
    Expired(u32),
    /// Somebody sent failed work on again instead: the current state begins anew.
    Again,
}

/// The world and its history, by scope; states by address and visit.
pub trait Oracle {
    /// Whether this child ever began.
    fn begun(&mut self, scope: &Place) -> bool;
    /// When the next moment of the scope happened, if there is one.
    fn time(&mut self, scope: &Place) -> Option<Timestamp>;
    /// Whether the next moment of the scope is this one.
    fn happened(&mut self, scope: &Place, moment: &Moment) -> Answer;
    /// What came instead of an answer that the world did not give; never `Yes`.
    fn interrupted(&mut self, scope: &Place) -> Answer;
    /// How the step ended for good.
    fn performed(&mut self, scope: &Place, state: &str, visit: u32) -> Option<Result<Value, Error>>;
    /// The decisions, in order.
    fn votes(&mut self, scope: &Place, state: &str, visit: u32) -> Vec<Vote>;
    /// Whether the deadline of the approval or signal passed.
    fn timed_out(&mut self, scope: &Place, state: &str, visit: u32) -> bool;
    /// The signal that came.
    fn signal(&mut self, scope: &Place, state: &str, visit: u32) -> Option<Value>;
    /// Whether the time came.
    fn fired(&mut self, scope: &Place, state: &str, visit: u32) -> bool;
    /// How the child run ended.
    fn child(&mut self, scope: &Place, state: &str, visit: u32) -> Option<Outcome>;
    /// The children whose ends were seen while they still counted, in order; together, those seen at once.
    fn ended(&mut self, scope: &Place, state: &str, visit: u32) -> Vec<Vec<u32>>;
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What came of each scope that began.
    pub scopes: BTreeMap<Place, ScopeTold>,
}

/// What came of a scope.
#[derive(Clone, Debug)]
pub struct ScopeTold {
    /// All that happened.
    pub trail: Vec<Moment>,
    /// Its context, as far as it got.
    pub context: Value,
    /// How it ended, or where it stands.
    pub end: End,
}

/// How a scope ended, or where it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It is over.
    Over(Outcome),
    /// The world has not answered what this state asked (its address and visit).
    Waits(Arc<str>, u32),
    /// It could go on by itself, but history ends before this.
    Before(Box<Moment>),
}

/// Goes through a run of `workflow`, as far as the oracle knows.
pub fn interpret(workflow: &Workflow, start: &Start, oracle: &mut dyn Oracle) -> Told {
    scope::run(workflow, start, oracle)
}

impl Error {
    fn new(kind: impl Into<Arc<str>>, message: Words) -> Self {
        Self {
            kind: kind.into(),
            message,
            state: None,
            attempts: 0,
            travelled: false,
            waited: false,
            cause: None,
        }
    }

    /// The message as it is known by now.
    pub fn text(&self) -> &Arc<str> {
        match &self.message {
            Words::Exactly(text) | Words::With(text) => text,
        }
    }
}

impl Words {
    fn exactly(text: &str) -> Self {
        Self::Exactly(text.into())
    }

    fn with(text: &str) -> Self {
        Self::With(text.into())
    }

    /// Words that the language leaves to whoever speaks.
    fn any() -> Self {
        Self::With("".into())
    }

    /// Whether this can have been said.
    pub fn allow(&self, said: &str) -> bool {
        match self {
            Self::Exactly(text) => **text == *said,
            Self::With(part) => said.contains(&**part),
        }
    }
}

impl Place {
    fn below(&self, state: &Arc<str>, visit: u32, child: Child) -> Self {
        let mut forks = self.0.clone();
        forks.push(Below { state: state.clone(), visit, child });
        Self(forks)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|Below { state, visit, child }| match child {
            Child::Branch(name) => write!(f, "/{state}#{visit}/{name}"),
            Child::Item(index) => write!(f, "/{state}#{visit}[{index}]"),
        })
    }
}
