//! A home's processes: begun, killed and begun again, for as long as the history lasts.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use runtime::Service;
use runtime::ServiceOptions;
use runtime::handlers;
use runtime::ports::Delivery;
use runtime::ports::Queue;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::observation::What;
use crate::plan;
use crate::plan::Blow;
use crate::plan::Hit;
use crate::plan::Limits;
use crate::plan::Plan;
use crate::plan::spread;
use crate::process::Bell;
use crate::process::Clock;
use crate::process::Process;
use crate::queue::Queues;
use crate::world::World;

/// Deliveries of the queue `resume` in one invocation.
const BATCH: usize = 10;

/// The processes of a home.
pub(crate) struct Home {
    world: Arc<World>,
    kind: plan::Home,
    limits: Limits,
    bell: Bell,
    /// Of the machine, where there is but one.
    clock: Option<Clock>,
    slots: Vec<Mutex<Slot>>,
    /// What clients reach, where the other processes answer doorbells alone.
    front: Mutex<Option<Arc<Process>>>,
    /// A sandbox is free.
    free: Semaphore,
    /// Whether new processes ask for all runs, where doorbells live in memory.
    recover: Mutex<bool>,
    /// A process began.
    began: Notify,
}

#[derive(Default)]
struct Slot {
    process: Option<Arc<Process>>,
    stop: Option<oneshot::Sender<()>>,
    begun: u32,
    /// An invocation is under way in this sandbox.
    busy: bool,
}

impl Home {
    pub(crate) fn new(world: &Arc<World>, plan: &Plan) -> Arc<Self> {
        let mut rng = world.rng("queue", 0);
        let bell = match plan.home {
            plan::Home::Embedded => Bell::Memory,
            plan::Home::Cluster { visibility, heartbeats, .. } => {
                Bell::Queue(Arc::new(Queues::new(&mut rng, Duration::from_millis(visibility), heartbeats)))
            }
            plan::Home::Serverless { .. } => {
                Bell::Queue(Arc::new(Queues::new(&mut rng, Duration::from_mins(1), true)))
            }
        };
        let processes = plan.home.processes();
        Arc::new(Self {
            world: world.clone(),
            kind: plan.home,
            limits: plan.limits,
            bell,
            clock: (plan.home == plan::Home::Embedded).then(|| Clock::new(world, 0)),
            slots: (0..processes).map(|_| Mutex::default()).collect(),
            front: Mutex::default(),
            free: Semaphore::new(processes as usize),
            recover: Mutex::new(true),
            began: Notify::new(),
        })
    }

    /// Begins to work.
    pub(crate) fn open(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        if let (plan::Home::Serverless { limit, .. }, Bell::Queue(queues)) = (self.kind, &self.bell) {
            let limit = Duration::from_millis(limit);
            for queue in [Queue::Steps, Queue::Resume] {
                tasks.spawn(self.clone().invoke(queues.clone(), queue, limit));
            }
            tasks.spawn(self.clone().sweep(limit));
        } else {
            for number in 0..self.slots.len() {
                tasks.spawn(self.clone().keep(number));
            }
        }
    }

    /// A blow of the plan falls.
    pub(crate) fn strike(&self, blow: &Blow) {
        if self.world.is_calm() {
            return;
        }
        self.world.struck(blow);
        let slot = self.slots.get(blow.process as usize);
        let process = slot.and_then(|slot| slot.lock().process.clone());
        match (blow.what, process) {
            (Hit::Kill, Some(process)) => process.life.kill(&self.world),
            (Hit::Freeze(millis), Some(process)) => process.life.freeze(millis),
            (Hit::Jump(millis), Some(process)) => process.life.jump(millis, &self.world),
            (Hit::Restart, _) => {
                let stop = slot.and_then(|slot| slot.lock().stop.take());
                drop(stop);
            }
            (Hit::Outage(millis), _) => self.world.outage(millis),
            (Hit::LoseDoorbells, _) => self.lose_doorbells(),
            _ => {}
        }
    }

    /// Doorbells in memory are lost with their process; those of a queue are lost here.
    fn lose_doorbells(&self) {
        if let Bell::Queue(queues) = &self.bell {
            queues.lose_all();
            self.world.observe(None, What::DoorbellLost);
        }
    }

    /// Every process dies, every doorbell is lost; those that begin from now on ask for nothing.
    pub(crate) fn abandon(&self) {
        *self.recover.lock() = false;
        let front = self.front.lock().take();
        let processes = self.slots.iter().filter_map(|slot| slot.lock().process.clone());
        for process in processes.chain(front).collect::<Vec<_>>() {
            process.life.kill(&self.world);
        }
        self.lose_doorbells();
    }

    /// Whether a doorbell is still to be answered.
    pub(crate) fn rings(&self) -> bool {
        match &self.bell {
            Bell::Memory => false,
            Bell::Queue(queues) => queues.len() > 0,
        }
    }

    /// A process that a client reaches, as soon as there is one.
    pub(crate) async fn reach(&self, rng: &mut Rng) -> Arc<Process> {
        loop {
            let mut began = std::pin::pin!(self.began.notified());
            began.as_mut().enable();
            if matches!(self.kind, plan::Home::Serverless { .. }) {
                let mut front = self.front.lock();
                let warm = front.clone().filter(|process| !process.life.is_dead());
                return warm.unwrap_or_else(|| {
                    let process = Arc::new(self.start());
                    *front = Some(process.clone());
                    process
                });
            }
            let alive: Vec<_> = self
                .slots
                .iter()
                .filter_map(|slot| slot.lock().process.clone())
                .filter(|process| !process.life.is_dead())
                .collect();
            if let Some(process) = alive.get(rng.usize(0..alive.len().max(1))) {
                return process.clone();
            }
            began.await;
        }
    }

