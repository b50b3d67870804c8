//! What others got wrong, and what was once wrong here: promises that take more than one process, or a look inside.
//! Those that a run alone can show are cases of `tests/conformance/peers`.

// They are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::default_trait_access
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::Process;
use common::World;
use engine::Event;
use engine::RunId;
use jiff::Timestamp;
use parking_lot::Mutex;
use stepwell_runtime::Options;
use stepwell_runtime::Ports;
use stepwell_runtime::RunView;
use stepwell_runtime::Runtime;
use stepwell_runtime::StartRequest;
use stepwell_runtime::handlers;
use stepwell_runtime::memory;
use stepwell_runtime::memory::Fault;
use stepwell_runtime::memory::Faulty;
use stepwell_runtime::ports::Catalog;
use stepwell_runtime::ports::Clock as _;
use stepwell_runtime::ports::Delivery;
use stepwell_runtime::ports::Doorbell;
use stepwell_runtime::ports::Hint;
use stepwell_runtime::ports::Journal;
use stepwell_runtime::ports::Queue;
use stepwell_runtime::ports::Ring;
use stepwell_runtime::ports::RunStatus;
use stepwell_runtime::ports::StoreError;

const DAY: Duration = Duration::from_hours(24);

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn end(process: &Process, run: &RunId) -> RunView {
    process.runtime.wait(run, DAY).await.unwrap().expect("the run ends within a day")
}

async fn status(process: &Process, run: &RunId) -> RunStatus {
    process.runtime.get(run).await.unwrap().summary.status
}

