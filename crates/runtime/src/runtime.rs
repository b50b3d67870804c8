//! The handle that everything goes through: cheap to clone, knows the ports and what this process remembers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::claims::Claims;
use crate::desk::Desk;
use crate::heads::Heads;
use crate::inboxes::Inboxes;
use crate::nursery::Nursery;
use crate::plans::Plans;
use crate::ports::Agents;
use crate::ports::Catalog;
use crate::ports::Clock;
use crate::ports::Doorbell;
use crate::ports::Ids;
use crate::ports::Journal;
use crate::ports::Notifier;
use crate::schedule::Schedules;
use crate::trouble::Trouble;
use crate::watch::Watchers;

/// What a home provides.
#[derive(Clone)]
pub struct Ports {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// Definitions and lists.
    pub catalog: Arc<dyn Catalog>,
    /// Who wakes whom.
    pub doorbell: Arc<dyn Doorbell>,
    /// Actions.
    pub agents: Arc<dyn Agents>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: Arc<dyn Ids>,
}

/// How a home runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who claims steps; unlike that of any other process or incarnation.
    pub worker: Arc<str>,
    /// True where this process alone uses the store (the embedded home, behind its file lock): whoever else claimed a step
    /// is dead, no lease is written, and what was read of the catalog stays true until this process changes it.
    pub exclusive: bool,
    /// How long a claim counts as alive without a renewal.
    pub lease: Duration,
    /// After this much time a worker gives its scope back, so that others have a turn.
    pub inline_limit: Duration,
    /// One attempt's limit where the state gives none. An agent's own is the agents' to keep.
    pub step_timeout: Duration,
    /// After so many visits in vain a run is marked as stuck. Where a queue gives a doorbell up after some deliveries: fewer.
    pub visits: u32,
    /// A snapshot is due once as many bytes of records follow the last one, or more where that is larger itself.
    pub snapshot_bytes: usize,
    /// How long a run is kept after its end; the sweeper forgets it then. `None`: for ever.
    pub retention: Option<Duration>,
    /// Scopes kept in memory.
    pub cached_scopes: usize,
    /// Bytes of them, about.
    pub cached_bytes: usize,
}

impl Options {
    /// The usual limits, for a process that shares its store with others.
    pub fn shared(worker: impl Into<Arc<str>>) -> Self {
        Self {
            worker: worker.into(),
            exclusive: false,
            lease: Duration::from_secs(30),
            inline_limit: Duration::from_mins(2),
            step_timeout: Duration::from_hours(24),
            visits: 100,
            snapshot_bytes: 128 << 10,
            retention: None,
            cached_scopes: 4096,
            cached_bytes: 16 << 20,
        }
    }

    /// The usual limits, for a process that is alone with its store.
    pub fn exclusive(worker: impl Into<Arc<str>>) -> Self {
        Self { exclusive: true, ..Self::shared(worker) }
    }
}

/// Runs workflows over the ports of a home. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) core: Arc<Core>,
}

/// What one process knows.
pub(crate) struct Core {
    pub(crate) ports: Ports,
    pub(crate) notifier: Option<Arc<dyn Notifier>>,
    /// Until then nobody is told anything: of late that failed.
    pub(crate) silent_until: Mutex<Option<Timestamp>>,
    pub(crate) options: Options,
    pub(crate) plans: Plans,
    pub(crate) heads: Heads,
    pub(crate) inboxes: Inboxes,
    pub(crate) nursery: Nursery,
    pub(crate) claims: Claims,
    pub(crate) desk: Desk,
    pub(crate) watchers: Watchers,
    pub(crate) trouble: Trouble,
    pub(crate) schedules: Schedules,
    pub(crate) draining: AtomicBool,
}

impl Runtime {
    /// A runtime over these ports.
    pub fn new(ports: Ports, options: Options) -> Self {
        Self::made(ports, options, None)
    }

    /// The same, and what happens to runs is told there.
    pub fn telling(ports: Ports, options: Options, notifier: Arc<dyn Notifier>) -> Self {
        Self::made(ports, options, Some(notifier))
    }

    fn made(ports: Ports, options: Options, notifier: Option<Arc<dyn Notifier>>) -> Self {
        let core = Core {
            plans: Plans::new(options.exclusive),
            heads: Heads::new(options.cached_scopes, options.cached_bytes),
            inboxes: Inboxes::default(),
            nursery: Nursery::new(options.cached_scopes),
            claims: Claims::default(),
            desk: Desk::default(),
            watchers: Watchers::default(),
            trouble: Trouble::default(),
            schedules: Schedules::default(),
            draining: AtomicBool::new(false),
            ports,
            notifier,
            silent_until: Mutex::default(),
            options,
        };
        Self { core: Arc::new(core) }
    }

    /// The ports it works over.
    pub fn ports(&self) -> &Ports {
        &self.core.ports
    }

    /// How it runs.
    pub fn options(&self) -> &Options {
        &self.core.options
    }

    /// Stops going on with the next step inline: whoever performs one finishes it, and rings for the rest.
    pub fn drain(&self) {
        self.core.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.core.ports.clock.now()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.core.draining.load(Ordering::Relaxed)
    }
}

/// `at` moved by `by`; the last moment there is, where that would be too late.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The time from `now` until `at`; none if it has passed.
pub(crate) fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
