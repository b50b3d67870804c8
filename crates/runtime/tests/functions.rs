//! What a home of short-lived invocations needs, in virtual time: doorbells that are held, batches, time that ends, schedules
//! without a process that stays, runs that end elsewhere.

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
use engine::Event;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use expression::Value;
use parking_lot::Mutex;
use stepwell_runtime::Ports;
use stepwell_runtime::Runtime;
use stepwell_runtime::StartRequest;
use stepwell_runtime::handlers;
use stepwell_runtime::memory;
use stepwell_runtime::memory::Fault;
use stepwell_runtime::memory::Faulty;
use stepwell_runtime::ports::Catalog;
use stepwell_runtime::ports::Clock as _;
use stepwell_runtime::ports::DefinitionKind;
use stepwell_runtime::ports::Delivery;
use stepwell_runtime::ports::Doorbell;
use stepwell_runtime::ports::Hint;
use stepwell_runtime::ports::Journal;
use stepwell_runtime::ports::PageRequest;
use stepwell_runtime::ports::Queue;
use stepwell_runtime::ports::Ring;
use stepwell_runtime::ports::RunFilter;
use stepwell_runtime::ports::RunStatus;
use stepwell_runtime::ports::StoreError;

/// A doorbell of the world's that says when it was asked for more time.
struct Patient {
    own: Arc<memory::Doorbell>,
    world: Arc<World>,
    extended: Mutex<Vec<(jiff::Timestamp, usize, Duration)>>,
}

#[async_trait]
impl Doorbell for Patient {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        self.own.ring(rings).await
    }

    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        self.own.receive(queue, max).await
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        self.own.acknowledge(delivery).await
    }

    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
        self.extended.lock().push((self.world.clock.now(), deliveries.len(), by));
        self.own.extend(deliveries, by).await
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        self.own.retry(delivery, after).await
    }
}

