//! What a run costs in calls of the store.

// They are tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Process;
use common::World;
use common::json;
use stepwell_runtime::Ports;
use stepwell_runtime::Runtime;
use stepwell_runtime::StartRequest;
use stepwell_runtime::memory::Fault;
use stepwell_runtime::memory::Faulty;
use stepwell_runtime::ports::Catalog as _;
use stepwell_runtime::ports::RunStatus;

/// Calls of the store for a `foreach` of so many iterations at once, each of which is this state: until all of them wait, and
/// from then until the end.
async fn cost(items: u64, state: &str, pass: Duration) -> (u64, u64) {
    let world = World::new();
    let (ports, doorbell) = world.ports();
    let journal = Arc::new(Faulty::new(world.store.clone(), |_, _| Fault::None));
    let catalog = Arc::new(journal.and(world.store.clone()));
    let ports = Ports { journal: journal.clone(), catalog, ..ports };
    let process = Process::new(Runtime::new(ports, world.options(true)), doorbell).serving();
    process
        .register(&format!(
            "id: w\nstates:\n  - {{id: each, type: foreach, itemsPath: workflow.input.items, maxConcurrency: {items}, iterator: {{states: [{state}]}}}}\n"
        ))
        .await;
    let list: Vec<_> = (0..items).map(|item| item.to_string()).collect();
    let request = StartRequest::new("w", json(&format!("{{\"items\": [{}]}}", list.join(", "))));
    let run = process.runtime.start(request).await.unwrap().run;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = world.store.run(&run).await.unwrap().unwrap().status;
    assert!(matches!(status, RunStatus::WaitingTimer | RunStatus::WaitingApproval), "{status}");
    let parked = journal.calls();
    tokio::time::sleep(pass).await;
    let status = world.store.run(&run).await.unwrap().unwrap().status;
    assert!(status.is_terminal(), "{status}");
    let ended = journal.calls() - parked;
    process.shut_down().await;
    (parked, ended)
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_at_once_each_costs_the_same() {
    let wait = "{id: w, type: wait, duration: 10m}";
    let approval = "{id: a, type: approval, message: ok?, timeoutSeconds: 600}";
    for (state, items) in [(wait, 50), (wait, 400), (approval, 50), (approval, 400)] {
        let (parked, ended) = cost(items, state, Duration::from_mins(11)).await;
        assert!(parked <= 12 * items && ended <= 20 * items, "{items} of {state}: {parked}, {ended}");
    }
}
