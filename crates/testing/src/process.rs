//! The process that a test's run lives in; and, where it is to die, the one that goes on after it.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::ServiceOptions;
use runtime::memory;
use runtime::memory::Fault;
use runtime::memory::Faulty;
use runtime::memory::INJECTED;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The names of all calls that the first process made, in order.
pub(crate) type Calls = Arc<Mutex<Vec<&'static str>>>;

/// What the processes of a test have to live with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// They share their store with others: leases and due entries, no recovery at the start.
    pub shared: bool,
    /// What goes wrong, if anything.
    pub mishap: Option<Mishap>,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mishap {
    /// The number of the port's call, from 0. Calls of agents and sleeps count as well.
    pub call: u64,
    /// What becomes of it.
    pub fault: Fault,
}

/// The process that is there; one at a time.
pub(crate) struct Process {
    /// What a process that nothing befalls has.
    ports: Ports,
    shared: bool,
    /// Its doorbells outlive it.
    lasting: bool,
    current: watch::Sender<Runtime>,
    service: Mutex<Service>,
}

/// What the process does by itself.
struct Service {
    task: Option<JoinHandle<()>>,
    /// How many processes there were, with this one.
    number: u32,
}

impl Process {
    /// A process that nothing befalls; one of a home that is `shared`, or else alone.
    pub(crate) fn new(ports: Ports, shared: bool) -> Self {
        Self::begin(ports.clone(), ports, shared, shared)
    }

    /// A process under these conditions, whose calls are noted. When it dies, another one takes its place.
    pub(crate) fn under(conditions: Conditions, ports: Ports, calls: Calls) -> Arc<Self> {
        let faulty = Faulty::new(ports.journal.clone(), rule(conditions.mishap, calls));
        let death = faulty.death();
        let first = Ports {
            catalog: Arc::new(faulty.and(ports.catalog.clone())),
            doorbell: Arc::new(faulty.and(ports.doorbell.clone())),
            agents: Arc::new(faulty.and(ports.agents.clone())),
            clock: Arc::new(faulty.and(ports.clock.clone())),
            ids: ports.ids.clone(),
            journal: Arc::new(faulty),
        };
        let process = Arc::new(Self::begin(first, ports, conditions.shared, false));
        let next = process.clone();
        tokio::spawn(async move {
            death.await;
            next.restart().await;
        });
        process
    }

    fn begin(first: Ports, ports: Ports, shared: bool, lasting: bool) -> Self {
        let runtime = Runtime::new(first, options("test", shared));
        let service = Service { task: Some(serve(&runtime, false)), number: 1 };
        Self { ports, shared, lasting, current: watch::Sender::new(runtime), service: Mutex::new(service) }
    }

    /// As `kill -9` and a new start would: whatever the process has in flight is gone.
    pub(crate) async fn restart(&self) {
        let (task, number) = {
            let mut service = self.service.lock();
            service.number += 1;
            (service.task.take(), service.number)
        };
        // Nothing of it is left when the next one looks.
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        let mut ports = self.ports.clone();
        if !self.lasting {
            // Doorbells in memory die with their process.
            ports.doorbell = Arc::new(memory::Doorbell::new(ports.clock.clone()));
        }
        let runtime = Runtime::new(ports, options(&format!("test-{number}"), self.shared));
        self.service.lock().task = Some(serve(&runtime, !self.shared));
        self.current.send_replace(runtime);
    }

    /// Asks the process that is there, and again when it died meanwhile or could not say, as a client does. The second
    /// value says whether it was asked before, so that what was asked may be done already.
    pub(crate) async fn ask<T, E, F>(
        &self,
        ask: impl Fn(Runtime) -> F,
        code: impl Fn(&E) -> &'static str,
    ) -> (Result<T, E>, bool)
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut current = self.current.subscribe();
        let mut again = false;
        loop {
            let runtime = current.borrow_and_update().clone();
            let answer = tokio::select! {
                biased;
                answer = ask(runtime) => Some(answer),
                _ = current.changed() => None,
            };
            match answer {
                Some(Err(error)) if code(&error) == INJECTED => {}
                Some(answer) => return (answer, again),
                None => {}
            }
            again = true;
        }
    }
}

fn options(worker: &str, shared: bool) -> Options {
    if shared { Options::shared(worker) } else { Options::exclusive(worker) }
}

fn serve(runtime: &Runtime, recover: bool) -> JoinHandle<()> {
    // The schedules of the workflow are not what is tested: a run is started as a tick would.
    let options = ServiceOptions { schedules: false, recover, ..ServiceOptions::default() };
    tokio::spawn(runtime::Service::new(runtime.clone(), options).run(std::future::pending()))
}

fn rule(mishap: Option<Mishap>, calls: Calls) -> impl Fn(u64, &'static str) -> Fault + Send + Sync + 'static {
    move |number, name| {
        calls.lock().push(name);
        match mishap {
            Some(Mishap { call, fault }) if call == number => fault,
            _ => Fault::None,
        }
    }
}
