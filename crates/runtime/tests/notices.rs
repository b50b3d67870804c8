//! What the world is told of runs: each thing once as a rule, again where nobody knows, and at the cost of nobody's progress.

// They are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use common::Process;
use common::World;
use engine::RunId;
use engine::ScopeKey;
use engine::Vote;
use parking_lot::Mutex;
use stepwell_runtime::Runtime;
use stepwell_runtime::handlers;
use stepwell_runtime::ports::Catalog as _;
use stepwell_runtime::ports::Delivery;
use stepwell_runtime::ports::Hint;
use stepwell_runtime::ports::News;
use stepwell_runtime::ports::Notice;
use stepwell_runtime::ports::Notifier;
use stepwell_runtime::ports::Queue;
use stepwell_runtime::ports::RunStatus;
use stepwell_runtime::ports::StoreError;
use stepwell_runtime::ports::StoreErrorKind;

/// A bus that may be out of reach.
#[derive(Default)]
struct Bus {
    told: Mutex<Vec<Notice>>,
    asked: Mutex<usize>,
    down: AtomicBool,
}

#[async_trait]
impl Notifier for Bus {
    async fn notify(&self, notices: Vec<Notice>) -> Result<(), StoreError> {
        *self.asked.lock() += 1;
        if self.down.load(Ordering::Relaxed) {
            let message = "nobody there".to_owned();
            return Err(StoreError { kind: StoreErrorKind::Unavailable, code: "BUS_UNAVAILABLE", message });
        }
        self.told.lock().extend(notices);
        Ok(())
    }
}

impl Bus {
    /// What was told since the last time, in words.
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock()).iter().map(words).collect()
    }
}

fn words(notice: &Notice) -> String {
    let run = notice.run.as_str();
    let id = notice.id.strip_prefix(run).unwrap();
    match &notice.news {
        News::Status { status, previous, error, .. } => {
            let previous = previous.map(|previous| format!("{previous} → ")).unwrap_or_default();
            let error = error.as_ref().map(|(kind, _)| format!(" ({kind})")).unwrap_or_default();
            format!("{id}: {previous}{status}{error}")
        }
        News::ApprovalRequested { approval, .. } => format!("{} asks", approval.state),
        News::ApprovalSettled { approval, settled } => format!("{}: {settled:?}", approval.state),
        News::Stuck { code } => format!("stuck: {code}"),
    }
}

