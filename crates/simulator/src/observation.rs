//! What happened in a history, in order: all that its invariants are about.

use std::sync::Arc;

use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::StepId;
use expression::Value;
use jiff::Timestamp;
use runtime::ports::CallError;
use runtime::ports::DueRow;
use runtime::ports::Extra;
use runtime::ports::Lease;
use runtime::ports::Notice;
use runtime::ports::RunSummary;

/// A process of the history; a restarted one has a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The world's own time; the clocks of processes may be off.
    pub at: Timestamp,
    /// What the clock of the process that did it said; `at`, where no process did.
    pub clock: Timestamp,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A process began.
    ProcessStarted(ProcessId),
    /// A process died: nothing of it goes on.
    ProcessDied(ProcessId),
    /// The clock of a process jumped; this is what it says from now on.
    ClockJumped(ProcessId),
    /// A record took effect, whether or not its writer was told.
    Appended {
        /// Who wrote it.
        by: ProcessId,
        /// Where.
        scope: ScopeKey,
        /// What.
        record: Encoded,
        /// What went with it.
        extras: Vec<Extra>,
    },
    /// An agent was called.
    Called {
        /// Counts the calls of the history, from 0.
        call: u64,
        /// By whom.
        by: ProcessId,
        /// For which run and scope.
        scope: ScopeKey,
        /// The step.
        step: StepId,
        /// The state's name.
        state: Arc<str>,
        /// The attempt, from 1.
        attempt: u32,
        /// The epoch, from 1.
        epoch: u32,
        /// The idempotency key.
        key: Arc<str>,
        /// The rendered request.
        request: Value,
    },
    /// An agent's answer reached its caller.
    Answered {
        /// Which call.
        call: u64,
        /// What it said.
        answer: Result<Value, CallError>,
    },
    /// The caller no longer waits for an answer (it stopped the call, or died).
    Dropped {
        /// Which call.
        call: u64,
    },
    /// A lease was renewed: it took effect, whether or not the worker was told.
    Renewed {
        /// By whom.
        by: ProcessId,
        /// For which scope.
        scope: ScopeKey,
        /// The lease as it is now.
        lease: Lease,
    },
    /// A run's summary is now this.
    Summary(Box<RunSummary>),
    /// A due entry was moved or removed by the sweeper.
    DueMoved {
        /// As it was.
        row: DueRow,
        /// Its new time; `None`: removed.
        to: Option<Timestamp>,
    },
    /// The world was told what happened to a run.
    Notified(Box<Notice>),
    /// A doorbell was lost for good, or all of them.
    DoorbellLost,
    /// A client was told something; what it asked is said in words.
    Told {
        /// The run it was about, if any.
        run: Option<RunId>,
        /// What was asked.
        asked: Asked,
        /// Whether it was done: the error's code if not.
        answer: Result<(), String>,
        /// How often it was asked before, with an answer that was lost or said nothing: those may have taken effect.
        lost: u32,
    },
    /// From here on nothing fails any more.
    FaultsOver,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// To start a run; under this key, if it gave one.
    Start(Option<Arc<str>>),
    /// To pause it.
    Pause,
    /// To resume it.
    Resume,
    /// To cancel it.
    Cancel,
    /// To redrive it.
    Redrive,
    /// To send a signal with this id.
    Signal(Arc<str>),
    /// To take a vote on the approval with this id.
    Vote {
        /// The approval's id.
        approval: Arc<str>,
        /// The vote.
        approve: bool,
        /// By whom.
        approver: Arc<str>,
    },
}
