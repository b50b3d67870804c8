//! A home in memory, under virtual time, with agents that do what a test says and count what they were asked.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)] // Each test file uses a part of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::Error;
use engine::Event;
use engine::Record;
use engine::RunId;
use expression::Value;
use parking_lot::Mutex;
use stepwell_runtime::Options;
use stepwell_runtime::Ports;
use stepwell_runtime::Runtime;
use stepwell_runtime::Service;
use stepwell_runtime::ServiceOptions;
use stepwell_runtime::StartRequest;
use stepwell_runtime::memory;
use stepwell_runtime::ports::Agents;
use stepwell_runtime::ports::Call;
use stepwell_runtime::ports::CallError;
use stepwell_runtime::ports::Catalog as _;
use stepwell_runtime::ports::DefinitionKind;
use stepwell_runtime::ports::DueRow;
use stepwell_runtime::ports::Journal as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// One call of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    pub state: String,
    pub scope: String,
    pub key: String,
    pub attempt: u32,
    pub epoch: u32,
}

/// Agents by what their task says: `sleep 10s`, `fail TYPE`, `flaky N` (fails until the Nth call), anything else is echoed.
#[derive(Default)]
pub struct Stub {
    pub calls: Mutex<Vec<Called>>,
    pub running: Mutex<i32>,
    pub most_running: Mutex<i32>,
    pub dropped: Mutex<u32>,
    flaky: Mutex<BTreeMap<String, u32>>,
}

impl Stub {
    pub fn calls(&self) -> Vec<Called> {
        self.calls.lock().clone()
    }

    pub fn of(&self, state: &str) -> Vec<Called> {
        self.calls().into_iter().filter(|call| call.state == state).collect()
    }
}

struct InFlight<'a>(&'a Stub, bool);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        if !self.1 {
            *self.0.dropped.lock() += 1;
        }
    }
}

#[async_trait]
impl Agents for Stub {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        self.calls.lock().push(Called {
            state: call.state.to_string(),
            scope: call.scope.to_string(),
            key: call.idempotency_key.to_string(),
            attempt: call.attempt,
            epoch: call.epoch,
        });
        let running = {
            let mut running = self.running.lock();
            *running += 1;
            *running
        };
        let mut in_flight = InFlight(self, false);
        {
            let mut most = self.most_running.lock();
            *most = (*most).max(running);
        }
        let task = call.request.get("task").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut words = task.split_whitespace();
        let result = match (words.next(), words.next()) {
            (Some("sleep"), Some(time)) => {
                tokio::time::sleep(
                    model::parse_duration(time).map(|model::Millis(ms)| Duration::from_millis(ms)).unwrap(),
                )
                .await;
                Ok(Value::from(task.as_str()))
            }
            (Some("fail"), Some(kind)) => {
                Err(CallError { error: Error::new(kind, "as told"), definite: true, retry_after: None })
            }
            (Some("flaky"), Some(count)) => {
                let mut flaky = self.flaky.lock();
                let calls = flaky.entry(format!("{}{}", call.scope, call.state)).or_default();
                *calls += 1;
                if *calls < count.parse::<u32>().unwrap() {
                    Err(CallError {
                        error: Error::new("flaky", "not yet"),
                        definite: true,
                        retry_after: None,
                    })
                } else {
                    Ok(Value::from(i64::from(*calls)))
                }
            }
            _ => Ok(Value::from(task.as_str())),
        };
        in_flight.1 = true;
        result
    }
}

/// A store, agents and a clock that outlive the processes that use them.
pub struct World {
    pub store: Arc<memory::Store>,
    pub agents: Arc<Stub>,
    pub clock: Arc<memory::VirtualClock>,
    pub ids: Arc<memory::SeededIds>,
    pub incarnations: Mutex<u32>,
}

/// One process.
pub struct Process {
    pub runtime: Runtime,
    pub doorbell: Arc<memory::Doorbell>,
    stop: Option<oneshot::Sender<()>>,
    service: Option<JoinHandle<()>>,
}