/// A process whose store and doorbells fail by this rule.
fn faulty(
    world: &World,
    options: Options,
    doorbell: Arc<dyn Doorbell>,
    rule: impl Fn(u64, &'static str) -> Fault + Send + Sync + 'static,
) -> (Process, Faulty<memory::Store>) {
    let (ports, unused) = world.ports();
    let faulty = Faulty::new(world.store.clone(), rule);
    let ports = Ports {
        catalog: Arc::new(faulty.and(world.store.clone() as Arc<dyn Catalog>)),
        journal: Arc::new(faulty.and(world.store.clone() as Arc<dyn Journal>)),
        doorbell: Arc::new(faulty.and(doorbell)),
        ..ports
    };
    (Process::new(Runtime::new(ports, options), unused), faulty)
}

// A message acknowledged is one whose effects are stored.

const ACKNOWLEDGED: &[&str] = &[
    r#"
id: sequence
states:
  - {id: a, type: agent, agent: x, task: one, next: b}
  - {id: b, type: agent, agent: x, task: "flaky 2", retry: {maxAttempts: 3, backoffSeconds: 5}, next: c}
  - {id: c, type: agent, agent: x, task: "sleep 3s"}
"#,
    r#"
id: branches
states:
  - id: both
    type: parallel
    branches:
      - {name: one, states: [{id: a, type: agent, agent: x, task: "sleep 1s", next: b}, {id: b, type: agent, agent: x, task: two}]}
      - {name: two, states: [{id: c, type: foreach, itemsPath: workflow.input.items, maxConcurrency: 2, iterator: {states: [{id: d, type: agent, agent: x, task: "sleep {{ item }}s"}]}}]}
    next: e
  - {id: e, type: agent, agent: x, task: four}
"#,
    "
id: child
states:
  - {id: a, type: agent, agent: x, task: done}
",
    "
id: parent
states:
  - {id: sub, type: workflow, workflow: child, next: z}
  - {id: z, type: agent, agent: x, task: end}
",
];

/// The process dies at any call, and nothing is left but its store and the messages that it did not acknowledge: no sweep, no
/// look at all runs at the start. Guards against engines that acknowledge first and store then.
#[tokio::test(start_paused = true)]
async fn a_message_acknowledged_is_one_whose_effects_are_stored() {
    // The sweep would find again what was lost.
    let no_sweep = |name: &'static str| if name == "due" { Some(Fault::Before) } else { None };
    for source in ACKNOWLEDGED {
        let id = source.trim().lines().next().unwrap().trim_start_matches("id: ");
        for fault in [Fault::DieBefore, Fault::DieAfter] {
            for number in 0.. {
                let world = World::new();
                let post = Arc::new(Post::new(&world));
                let (registrar, _) = faulty(&world, world.options(true), post.clone(), |_, _| Fault::None);
                for source in ACKNOWLEDGED {
                    registrar.register(source).await;
                }
                let request = StartRequest::new(id, common::json(r#"{"items": [1, 2, 3]}"#));
                let run = registrar.runtime.start(request).await.unwrap().run;
                let rule = move |call: u64, name: &'static str| match call.cmp(&number) {
                    std::cmp::Ordering::Less => no_sweep(name).unwrap_or(Fault::None),
                    std::cmp::Ordering::Equal => fault,
                    std::cmp::Ordering::Greater => Fault::DieBefore,
                };
                let (process, calls) = faulty(&world, world.options(true), post.clone(), rule);
                let process = process.sweeping();
                pass(60).await;
                let died = calls.calls() > number;
                process.kill().await;
                post.deliver_again().await;
                let rule = move |_, name: &'static str| no_sweep(name).unwrap_or(Fault::None);
                let (process, _) = faulty(&world, world.options(true), post.clone(), rule);
                let process = process.sweeping();
                pass(60).await;
                let summary = world.store.run(&run).await.unwrap().unwrap();
                assert_eq!(summary.status, RunStatus::Completed, "{id}, {fault:?} at call {number}");
                process.kill().await;
                if !died {
                    break;
                }
            }
        }
    }
}

/// A queue that outlives the processes that read it: what was rung and not acknowledged rings again.
struct Post {
    clock: Arc<memory::VirtualClock>,
    bell: Mutex<Arc<memory::Doorbell>>,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    at: Timestamp,
    ring: Ring,
    out: bool,
    redeliveries: u32,
}

impl Post {
    fn new(world: &World) -> Self {
        let bell = Arc::new(memory::Doorbell::new(world.clock.clone()));
        Self { clock: world.clock.clone(), bell: Mutex::new(bell), kept: Mutex::default() }
    }

    fn bell(&self) -> Arc<memory::Doorbell> {
        self.bell.lock().clone()
    }

    /// Nobody reads any more; what comes now finds everything again.
    async fn deliver_again(&self) {
        let bell = Arc::new(memory::Doorbell::new(self.clock.clone()));
        let now = self.clock.now();
        let rings = self
            .kept
            .lock()
            .iter_mut()
            .map(|kept| {
                kept.redeliveries += u32::from(std::mem::take(&mut kept.out));
                Ring {
                    after: Duration::try_from(kept.at.duration_since(now)).unwrap_or_default(),
                    ..kept.ring.clone()
                }
            })
            .collect();
        bell.ring(rings).await.unwrap();
        *self.bell.lock() = bell;
    }
}

#[async_trait]
impl Doorbell for Post {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.kept.lock().extend(rings.iter().map(|ring| Kept {
            at: now.checked_add(ring.after).unwrap(),
            ring: ring.clone(),
            out: false,
            redeliveries: 0,
        }));
        self.bell().ring(rings).await
    }

    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries = self.bell().receive(queue, max).await?;
        let now = self.clock.now();
        for kept in self.kept.lock().iter_mut().filter(|kept| kept.at <= now) {
            if let Some(delivery) = deliveries.iter_mut().find(|delivery| is_of(delivery, kept)) {
                delivery.redeliveries = delivery.redeliveries.max(kept.redeliveries);
                kept.out = true;
            }
        }
        Ok(deliveries)
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        self.kept.lock().retain(|kept| !(kept.out && is_of(&delivery, kept)));
        self.bell().acknowledge(delivery).await
    }

    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
        self.bell().extend(deliveries, by).await
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        self.bell().retry(delivery, after).await
    }
}

fn is_of(delivery: &Delivery, kept: &Kept) -> bool {
    (delivery.queue, &delivery.scope) == (kept.ring.queue, &kept.ring.scope)
}

// Several processes.

