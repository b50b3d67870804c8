//! A process that works: answers the doorbells of both queues, sweeps, fires schedules; until it is told to stop.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Runtime;
use crate::handlers;
use crate::ports::Delivery;
use crate::ports::Queue;

/// A pause after something that should not fail has failed.
const SETBACK: Duration = Duration::from_secs(1);
/// Tries to say that a doorbell was answered.
const SETTLING: u32 = 5;

/// How a [`Service`] works.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Steps that are worked on at once, each by a task of its own; one that waits for its action takes a place too.
    pub steps: usize,
    /// Doorbells of the queue `resume` that are answered at once.
    pub resumes: usize,
    /// The pause between two sweeps. At most a minute, so that what a sweep sees ahead rings in time.
    pub sweep_interval: Duration,
    /// Whether schedules fire in this process.
    pub schedules: bool,
    /// Whether every run that is not over is rung at the start: where doorbells did not outlive the process before.
    pub recover: bool,
    /// How long steps may go on after the signal to stop.
    pub grace: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            steps: 1024,
            resumes: 64,
            sweep_interval: Duration::from_mins(1),
            schedules: true,
            recover: true,
            grace: Duration::from_secs(30),
        }
    }
}

/// Works for a [`Runtime`] until it is told to stop.
pub struct Service {
    runtime: Runtime,
    options: ServiceOptions,
}

impl Service {
    /// A service for this runtime.
    pub fn new(runtime: Runtime, options: ServiceOptions) -> Self {
        Self { runtime, options }
    }

    /// Works until `shutdown` is ready: then takes nothing new, lets steps in flight finish (as long as the grace lasts) and
    /// answers.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut background = JoinSet::new();
        let pools = [(Queue::Steps, self.options.steps), (Queue::Resume, self.options.resumes)]
            .map(|(queue, limit)| Pool::start(&self.runtime, queue, limit, stopped.clone()));
        let _workers = Workers(&pools);
        background.spawn(sweeper(self.runtime.clone(), self.options.clone(), stopped.clone()));
        if self.options.schedules {
            background.spawn(crate::schedule::run(self.runtime.clone(), stopped));
        }
        shutdown.await;
        self.runtime.drain();
        // Nobody may be listening any more, which is fine.
        let _ = stop.send(true);
        let finished = async {
            for pool in &pools {
                pool.finished().await;
            }
            while background.join_next().await.is_some() {}
        };
        tokio::select! {
            biased;
            () = finished => {}
            () = self.runtime.ports().clock.sleep(self.options.grace) => {
                tracing::warn!("steps in flight were stopped; they are taken up again at the next start");
            }
        }
    }
}

/// The workers of one queue: as many as were ever needed at once, up to a limit.
struct Pool {
    runtime: Runtime,
    queue: Queue,
    limit: usize,
    idle: AtomicUsize,
    workers: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
    stopped: watch::Receiver<bool>,
}

impl Pool {
    fn start(runtime: &Runtime, queue: Queue, limit: usize, stopped: watch::Receiver<bool>) -> Arc<Self> {
        let pool = Arc::new(Self {
            runtime: runtime.clone(),
            queue,
            limit: limit.max(1),
            idle: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            tasks: Mutex::new(JoinSet::new()),
            stopped,
        });
        pool.clone().add();
        pool
    }

    fn add(self: Arc<Self>) {
        if self.workers.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.workers.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.idle.fetch_add(1, Ordering::Relaxed);
        let pool = self.clone();
        self.tasks.lock().spawn(pool.work());
    }

    async fn work(self: Arc<Self>) {
        let mut stopped = self.stopped.clone();
        let doorbell = self.runtime.ports().doorbell.clone();
        loop {
            let received = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                received = doorbell.receive(self.queue, 1) => received,
            };
            // Whoever leaves nobody waiting sees that somebody waits.
            if self.idle.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.clone().add();
            }
            match received {
                Ok(deliveries) => {
                    for delivery in deliveries {
                        self.answer(delivery).await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "doorbells cannot be received");
                    self.runtime.ports().clock.sleep(SETBACK).await;
                }
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn answer(&self, delivery: Delivery) {
        let doorbell = &self.runtime.ports().doorbell;
        let work = pin!(handlers::guarded(&delivery.scope, async {
            match self.queue {
                Queue::Steps => handlers::step(&self.runtime, &delivery, None).await,
                Queue::Resume => handlers::resume(&self.runtime, &delivery, None).await,
            }
        }));
        let answered = handlers::held(&self.runtime, std::slice::from_ref(&delivery), work).await;
        let retry_after = answered.err().map(|unanswered| unanswered.retry_after);
        for _ in 0..SETTLING {
            let settled = match retry_after {
                None => doorbell.acknowledge(delivery.clone()).await,
                Some(after) => doorbell.retry(delivery.clone(), after).await,
            };
            let Err(error) = settled else { return };
            tracing::warn!(scope = %delivery.scope, %error, "a doorbell was answered, but may ring again");
            self.runtime.ports().clock.sleep(SETBACK).await;
        }
    }

    async fn finished(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.lock());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }
}

/// Whoever drops a service stops its workers with it.
struct Workers<'a>(&'a [Arc<Pool>]);

impl Drop for Workers<'_> {
    fn drop(&mut self) {
        for pool in self.0 {
            pool.tasks.lock().abort_all();
        }
    }
}

async fn sweeper(runtime: Runtime, options: ServiceOptions, mut stopped: watch::Receiver<bool>) {
    let mut recovered = !options.recover;
    loop {
        if !recovered {
            match handlers::recover(&runtime).await {
                Ok(runs) => {
                    recovered = true;
                    tracing::info!(runs, "runs under way are taken up");
                }
                Err(error) => tracing::error!(%error, "runs under way cannot be listed; trying again"),
            }
        }
        if let Err(error) = handlers::sweep(&runtime, None).await {
            tracing::error!(%error, "a sweep failed; trying again");
        }
        let pause = if recovered { options.sweep_interval } else { SETBACK };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = runtime.ports().clock.sleep(pause) => {}
        }
    }
}