impl World {
    pub fn new() -> Self {
        let clock = memory::VirtualClock::new("2026-01-31T09:00:00Z".parse().unwrap());
        Self {
            store: Arc::new(memory::Store::new()),
            agents: Arc::default(),
            clock: Arc::new(clock),
            ids: Arc::new(memory::SeededIds::new(7)),
            incarnations: Mutex::new(0),
        }
    }

    pub fn options(&self, exclusive: bool) -> Options {
        let mut incarnations = self.incarnations.lock();
        *incarnations += 1;
        let worker = format!("worker-{incarnations}");
        if exclusive { Options::exclusive(worker) } else { Options::shared(worker) }
    }

    pub fn ports(&self) -> (Ports, Arc<memory::Doorbell>) {
        let doorbell = Arc::new(memory::Doorbell::new(self.clock.clone()));
        let ports = Ports {
            journal: self.store.clone(),
            catalog: self.store.clone(),
            doorbell: doorbell.clone(),
            agents: self.agents.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        };
        (ports, doorbell)
    }

    /// A process that is alone with the store.
    pub fn process(&self) -> Process {
        let (ports, doorbell) = self.ports();
        Process::new(Runtime::new(ports, self.options(true)), doorbell)
    }

    /// A process that shares the store with others.
    pub fn peer(&self) -> Process {
        let (ports, doorbell) = self.ports();
        Process::new(Runtime::new(ports, self.options(false)), doorbell)
    }

    /// All due entries.
    pub async fn due(&self) -> Vec<DueRow> {
        self.store.due(jiff::Timestamp::MAX, None, 100_000).await.unwrap()
    }

    /// How many records a scope has.
    pub async fn records(&self, run: &RunId, path: &str) -> u64 {
        let scope = engine::ScopeKey::new(run.clone(), engine::ScopePath::from_stored(path));
        self.store.head(&scope).await.unwrap().map_or(0, |record| record.seq)
    }

    /// Every event of a run with its scope, in the order of the scopes' names.
    pub async fn events(&self, run: &RunId) -> Vec<(String, Event)> {
        let mut events = Vec::new();
        for path in self.store.scopes(run, None, 100_000).await.unwrap() {
            let key = engine::ScopeKey::new(run.clone(), path.clone());
            for record in self.store.read(&key, 0, 1_000_000).await.unwrap() {
                for event in Record::decode(&record.body).unwrap().events {
                    events.push((path.to_string(), event));
                }
            }
        }
        events
    }
}

impl Process {
    pub fn new(runtime: Runtime, doorbell: Arc<memory::Doorbell>) -> Self {
        Self { runtime, doorbell, stop: None, service: None }
    }

    /// The same with a service at work.
    pub fn serving(self) -> Self {
        self.serving_with(ServiceOptions::default())
    }

    /// The same with a service that does not ask for all runs at the start: only the sweeper finds what was left.
    pub fn sweeping(self) -> Self {
        self.serving_with(ServiceOptions { recover: false, ..ServiceOptions::default() })
    }

    fn serving_with(mut self, options: ServiceOptions) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Service::new(self.runtime.clone(), options);
        self.service = Some(tokio::spawn(service.run(async {
            let _ = stopped.await;
        })));
        self.stop = Some(stop);
        self
    }

    /// Registers a workflow; its agent is `x`.
    pub async fn register(&self, source: &str) {
        let agent = "type: static\noutput: nothing\n";
        self.runtime.register(DefinitionKind::Agent, agent, Some("x.agent.yaml"), false).await.unwrap();
        let result =
            self.runtime.register(DefinitionKind::Workflow, source, Some("w.workflow.yaml"), false).await;
        if let Err(error) = result {
            panic!("{error:?}");
        }
    }

    pub async fn start(&self, workflow: &str) -> RunId {
        self.runtime.start(StartRequest::new(workflow, Value::object())).await.unwrap().run
    }

    /// As `kill -9` would: everything in flight is dropped.
    pub async fn kill(mut self) {
        if let Some(service) = self.service.take() {
            service.abort();
            let _ = service.await;
        }
    }

    pub async fn shut_down(mut self) {
        drop(self.stop.take());
        if let Some(service) = self.service.take() {
            service.await.unwrap();
        }
    }
}

pub fn json(text: &str) -> Value {
    Value::parse_json(text).unwrap()
}