/// Two processes look at a run again and again while one of them performs a step that takes twenty leases.
#[tokio::test(start_paused = true)]
async fn an_agent_step_longer_than_the_lease_runs_once() {
    let world = World::new();
    let first = world.peer();
    first.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 10m', next: b}\n  - {id: b, type: agent, agent: x, task: 'sleep 10m'}\n").await;
    let first = first.serving();
    let run = first.start("w").await;
    let second = world.peer().serving();
    for _ in 0..60 {
        pass(20).await;
        // A doorbell that is delivered twice, to another process.
        let ring = Ring {
            queue: Queue::Steps,
            scope: engine::ScopeKey::root(run.clone()),
            after: Duration::ZERO,
            hint: Hint::None,
        };
        second.doorbell.ring(vec![ring]).await.unwrap();
    }
    let view = end(&first, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed);
    let calls = world.agents.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls.iter().all(|call| (call.attempt, call.epoch) == (1, 1)), "{calls:?}");
    let took = view.summary.ended_at.unwrap().duration_since(view.summary.started_at).as_secs();
    assert_eq!(took, 1200);
    first.shut_down().await;
    second.shut_down().await;
}

/// A doorbell that comes twice, to a process that did not make the fork, wakes nobody else: or each would wake all children,
/// whose doorbells find nothing to do either, and tell the parent again. Only who may have missed something rings them.
#[tokio::test(start_paused = true)]
async fn a_doorbell_that_comes_twice_rings_for_nobody() {
    let world = World::new();
    let first = world.peer();
    let branch = |name: &str| format!("{{name: {name}, states: [{{id: {name}, type: wait, duration: 1h}}]}}");
    let branches = [branch("a"), branch("b")].join(", ");
    first.register(&format!("id: w\nstates:\n  - {{id: p, type: parallel, branches: [{branches}]}}\n")).await;
    let first = first.serving();
    let run = first.start("w").await;
    pass(5).await;
    let rung = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counts = rung.clone();
    let rule = move |_, name: &'static str| {
        counts.fetch_add(u64::from(name == "ring"), std::sync::atomic::Ordering::Relaxed);
        Fault::None
    };
    let (second, _) = faulty(&world, world.options(false), first.doorbell.clone(), rule);
    for (hint, rings) in [(Hint::None, 0), (Hint::None, 0), (Hint::Missed, 1), (Hint::None, 0)] {
        let scope = engine::ScopeKey::root(run.clone());
        let delivery = Delivery {
            scope,
            queue: Queue::Resume,
            hints: vec![hint.clone()],
            redeliveries: 0,
            receipt: "".into(),
        };
        handlers::resume(&second.runtime, &delivery, None).await.unwrap();
        assert_eq!(rung.swap(0, std::sync::atomic::Ordering::Relaxed), rings, "{hint:?}");
    }
    first.shut_down().await;
}

/// One process performs, another cancels; before the first has noticed, its step answers.
#[tokio::test(start_paused = true)]
async fn a_late_result_of_a_cancelled_run_changes_nothing() {
    for states in [
        "  - {id: a, type: agent, agent: x, task: 'sleep 8s', next: b}\n  - {id: b, type: agent, agent: x, task: more}\n",
        "  - {id: p, type: parallel, branches: [{name: one, states: [{id: a, type: agent, agent: x, task: 'sleep 8s'}]}], next: b}\n  - {id: b, type: agent, agent: x, task: more}\n",
    ] {
        let world = World::new();
        let first = world.peer();
        first.register(&format!("id: w\nstates:\n{states}")).await;
        let first = first.serving();
        let run = first.start("w").await;
        pass(5).await;
        let second = world.peer().serving();
        second.runtime.cancel(&run, Some("user:a".into()), None).await.unwrap();
        let view = end(&second, &run).await;
        assert_eq!(view.summary.status, RunStatus::Cancelled);
        let before = world.events(&run).await;
        assert_eq!(*world.agents.running.lock(), 1, "nobody has told it");
        pass(60).await;
        assert_eq!(*world.agents.dropped.lock(), 0, "it was not stopped: it has answered");
        assert_eq!(world.events(&run).await, before);
        assert_eq!((status(&first, &run).await, world.agents.calls().len()), (RunStatus::Cancelled, 1));
        first.shut_down().await;
        second.shut_down().await;
    }
}