    fn start(&self) -> Process {
        Process::start(&self.world, self.clock.as_ref(), self.limits, &self.bell)
    }

    /// Begins a process in this place, and again whenever it has ended.
    async fn keep(self: Arc<Self>, number: usize) {
        let Some(slot) = self.slots.get(number) else { return };
        loop {
            let process = Arc::new(self.start());
            let (stop, stopped) = oneshot::channel::<()>();
            let begun = {
                let mut slot = slot.lock();
                slot.process = Some(process.clone());
                slot.stop = Some(stop);
                slot.begun += 1;
                slot.begun
            };
            let recover = self.kind == plan::Home::Embedded && *self.recover.lock();
            let options = ServiceOptions {
                steps: self.limits.workers,
                resumes: self.limits.workers.min(64),
                schedules: false,
                recover,
                ..ServiceOptions::default()
            };
            let service = Service::new(process.runtime.clone(), options);
            self.began.notify_waiters();
            // Spawned, so that it can be stopped at any await.
            let mut tasks = JoinSet::new();
            tasks.spawn(service.run(async {
                // Stopping is asked for by letting go of the other end.
                let _ = stopped.await;
            }));
            tokio::select! {
                biased;
                () = process.life.died() => {}
                _ = tasks.join_next() => process.life.kill(&self.world),
            }
            tasks.shutdown().await;
            let mut rng = self.world.rng("restart", u32::try_from(number).unwrap_or(0) ^ (begun << 8));
            // Most are back soon; some take longer than any lease.
            let pause = if self.world.is_calm() || rng.u8(0..4) > 0 {
                rng.u64(1..=2000)
            } else {
                spread(&mut rng, 2000, 600_000)
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Serverless: takes what rings, one invocation for each batch.
    async fn invoke(self: Arc<Self>, queues: Arc<Queues>, queue: Queue, limit: Duration) {
        let poller = Arc::new(crate::process::Life::poller());
        let mut tasks = JoinSet::new();
        let most = if queue == Queue::Steps { 1 } else { BATCH };
        loop {
            let deliveries = queues.receive(queue, most, &poller).await;
            let sandbox = self.sandbox().await;
            for delivery in &deliveries {
                queues.hand_to(delivery, &sandbox.process.life);
            }
            let (home, queues) = (self.clone(), queues.clone());
            tasks.spawn(async move {
                let work = home.answer(&sandbox.process, &queues, queue, deliveries, limit);
                Box::pin(home.within(&sandbox.process, limit, work)).await;
            });
            while tasks.try_join_next().is_some() {}
        }
    }

    async fn answer(
        &self,
        process: &Process,
        queues: &Queues,
        queue: Queue,
        deliveries: Vec<Delivery>,
        limit: Duration,
    ) {
        let runtime = &process.runtime;
        let kept = deliveries.clone();
        let work = async {
            match queue {
                Queue::Resume => handlers::resume_all(runtime, deliveries, Some(limit)).await,
                Queue::Steps => {
                    let mut answered = Vec::new();
                    for delivery in deliveries {
                        let result = handlers::step(runtime, &delivery, Some(limit)).await;
                        answered.push((vec![delivery], result));
                    }
                    answered
                }
            }
        };
        let answered = handlers::held(runtime, &kept, std::pin::pin!(work)).await;
        process.life.moves().await;
        for (deliveries, result) in answered {
            for delivery in &deliveries {
                match &result {
                    Ok(()) => queues.acknowledge(delivery),
                    Err(unanswered) => queues.give_back(delivery, unanswered.retry_after),
                }
            }
        }
    }

    /// Serverless: a sweep each minute.
    async fn sweep(self: Arc<Self>, limit: Duration) {
        loop {
            let sandbox = self.sandbox().await;
            let work = async {
                // What it could not do, the next one does.
                drop(handlers::sweep(&sandbox.process.runtime, Some(limit)).await);
            };
            self.within(&sandbox.process, limit, work).await;
            drop(sandbox);
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
    }

    /// An invocation: cut short at its limit, and with its process.
    async fn within(&self, process: &Process, limit: Duration, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = process.life.died() => {}
            () = work => {}
            () = tokio::time::sleep(limit) => process.life.kill(&self.world),
        }
    }

    /// A warm sandbox, or a new one, as soon as one may be used.
    async fn sandbox(self: &Arc<Self>) -> Sandbox {
        if let Ok(permit) = self.free.acquire().await {
            permit.forget();
        }
        let free = self.slots.iter().position(|slot| !slot.lock().busy).unwrap_or(0);
        let warm = self.slots.get(free).and_then(|slot| {
            let mut slot = slot.lock();
            slot.busy = true;
            slot.process.clone().filter(|process| !process.life.is_dead())
        });
        let process = warm.unwrap_or_else(|| {
            let process = Arc::new(self.start());
            if let Some(slot) = self.slots.get(free) {
                slot.lock().process = Some(process.clone());
            }
            process
        });
        Sandbox { home: self.clone(), number: free, process }
    }
}

/// A place where one invocation runs at a time.
struct Sandbox {
    home: Arc<Home>,
    number: usize,
    process: Arc<Process>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(slot) = self.home.slots.get(self.number) {
            slot.lock().busy = false;
        }
        self.home.free.add_permits(1);
    }
}