/// A process that shares the world's store, whose calls to it fail by this rule.
fn faulty(world: &World, rule: impl Fn(u64, &'static str) -> Fault + Send + Sync + 'static) -> Process {
    let (ports, doorbell) = world.ports();
    let faulty = Faulty::new(world.store.clone(), rule);
    let ports = Ports {
        catalog: Arc::new(faulty.and(world.store.clone() as Arc<dyn Catalog>)),
        journal: Arc::new(faulty.and(world.store.clone() as Arc<dyn Journal>)),
        ..ports
    };
    Process::new(Runtime::new(ports, world.options(false)), doorbell)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Answers the next doorbell of `steps` in an invocation of so many seconds; how long that took.
async fn invoke(world: &World, process: &Process, seconds: u64) -> i64 {
    let delivery = process.doorbell.receive(Queue::Steps, 1).await.unwrap().remove(0);
    let begun = world.clock.now();
    handlers::step(&process.runtime, &delivery, Some(Duration::from_secs(seconds))).await.unwrap();
    process.doorbell.acknowledge(delivery).await.unwrap();
    world.clock.now().duration_since(begun).as_secs()
}

async fn runs(process: &Process) -> usize {
    let page = PageRequest { limit: 1000, cursor: None };
    process.runtime.runs(&RunFilter::default(), &page).await.unwrap().items.len()
}

#[tokio::test(start_paused = true)]
async fn a_doorbell_is_held_while_it_is_answered() {
    let world = Arc::new(World::new());
    let (ports, own) = world.ports();
    let patient = Arc::new(Patient { own: own.clone(), world: world.clone(), extended: Mutex::default() });
    let ports = Ports { doorbell: patient.clone(), ..ports };
    let process = Process::new(Runtime::new(ports, world.options(false)), own).serving();
    process.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 100s'}\n").await;
    let begun = world.clock.now();
    process.start("w").await;
    pass(1000).await;
    let extended = patient.extended.lock().clone();
    let times: Vec<_> = extended.iter().map(|(at, ..)| at.duration_since(begun).as_secs()).collect();
    assert_eq!(times, [30, 60, 90], "each lease, and not once it is answered");
    assert!(extended.iter().all(|(_, count, by)| (*count, *by) == (1, Duration::from_mins(1))));
    process.shut_down().await;
}

/// The process that forked tells the parent of its branch's end by what it remembers of it, and finds that another was first.
#[tokio::test(start_paused = true)]
async fn an_end_that_meets_a_conflict_is_told_again() {
    let world = World::new();
    let (one, other) = (world.peer(), world.peer());
    let branch = |name: &str| {
        format!("      - {{name: {name}, states: [{{id: {name}, type: agent, agent: x, task: hi}}]}}\n")
    };
    let branches = branch("a") + &branch("b");
    one.register(&format!("id: w\nstates:\n  - id: p\n    type: parallel\n    branches:\n{branches}")).await;
    let run = one.start("w").await;
    let root = one.doorbell.receive(Queue::Resume, 1).await.unwrap().remove(0);
    handlers::resume(&one.runtime, &root, Some(Duration::from_mins(1))).await.unwrap();
    for process in [&other, &one] {
        let delivery = one.doorbell.receive(Queue::Steps, 1).await.unwrap().remove(0);
        handlers::step(&process.runtime, &delivery, Some(Duration::from_mins(1))).await.unwrap();
        one.doorbell.acknowledge(delivery).await.unwrap();
    }
    assert_eq!(one.runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
}

/// Each of many children would fight with all others for the parent's next record.
#[tokio::test(start_paused = true)]
async fn of_many_children_the_ends_are_left_at_the_parents_doorbell() {
    let world = World::new();
    let process = world.peer();
    let items: Vec<String> = (0..40).map(|item| item.to_string()).collect();
    let items = items.join(", ");
    process
        .register(&format!(
            "id: w\nstates:\n  - {{id: list, type: inject, data: {{items: [{items}]}}, next: each}}\n  - {{id: each, type: foreach, itemsPath: steps.list.items, maxConcurrency: 40, iterator: {{agent: x}}}}\n"
        ))
        .await;
    let run = process.start("w").await;
    for _ in 0..2 {
        let rung = process.doorbell.receive(Queue::Resume, 1).await.unwrap().remove(0);
        handlers::resume(&process.runtime, &rung, Some(Duration::from_mins(1))).await.unwrap();
        process.doorbell.acknowledge(rung).await.unwrap();
        while process.doorbell.waiting(Queue::Steps) > 0 {
            invoke(&world, &process, 60).await;
        }
    }
    assert_eq!(process.runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
    assert_eq!(world.agents.calls().len(), 40);
    assert!(world.records(&run, "/").await <= 12, "the first few have a record each, all others one");
}

#[tokio::test(start_paused = true)]
async fn doorbells_of_one_scope_are_one_visit() {
    let world = World::new();
    let process = world.peer();
    let delivery = |run: &str, hint, receipt: &str| Delivery {
        scope: ScopeKey::root(RunId::new(run)),
        queue: Queue::Resume,
        hints: vec![hint],
        redeliveries: 0,
        receipt: receipt.into(),
    };
    let batch = vec![
        delivery("a", Hint::ChildEnded(1), "1"),
        delivery("b", Hint::None, "2"),
        delivery("a", Hint::ChildEnded(2), "3"),
        delivery("a", Hint::ChildEnded(1), "4"),
    ];
    let answered = handlers::resume_all(&process.runtime, batch, Some(Duration::from_mins(1))).await;
    let groups: Vec<Vec<&str>> =
        answered.iter().map(|(group, _)| group.iter().map(|delivery| &*delivery.receipt).collect()).collect();
    assert_eq!(groups, [vec!["1", "3", "4"], vec!["2"]]);
    assert!(answered.iter().all(|(_, result)| result.is_ok()), "nobody's doorbell is answered by looking");
}

/// What a process remembers of a parent may be its fork before this one.
#[tokio::test(start_paused = true)]
async fn an_end_is_told_to_a_parent_that_has_gone_on_elsewhere() {
    let world = World::new();
    let (one, two) = (world.peer(), world.peer());
    let branch = |name: &str| {
        format!("{{name: {name}, states: [{{id: {name}, type: agent, agent: x, task: ok, end: true}}]}}")
    };
    let fork = |id: &str, branches: [&str; 2], then: &str| {
        let branches = branches.map(branch).join(", ");
        format!("  - {{id: {id}, type: parallel, branches: [{branches}], {then}}}\n")
    };
    let first = "  - {id: first, type: agent, agent: x, next: fan}\n";
    let (fan, more) = (fork("fan", ["a", "b"], "next: more"), fork("more", ["c", "d"], "end: true"));
    one.register(&format!("id: w\nstates:\n{first}{fan}{more}")).await;
    let run = one.start("w").await;
    let visits =
        [(&one, "/"), (&one, "/fan#1/a"), (&two, "/fan#1/b"), (&one, "/more#1/c"), (&two, "/more#1/d")];
    for (process, path) in visits {
        let scope = ScopeKey::new(run.clone(), ScopePath::from_stored(path));
        let receipt = "".into();
        let bell = Delivery { scope, queue: Queue::Steps, hints: Vec::new(), redeliveries: 0, receipt };
        handlers::step(&process.runtime, &bell, Some(Duration::from_mins(15))).await.unwrap();
    }
    assert_eq!(one.runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_step_begins_inline_only_where_its_own_time_is_left() {
    let world = World::new();
    let process = world.peer();
    process
        .register(
            "id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 10s', next: b}\n  - {id: b, type: agent, agent: x, task: 'sleep 1s', timeoutSeconds: 30, next: c}\n  - {id: c, type: agent, agent: x, task: 'sleep 44s', timeoutSeconds: 45, next: d}\n  - {id: d, type: agent, agent: x, task: done}\n",
        )
        .await;
    let run = process.start("w").await;
    assert_eq!(invoke(&world, &process, 60).await, 11, "30 s are left for b, but not 45 for c");
    assert_eq!(world.agents.calls().len(), 2);
    assert_eq!(invoke(&world, &process, 60).await, 44, "c has an invocation of its own, and d has none left");
    assert_eq!(invoke(&world, &process, 60).await, 0);
    let view = process.runtime.get(&run).await.unwrap();
    assert_eq!(view.summary.status, RunStatus::Completed, "{:?}", view.summary.error);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_cut_off_has_not_timed_out() {
    let world = World::new();
    let slow = Arc::new(AtomicBool::new(true));
    let rule = slow.clone();
    // The store is so slow once that most of an invocation is over when its step begins.
    let process = faulty(&world, move |_, name| match name {
        "load" if rule.swap(false, Ordering::SeqCst) => Fault::Late(Duration::from_secs(20)),
        _ => Fault::None,
    });
    process
        .register(
            "id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 40s', timeoutSeconds: 60, end: true}\n",
        )
        .await;
    let starter = world.peer();
    let run = starter.start("w").await;
    let ring = Ring {
        queue: Queue::Steps,
        scope: ScopeKey::root(run.clone()),
        after: Duration::ZERO,
        hint: Hint::None,
    };
    process.doorbell.ring(vec![ring]).await.unwrap();
    assert_eq!(invoke(&world, &process, 60).await, 50);
    let begun = world.clock.now();
    assert_eq!(invoke(&world, &process, 60).await, 40, "with the whole time it ends");
    assert_eq!(world.clock.now().duration_since(begun).as_secs(), 70, "after its worker's lease");
    assert_eq!(process.runtime.get(&run).await.unwrap().summary.status, RunStatus::Completed);
    let calls = world.agents.of("a");
    assert_eq!(calls.iter().map(|call| (call.attempt, call.epoch)).collect::<Vec<_>>(), [(1, 1), (1, 2)]);
    assert_eq!(calls[0].key, calls[1].key, "the same attempt, once more");
    let failed =
        world.events(&run).await.into_iter().any(|(_, event)| matches!(event, Event::StepFailed { .. }));
    assert!(!failed, "nothing counts as its failure");
}

#[tokio::test(start_paused = true)]
async fn patience_with_a_store_ends_with_the_invocation() {
    let world = World::new();
    let down = Arc::new(AtomicBool::new(false));
    let rule = down.clone();
    let process = faulty(&world, move |_, name| {
        if name == "append" && rule.load(Ordering::SeqCst) { Fault::Before } else { Fault::None }
    });
    process.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: hm}\n").await;
    process.start("w").await;
    let delivery = process.doorbell.receive(Queue::Steps, 1).await.unwrap().remove(0);
    down.store(true, Ordering::SeqCst);
    for (remaining, most) in [(6, 1), (60, 8)] {
        let begun = world.clock.now();
        let remaining = Some(Duration::from_secs(remaining));
        handlers::step(&process.runtime, &delivery, remaining).await.unwrap_err();
        let took = world.clock.now().duration_since(begun).as_secs();
        assert!(took <= most, "{took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_an_end_elsewhere() {
    let world = World::new();
    let (waiter, worker) = (world.peer(), world.peer().sweeping());
    waiter.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 20s'}\n").await;
    let begun = world.clock.now();
    let request = StartRequest::new("w", Value::object());
    let elsewhere = async {
        pass(1).await;
        let run =
            world.store.runs(&RunFilter::default(), &PageRequest { limit: 1, cursor: None }).await.unwrap();
        let scope = ScopeKey::root(run.items[0].run.clone());
        let ring = Ring { queue: Queue::Steps, scope, after: Duration::ZERO, hint: Hint::None };
        worker.doorbell.ring(vec![ring]).await.unwrap();
    };
    let (waited, ()) =
        futures::join!(waiter.runtime.start_and_wait(request, Duration::from_mins(10)), elsewhere);
    assert_eq!(waited.unwrap().1.expect("it ended").summary.status, RunStatus::Completed);
    assert!(world.clock.now().duration_since(begun).as_secs() <= 23, "within a second or so of its end");
    let run = waiter.start("w").await;
    let begun = world.clock.now();
    assert!(waiter.runtime.wait(&run, Duration::from_secs(3)).await.unwrap().is_none());
    assert_eq!(world.clock.now().duration_since(begun).as_secs(), 3, "and no longer than it was to");
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_stuck_run_that_goes_on_elsewhere_is_no_longer_stuck() {
    let world = World::new();
    let down = Arc::new(AtomicBool::new(true));
    let rule = down.clone();
    let (broken, other) = (
        faulty(&world, move |_, name| {
            if name == "load" && rule.load(Ordering::SeqCst) { Fault::Before } else { Fault::None }
        }),
        world.peer(),
    );
    other.register("id: w\nstates:\n  - {id: s, type: signal, signal: go, end: true}\n").await;
    let run = other.start("w").await;
    let delivery = Delivery {
        scope: ScopeKey::root(run.clone()),
        queue: Queue::Resume,
        hints: vec![Hint::None],
        redeliveries: 100,
        receipt: "1".into(),
    };
    handlers::resume(&broken.runtime, &delivery, None).await.unwrap_err();
    assert_eq!(world.store.run(&run).await.unwrap().unwrap().stuck.as_deref(), Some("NO_PROGRESS"));
    handlers::resume(&other.runtime, &delivery, None).await.unwrap();
    assert_eq!(world.store.run(&run).await.unwrap().unwrap().stuck, None);
}

// Schedules without a process that stays.

const EACH_TEN: &str = "id: w\ntriggers:\n  - {type: schedule, cron: '*/10 * * * *'MISSED}\nstates:\n  - {id: a, type: agent, agent: x, task: done}\n";
const WINDOW: Duration = Duration::from_mins(3);

#[tokio::test(start_paused = true)]
async fn sweeps_of_many_processes_start_one_run_a_tick() {
    let world = World::new();
    let processes = [world.peer(), world.peer()];
    processes[0].register(&EACH_TEN.replace("MISSED", "")).await;
    for minute in 0..60 {
        // Some are late, some fail, some are processes that have never looked.
        for process in processes.iter().filter(|_| minute % 3 != 1) {
            handlers::tick(&process.runtime, WINDOW).await.unwrap();
        }
        handlers::tick(&world.peer().runtime, WINDOW).await.unwrap();
        pass(60).await;
    }
    assert_eq!(runs(&processes[0]).await, 5, "09:10 to 09:50; what ticked before it was there is no tick");
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_are_skipped_or_caught_up_with() {
    for (policy, expected) in [("", 1), (", missed: skip", 1), (", missed: catchUp", 12)] {
        let world = World::new();
        world.peer().register(&EACH_TEN.replace("MISSED", policy)).await;
        // Nothing looks for two hours, until a minute after the last tick.
        pass(2 * 3600 + 60).await;
        assert_eq!(
            handlers::tick(&world.peer().runtime, WINDOW).await.unwrap().started,
            expected,
            "{policy}"
        );
        assert_eq!(handlers::tick(&world.peer().runtime, WINDOW).await.unwrap().started, 0, "once");
        let process = world.peer();
        let page = PageRequest { limit: 99, cursor: None };
        let found = process.runtime.runs(&RunFilter::default(), &page).await.unwrap().items;
        assert_eq!(found.len(), expected);
        // For ever would be too long: a day, and a hundred at most.
        pass(7 * 24 * 3600).await;
        let late = handlers::tick(&process.runtime, WINDOW).await.unwrap().started;
        assert_eq!(late, if expected == 1 { 1 } else { 101 }, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_version_loses_no_tick_of_its_schedule() {
    let world = World::new();
    let process = world.peer();
    process.register(&EACH_TEN.replace("MISSED", "")).await;
    pass(610).await;
    // Ten seconds ago it ticked; nobody has looked yet.
    let next = format!("version: '2'\n{}", EACH_TEN.replace("MISSED", "").replace("done", "other"));
    process.register(&next).await;
    let other = next.replace("id: w", "id: v");
    process.register(&other).await;
    assert_eq!(handlers::tick(&process.runtime, WINDOW).await.unwrap().started, 1, "w's, and none of v's");
}

#[tokio::test(start_paused = true)]
async fn a_look_reads_one_list_and_a_start_that_failed_is_tried_again() {
    let world = World::new();
    let (calls, down) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (log, rule) = (calls.clone(), down.clone());
    let process = faulty(&world, move |_, name| {
        log.lock().push(name);
        if name == "append" && rule.load(Ordering::SeqCst) { Fault::Before } else { Fault::None }
    });
    for number in 0..20 {
        let source = EACH_TEN.replace("MISSED", "").replace("id: w", &format!("id: w{number}"));
        process.register(&source).await;
    }
    handlers::tick(&process.runtime, WINDOW).await.unwrap();
    pass(60).await;
    calls.lock().clear();
    handlers::tick(&process.runtime, WINDOW).await.unwrap();
    assert_eq!(*calls.lock(), ["definitions"]);
    pass(540).await;
    down.store(true, Ordering::SeqCst);
    let ticked = handlers::tick(&process.runtime, WINDOW).await.unwrap();
    assert_eq!((ticked.started, ticked.failed), (0, 20));
    down.store(false, Ordering::SeqCst);
    assert_eq!(handlers::tick(&process.runtime, WINDOW).await.unwrap().started, 20);
    let listed =
        process.runtime.definitions(DefinitionKind::Workflow, &PageRequest { limit: 99, cursor: None });
    assert_eq!(listed.await.unwrap().items.len(), 20);
}