// Parents and children.

const FORK: &str = "
id: fork
states:
  - id: both
    type: parallel
    branches:
      - {name: one, states: [{id: a, type: agent, agent: x, task: one}]}
      - {name: two, states: [{id: b, type: wait, duration: 100s}]}
";

/// Children are launched, and nobody has looked at them yet. They are born by the pause or the cancel.
#[tokio::test(start_paused = true)]
async fn an_unborn_child_begins_with_the_clocks_handed_down() {
    for cancel in [false, true] {
        let world = World::new();
        let registrar = world.process();
        registrar.register(FORK).await;
        let run = registrar.start("fork").await;
        let events = world.events(&run).await;
        assert!(events.iter().any(|(_, event)| matches!(event, Event::ChildrenLaunched { upto: 2, .. })));
        assert!(events.iter().all(|(scope, _)| scope == "/"), "the children are unborn");

        let process = world.process();
        if cancel {
            process.runtime.cancel(&run, None, None).await.unwrap();
        } else {
            process.runtime.pause(&run, None).await.unwrap();
        }
        let process = process.serving();
        pass(1000).await;
        assert_eq!(world.agents.calls(), [], "nothing begins");
        if cancel {
            assert_eq!(status(&process, &run).await, RunStatus::Cancelled);
        } else {
            assert_eq!(status(&process, &run).await, RunStatus::Paused);
            process.runtime.resume(&run, None).await.unwrap();
            let view = end(&process, &run).await;
            let took = view.summary.ended_at.unwrap().duration_since(view.summary.started_at).as_secs();
            assert_eq!((view.summary.status, took), (RunStatus::Completed, 1000 + 100));
        }
        for path in ["/both#1/one", "/both#1/two"] {
            let begun: Vec<_> =
                world.events(&run).await.into_iter().filter(|(scope, _)| scope == path).collect();
            let told = |event: &Event| matches!(event, Event::Paused { .. } | Event::CancelRequested { .. });
            assert!(
                matches!(&begun[..], [(_, Event::ScopeStarted(_)), (_, next), ..] if told(next)),
                "{begun:?}"
            );
        }
        process.shut_down().await;
    }
}

// The sweeper.

/// Two scopes are due, and the first one's journal cannot be read just now.
#[tokio::test(start_paused = true)]
async fn one_unreadable_row_does_not_stop_a_sweep() {
    let world = World::new();
    let registrar = world.process();
    registrar.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: hm}\n").await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(registrar.start("w").await);
    }
    let reads = Mutex::new(0);
    let rule = move |_: u64, name: &'static str| {
        let mut reads = reads.lock();
        *reads += u32::from(name == "load");
        if name == "load" && *reads == 1 { Fault::Before } else { Fault::None }
    };
    let doorbell = Arc::new(memory::Doorbell::new(world.clock.clone()));
    let (process, _) = faulty(&world, world.options(true), doorbell.clone(), rule);
    let before = world.due().await;
    assert_eq!(before.len(), 3);
    pass(3600).await;
    handlers::sweep(&process.runtime, None).await.expect_err("it says so");
    let after = world.due().await;
    assert_eq!(doorbell.waiting(Queue::Steps), 2, "the others are rung");
    assert_eq!(after.iter().filter(|row| before.contains(row)).count(), 1, "its entry stays");
    // The next sweep finds it.
    handlers::sweep(&process.runtime, None).await.unwrap();
    assert_eq!(doorbell.waiting(Queue::Steps), 3);
}

