//! The serverless home: the runtime over a table, a bucket, two queues and a bus.

use std::sync::Arc;
use std::time::Duration;

use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::SystemClock;
#[cfg(test)]
use runtime::SystemIds;
use runtime::ports::Agents;
#[cfg(test)]
use runtime::ports::Doorbell;

use crate::Configuration;
use crate::clients::Clients;

/// After so many visits in vain a run is marked as stuck: before its doorbell goes to the dead letter queue, which it does
/// after twenty deliveries (template.yaml).
const VISITS: u32 = 18;
/// An attempt's limit where its state gives none. A step is begun inline only while the invocation can hold its limit: with a day,
/// as elsewhere, each step would have an invocation of its own.
const STEP_TIMEOUT: Duration = Duration::from_mins(10);

/// The runtime over AWS.
pub(crate) fn runtime(configuration: &Configuration, clients: Clients, agents: Arc<dyn Agents>) -> Runtime {
    let Clients { store, doorbell, notifier, ids } = clients;
    let worker = ids.worker();
    let ports = Ports {
        journal: store.clone(),
        catalog: store,
        doorbell,
        agents,
        clock: Arc::new(SystemClock),
        ids: Arc::new(ids),
    };
    let options = options(configuration, worker);
    match notifier {
        Some(notifier) => Runtime::telling(ports, options, notifier),
        None => Runtime::new(ports, options),
    }
}

fn options(configuration: &Configuration, worker: Arc<str>) -> Options {
    Options {
        visits: VISITS,
        step_timeout: STEP_TIMEOUT,
        retention: configuration.retention,
        ..Options::shared(worker)
    }
}

/// The same over a store and a doorbell in memory, for tests of what comes in.
#[cfg(test)]
pub(crate) fn in_memory<F: crate::Function>(
    configuration: &Configuration,
    doorbell: Arc<dyn Doorbell>,
) -> Runtime {
    let ids = SystemIds::new().unwrap();
    let worker = ids.worker();
    let store = Arc::new(runtime::memory::Store::new());
    let ports = Ports {
        journal: store.clone(),
        catalog: store.clone(),
        doorbell,
        agents: F::agents(store).unwrap(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(ids),
    };
    Runtime::new(ports, options(configuration, worker))
}
