//! One process: alive, frozen, dead; and the ports that it sees the world through.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::memory;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::observation::ProcessId;
use crate::observation::What;
use crate::plan::Limits;
use crate::ports::Bells;
use crate::ports::Port;
use crate::queue::Queues;
use crate::world::World;
use crate::world::mix;

/// By so many milliseconds a process's clock may be off.
pub(crate) const OFFSET: i64 = 2000;

/// What becomes of a process.
pub struct Life {
    pub(crate) id: ProcessId,
    /// By how many milliseconds its clock is off.
    clock: Clock,
    /// Nothing in it moves until then.
    frozen: Mutex<Instant>,
    dead: AtomicBool,
    /// Rung at its death. Not a `watch` channel: that wakes those who wait in an order of chance.
    death: Notify,
}

impl Life {
    fn new(id: ProcessId, clock: Clock) -> Self {
        Self {
            id,
            clock,
            frozen: Mutex::new(Instant::now()),
            dead: AtomicBool::new(false),
            death: Notify::new(),
        }
    }

    /// What stands for those who take from a queue in the name of processes to come.
    pub(crate) fn poller() -> Self {
        Self::new(ProcessId(0), Clock(Arc::default()))
    }

    /// What its clock says when the world's says `at`.
    pub(crate) fn clock(&self, at: Timestamp) -> Timestamp {
        let off = SignedDuration::from_millis(self.clock.0.load(Ordering::Relaxed));
        at.checked_add(off).unwrap_or(at)
    }

    /// Its clock jumps.
    pub(crate) fn jump(&self, millis: i64, world: &World) {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
        if !self.is_dead() {
            world.observe(Some(self), What::ClockJumped(self.id));
        }
    }

    /// Nothing in it moves for so long.
    pub(crate) fn freeze(&self, millis: u64) {
        *self.frozen.lock() = Instant::now() + Duration::from_millis(millis);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    pub(crate) async fn died(&self) {
        let mut death = std::pin::pin!(self.death.notified());
        death.as_mut().enable();
        if !self.is_dead() {
            death.await;
        }
    }

    /// Answers when it may go on: at once, as a rule; later if it is frozen, never if it is dead.
    pub(crate) async fn moves(&self) {
        loop {
            if self.is_dead() {
                return std::future::pending().await;
            }
            let until = *self.frozen.lock();
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// It dies, here and now.
    pub(crate) fn kill(&self, world: &World) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            world.died(self);
            self.death.notify_waiters();
        }
    }
}

/// A clock, by how many milliseconds it is off.
#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicI64>);

impl Clock {
    /// Half of the clocks are right; the others are off by up to two seconds.
    pub(crate) fn new(world: &World, number: u32) -> Self {
        let mut rng = world.rng("clock", number);
        let off = if world.is_calm() || rng.bool() { 0 } else { rng.i64(-OFFSET..=OFFSET) };
        Self(Arc::new(AtomicI64::new(off)))
    }
}

/// A process and its runtime.
pub(crate) struct Process {
    pub(crate) life: Arc<Life>,
    pub(crate) runtime: Runtime,
}

/// Where a process's doorbells live.
pub(crate) enum Bell {
    /// In its own memory.
    Memory,
    /// In a queue that outlives it.
    Queue(Arc<Queues>),
}

impl Process {
    /// A new process begins.
    pub(crate) fn start(world: &Arc<World>, machine: Option<&Clock>, limits: Limits, bell: &Bell) -> Self {
        let id = world.next_process();
        let clock = machine.cloned().unwrap_or_else(|| Clock::new(world, id.0));
        let life = Arc::new(Life::new(id, clock));
        let port = Arc::new(Port { world: world.clone(), life: life.clone() });
        let bells = match bell {
            Bell::Memory => Bells::memory(port.clone()),
            Bell::Queue(queues) => Bells::queue(port.clone(), queues.clone()),
        };
        let ports = Ports {
            journal: port.clone(),
            catalog: port.clone(),
            doorbell: Arc::new(bells),
            agents: port.clone(),
            clock: port.clone(),
            ids: Arc::new(memory::SeededIds::new(mix(world.rng("ids", id.0).u64(..), id.0))),
        };
        let worker = format!("p{}", id.0);
        let options = if machine.is_some() { Options::exclusive(worker) } else { Options::shared(worker) };
        let inline_limit = Duration::from_millis(limits.inline);
        let options = Options {
            cached_scopes: limits.scopes,
            snapshot_bytes: limits.snapshots,
            inline_limit,
            ..options
        };
        let runtime = match bell {
            Bell::Memory => Runtime::new(ports, options),
            Bell::Queue(_) => Runtime::telling(ports, options, port),
        };
        world.observe(Some(&life), What::ProcessStarted(id));
        Self { life, runtime }
    }
}