/// A branch's worker dies with its doorbells, and the one that was delivered twice was acknowledged by a process that met the
/// live lease. The branch has no due entry of its own, and its parent's is looked at ever more rarely, in the end each hour.
#[tokio::test(start_paused = true)]
async fn who_acknowledges_on_a_live_lease_sees_that_its_end_is_looked_at() {
    for lives in [5, 3 * 3600 + 5] {
        let world = World::new();
        let first = world.peer();
        first.register("id: w\nstates:\n  - {id: p, type: parallel, branches: [{name: one, states: [{id: a, type: agent, agent: x, task: 'sleep 4h'}]}]}\n").await;
        let first = first.serving();
        let run = first.start("w").await;
        pass(lives).await;
        let second = world.peer();
        let branch = engine::ScopeKey::new(run, engine::ScopePath::from_stored("/p#1/one"));
        let ring = Ring { queue: Queue::Steps, scope: branch, after: Duration::ZERO, hint: Hint::None };
        second.doorbell.ring(vec![ring]).await.unwrap();
        let delivery = second.doorbell.receive(Queue::Steps, 1).await.unwrap().remove(0);
        handlers::step(&second.runtime, &delivery, None).await.unwrap();
        second.doorbell.acknowledge(delivery).await.unwrap();
        assert_eq!(world.agents.calls().len(), 1, "its worker lives");
        first.kill().await;
        // A lease and a sweep later.
        let third = world.peer().sweeping();
        pass(30 + 60 + 5).await;
        let calls = world.agents.calls();
        assert_eq!(calls.len(), 2, "after {lives} s: nobody has looked at it");
        assert_eq!((&calls[0].key, calls[1].epoch), (&calls[1].key, 2));
        third.kill().await;
    }
}

/// A fork whose doorbells are all lost is looked at again and again, less and less often, but at its deadline.
#[tokio::test(start_paused = true)]
async fn a_look_is_never_put_off_past_a_deadline() {
    let world = World::new();
    let registrar = world.process();
    registrar
        .register("id: w\nstates:\n  - {id: both, type: parallel, timeoutSeconds: 50m, branches: [{name: one, states: [{id: a, type: signal, signal: never}]}]}\n")
        .await;
    let process = registrar.serving();
    let run = process.start("w").await;
    pass(1).await;
    process.kill().await;
    // Whoever sweeps rings where nobody answers.
    let sweeper = world.process();
    let begun = world.clock.now();
    for _ in 0..49 {
        handlers::sweep(&sweeper.runtime, None).await.unwrap();
        let due = world.due().await;
        let parent = due.iter().find(|row| row.scope.path.is_root()).expect("the fork is looked at again");
        let from_start = parent.at.duration_since(begun).as_secs();
        assert!(from_start < 50 * 60, "the next look is after {from_start} s");
        pass(60).await;
    }
    // Rung once more before it, and answered, it ends in time.
    let process = sweeper.sweeping();
    let view = end(&process, &run).await;
    let took = view.summary.ended_at.unwrap().duration_since(view.summary.started_at).as_secs();
    assert_eq!((view.summary.status, took), (RunStatus::Failed, 50 * 60));
    process.shut_down().await;
}

/// Its worker is dead, and nobody may take the step over before it is resumed, which may be in weeks.
#[tokio::test(start_paused = true)]
async fn a_paused_run_whose_worker_died_is_not_stuck() {
    for exclusive in [true, false] {
        let world = World::new();
        let process = |world: &World| if exclusive { world.process() } else { world.peer() };
        let first = process(&world);
        first.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 10m'}\n").await;
        let first = first.serving();
        let run = first.start("w").await;
        pass(60).await;
        first.runtime.pause(&run, None).await.unwrap();
        first.kill().await;
        let second = process(&world).serving();
        pass(14 * 24 * 3600).await;
        let summary = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!(summary.stuck, None);
        assert_eq!(world.due().await, [], "nobody looks at it again and again");
        assert_eq!(summary.status, RunStatus::Paused);
        assert_eq!(world.agents.calls().len(), 1, "nobody takes it over");
        second.runtime.resume(&run, None).await.unwrap();
        let view = end(&second, &run).await;
        assert_eq!(view.summary.status, RunStatus::Completed);
        assert_eq!(world.agents.calls().len(), 2);
        second.shut_down().await;
    }
}