fn process(world: &World, bus: &Arc<Bus>) -> Process {
    let (ports, doorbell) = world.ports();
    Process::new(Runtime::telling(ports, world.options(false), bus.clone()), doorbell)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn approve(process: &Process, world: &World, run: &RunId) {
    let filter = stepwell_runtime::ports::ApprovalFilter { run: Some(run.clone()), pending: true };
    let page = stepwell_runtime::ports::PageRequest { limit: 10, cursor: None };
    let row = world.store.approvals(&filter, &page).await.unwrap().items.remove(0);
    let vote: Vote = serde_json::from_value(serde_json::json!({"approver": "ann", "approve": true})).unwrap();
    process.runtime.vote(run, &row.request.id, vote).await.unwrap();
}

async fn status(world: &World, run: &RunId) -> RunStatus {
    world.store.run(run).await.unwrap().unwrap().status
}

const ASKS: &str = "id: w\nstates:\n  - {id: a, type: agent, agent: x, task: one, next: b}\n  - {id: b, type: agent, agent: x, task: two, next: ok}\n  - {id: ok, type: approval, message: ok?, timeoutSeconds: 100000, next: c}\n  - {id: c, type: agent, agent: x, task: three, next: d}\n  - {id: d, type: agent, agent: x, task: four}\n";

#[tokio::test(start_paused = true)]
async fn each_thing_is_told_once_and_steps_are_not_told() {
    let (world, bus) = (World::new(), Arc::new(Bus::default()));
    let process = process(&world, &bus).sweeping();
    process.register(ASKS).await;
    let run = process.start("w").await;
    pass(1).await;
    assert_eq!(bus.heard(), ["/start: RUNNING", "ok asks"]);
    approve(&process, &world, &run).await;
    pass(3600).await;
    assert_eq!(bus.heard(), ["ok: Approved", "/end/0: RUNNING → COMPLETED"]);
    assert_eq!(*bus.asked.lock(), 4, "requests, for four steps and four things to tell");
    assert_eq!(world.due().await, []);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_people_do_and_what_fails_is_told() {
    let (world, bus) = (World::new(), Arc::new(Bus::default()));
    let process = process(&world, &bus).sweeping();
    process.register("id: p\nstates:\n  - {id: w, type: wait, duration: 1h, next: f}\n  - {id: f, type: agent, agent: x, task: fail oops}\n").await;
    process.register("id: first\nstates:\n  - {id: ok, type: approval, message: ok?}\n").await;
    let run = process.start("p").await;
    pass(1).await;
    process.runtime.pause(&run, None).await.unwrap();
    process.runtime.resume(&run, None).await.unwrap();
    assert_eq!(
        bus.heard(),
        ["/start: WAITING_TIMER", "/status/2: WAITING_TIMER → PAUSED", "/status/3: PAUSED → WAITING_TIMER"]
    );
    pass(7200).await;
    assert_eq!(bus.heard(), ["/end/0: RUNNING → FAILED (oops)"]);
    process.runtime.redrive(&run, None).await.unwrap();
    pass(60).await;
    assert_eq!(bus.heard(), ["/status/7: FAILED → RUNNING", "/end/1: RUNNING → FAILED (oops)"]);
    // What an HTTP request ends or asks by itself, nobody else comes to tell; and once it is told, nobody need come.
    let run = process.start("first").await;
    pass(1).await;
    assert_eq!(bus.heard(), ["/start: WAITING_APPROVAL", "ok asks"]);
    process.runtime.cancel(&run, None, None).await.unwrap();
    assert_eq!(bus.heard(), ["ok: Withdrawn", "/end/0: WAITING_APPROVAL → CANCELLED (cancelled)"]);
    assert_eq!(world.due().await, []);
    pass(3600).await;
    assert_eq!(bus.heard(), [""; 0]);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_answer_holds_up_no_run_and_is_told_later() {
    let (world, bus) = (World::new(), Arc::new(Bus::default()));
    let process = process(&world, &bus).sweeping();
    process.register(ASKS).await;
    bus.down.store(true, Ordering::Relaxed);
    let (first, second) = (process.start("w").await, process.start("w").await);
    pass(1).await;
    approve(&process, &world, &first).await;
    pass(1).await;
    let both = (status(&world, &first).await, status(&world, &second).await);
    assert_eq!(both, (RunStatus::Completed, RunStatus::WaitingApproval));
    pass(600).await;
    // The sweeper asks once a minute at most, however many there are to tell; and less and less often.
    let asked = *bus.asked.lock();
    assert!(asked <= 10, "{asked} requests in vain");
    assert_eq!(world.store.run(&second).await.unwrap().unwrap().stuck, None);
    bus.down.store(false, Ordering::Relaxed);
    pass(3600).await;
    let mut heard = bus.heard();
    heard.sort();
    assert_eq!(heard, ["/end/0: COMPLETED", "ok asks"], "the rest was news once");
    // That of the approval's own deadline is left.
    assert_eq!(world.due().await.len(), 1);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_again_tells_again() {
    let (world, bus) = (World::new(), Arc::new(Bus::default()));
    let process = process(&world, &bus);
    process.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: one}\n").await;
    let run = process.start("w").await;
    let delivery = |redeliveries| Delivery {
        scope: ScopeKey::root(run.clone()),
        queue: Queue::Steps,
        hints: vec![Hint::None],
        redeliveries,
        receipt: "r".into(),
    };
    handlers::step(&process.runtime, &delivery(0), None).await.unwrap();
    assert_eq!(bus.heard(), ["/start: RUNNING", "/end/0: RUNNING → COMPLETED"]);
    handlers::step(&process.runtime, &delivery(0), None).await.unwrap();
    assert_eq!(bus.heard(), [""; 0]);
    handlers::step(&process.runtime, &delivery(1), None).await.unwrap();
    assert_eq!(bus.heard(), ["/end/0: COMPLETED"]);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_never_answers_holds_up_no_deadline_and_no_parent() {
    let (world, bus) = (World::new(), Arc::new(Bus::default()));
    let process = process(&world, &bus).sweeping();
    process
        .register("id: asks\nstates:\n  - {id: ok, type: approval, message: ok?, timeoutSeconds: 7200}\n")
        .await;
    process.register("id: calls\nstates:\n  - {id: c, type: workflow, workflow: asks}\n").await;
    bus.down.store(true, Ordering::Relaxed);
    let (alone, parent) = (process.start("asks").await, process.start("calls").await);
    pass(7000).await;
    assert_eq!(status(&world, &alone).await, RunStatus::WaitingApproval);
    pass(600).await;
    let over = (status(&world, &alone).await, status(&world, &parent).await);
    assert_eq!(over, (RunStatus::TimedOut, RunStatus::Failed), "some minutes after the deadline");
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_text_of_a_run_is_told_without_it() {
    let (world, bus) = (World::new(), Arc::new(Bus::default()));
    let process = process(&world, &bus).sweeping();
    process.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: \"fail card:4111\"}\n").await;
    process.start("w").await;
    pass(1).await;
    let heard = bus.heard();
    assert_eq!(heard.last().unwrap(), "/end/0: RUNNING → FAILED (custom)", "{heard:?}");
    process.shut_down().await;
}
