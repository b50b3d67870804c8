//! Processes that die, stores that fail, doorbells that get lost: after each, every run ends as it should, nothing whose
//! success was recorded is performed again, and what is performed again keeps its key. (Every call of every kind of workflow
//! is tried by the simulator's sweep.)

// They are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::default_trait_access,
    clippy::format_collect
)]

mod common;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::Process;
use common::World;
use common::json;
use engine::Encoded;
use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use engine::Vote;
use expression::Value;
use stepwell_runtime::Options;
use stepwell_runtime::Ports;
use stepwell_runtime::Runtime;
use stepwell_runtime::SignalRequest;
use stepwell_runtime::StartRequest;
use stepwell_runtime::handlers;
use stepwell_runtime::memory;
use stepwell_runtime::memory::Fault;
use stepwell_runtime::memory::Faulty;
use stepwell_runtime::ports::AppendError;
use stepwell_runtime::ports::ApprovalFilter;
use stepwell_runtime::ports::Catalog;
use stepwell_runtime::ports::Delivery;
use stepwell_runtime::ports::Doorbell;
use stepwell_runtime::ports::Extra;
use stepwell_runtime::ports::Journal;
use stepwell_runtime::ports::Lease;
use stepwell_runtime::ports::Loaded;
use stepwell_runtime::ports::PageRequest;
use stepwell_runtime::ports::Queue;
use stepwell_runtime::ports::RunStatus;
use stepwell_runtime::ports::StoreError;
use stepwell_runtime::ports::WaiterRow;

const DAY: Duration = Duration::from_hours(24);

const WORKFLOWS: &[&str] = &[
    r#"
id: sequence
states:
  - {id: a, type: agent, agent: x, task: one, next: b}
  - {id: b, type: agent, agent: x, task: "flaky 2", retry: {maxAttempts: 3, backoffSeconds: 5}, next: c}
  - {id: c, type: wait, duration: 30s, next: d}
  - {id: d, type: agent, agent: x, task: "sleep 3s"}
"#,
    r#"
id: branches
states:
  - id: both
    type: parallel
    branches:
      - {name: one, states: [{id: a, type: agent, agent: x, task: "sleep 1s", next: b}, {id: b, type: agent, agent: x, task: two}]}
      - {name: two, states: [{id: c, type: wait, duration: 20s, next: d}, {id: d, type: agent, agent: x, task: three}]}
    next: e
  - {id: e, type: agent, agent: x, task: four}
"#,
    r#"
id: items
states:
  - {id: list, type: inject, data: {list: [1, 2, 3, 4, 5]}, next: each}
  - id: each
    type: foreach
    itemsPath: list
    maxConcurrency: 2
    iterator: {states: [{id: a, type: agent, agent: x, task: "sleep {{ item }}s"}]}
    next: z
  - {id: z, type: agent, agent: x, task: end}
"#,
    r#"
id: first
states:
  - id: race
    type: parallel
    join: {mode: any}
    branches:
      - {name: slow, states: [{id: a, type: agent, agent: x, task: "sleep 60s"}]}
      - {name: fast, states: [{id: b, type: agent, agent: x, task: "sleep 2s"}]}
      - {name: never, states: [{id: c, type: wait, duration: 3h}]}
    next: z
  - {id: z, type: agent, agent: x, task: end}
"#,
    r#"
id: child
states:
  - {id: a, type: agent, agent: x, task: "sleep 1s"}
"#,
    r"
id: parent
states:
  - {id: sub, type: workflow, workflow: child, next: z}
  - {id: z, type: agent, agent: x, task: end}
",
];

fn faulty(
    world: &World,
    options: Options,
    rule: impl Fn(u64, &'static str) -> Fault + Send + Sync + 'static,
) -> (Process, Faulty<memory::Store>) {
    let (ports, doorbell) = world.ports();
    let journal = Faulty::new(world.store.clone(), rule);
    let ports = Ports {
        catalog: Arc::new(journal.and(world.store.clone() as Arc<dyn Catalog>)),
        doorbell: Arc::new(journal.and(doorbell.clone() as Arc<dyn Doorbell>)),
        journal: Arc::new(journal.and(world.store.clone() as Arc<dyn Journal>)),
        ..ports
    };
    (Process::new(Runtime::new(ports, options), doorbell), journal)
}

/// What must hold whatever happened.
async fn check(world: &World, what: &str) {
    let mut scopes = Vec::new();
    for run in runs(world).await {
        for path in world.store.scopes(&run, None, 100_000).await.unwrap() {
            scopes.push(ScopeKey::new(run.clone(), path));
        }
    }
    for scope in scopes {
        let records = world.store.read(&scope, 0, 1_000_000).await.unwrap();
        let mut prev = "".into();
        let mut succeeded = BTreeSet::new();
        let mut ends = 0;
        let mut state = String::new();
        for (number, stored) in (1..).zip(records) {
            let record = Record::decode(&stored.body).unwrap();
            assert_eq!((record.seq, &record.prev), (number, &prev), "{what}: {scope} is gapless");
            prev = stored.hash.clone();
            for event in record.events {
                match event {
                    Event::StateEntered { state: entered, visit, .. } => state = format!("{entered}#{visit}"),
                    Event::StepSucceeded { .. } => {
                        assert!(succeeded.insert(state.clone()), "{what}: {scope} {state} twice");
                    }
                    Event::Ended { .. } => ends += 1,
                    _ => {}
                }
            }
        }
        assert!(ends <= 1, "{what}: {scope} ended {ends} times");
    }
    // Every call of one attempt has one key; a key is shared only by what may repeat an effect.
    let mut keys: BTreeMap<(String, String, u32), BTreeSet<String>> = BTreeMap::new();
    for call in world.agents.calls() {
        let run = call.key.split('/').next().unwrap().to_owned();
        keys.entry((format!("{run}{}", call.scope), call.state, call.attempt)).or_default().insert(call.key);
    }
    for (call, keys) in keys {
        assert_eq!(keys.len(), 1, "{what}: {call:?} has one key: {keys:?}");
    }
}

async fn runs(world: &World) -> Vec<RunId> {
    let page = PageRequest { limit: 1000, cursor: None };
    world
        .store
        .runs(&stepwell_runtime::ports::RunFilter::default(), &page)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|summary| summary.run)
        .collect()
}

async fn all_end_well(world: &World, process: &Process, what: &str) {
    for run in runs(world).await {
        // The store may be failing for this call too.
        let view = loop {
            if let Ok(view) = process.runtime.wait(&run, DAY).await {
                break view;
            }
        };
        let Some(view) = view else {
            for event in world.events(&run).await {
                println!("{event:?}");
            }
            panic!(
                "{what}: {run} does not end: {:?}, due {:?}",
                process.runtime.get(&run).await,
                world.due().await
            );
        };
        assert_eq!(view.summary.status, RunStatus::Completed, "{what}: {:?}", view.summary.error);
        let listed = world.store.run(&run).await.unwrap().unwrap();
        assert_eq!((listed.status, listed.stuck), (RunStatus::Completed, None), "{what}");
    }
    check(world, what).await;
}

/// Half of all rings are lost and the store fails now and then: the sweeper finds what is left.
#[tokio::test(start_paused = true)]
async fn lost_doorbells_only_delay() {
    for seed in 0..30_u64 {
        let world = World::new();
        let rule = move |call: u64, name: &'static str| {
            // Well mixed: calls that follow each other at the same distance are not to have the same fate (`SplitMix64`).
            let bits = (call + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed << 32);
            let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let dice = bits ^ (bits >> 31);
            match name {
                "ring" if dice.is_multiple_of(2) => Fault::Lose,
                "append" if dice.is_multiple_of(11) => Fault::After,
                "load" | "head" | "due" | "append" if dice.is_multiple_of(13) => Fault::Before,
                _ => Fault::None,
            }
        };
        let registrar = world.process();
        for source in WORKFLOWS {
            registrar.register(source).await;
        }
        let (process, _) = faulty(&world, world.options(true), rule);
        let process = process.serving();
        for source in WORKFLOWS {
            let id = source.trim().lines().next().unwrap().trim_start_matches("id: ");
            let request = StartRequest { key: Some("k".into()), ..StartRequest::new(id, Value::object()) };
            while process.runtime.start(request.clone()).await.is_err() {}
        }
        all_end_well(&world, &process, &format!("seed {seed}")).await;
        process.shut_down().await;
    }
}

/// Two processes share a store: one dies while it performs, the other takes over when the lease is over, under the same key.
#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_over_under_the_same_key() {
    let world = World::new();
    let first = world.peer();
    first.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 100s'}\n").await;
    let first = first.serving();
    let run = first.start("w").await;
    tokio::time::sleep(Duration::from_secs(65)).await;
    let second = world.peer().serving();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.agents.calls().len(), 1, "the lease is renewed, so nobody takes over");
    first.kill().await;
    let view = second.runtime.wait(&run, DAY).await.unwrap().expect("it is taken over");
    let took = view.summary.ended_at.unwrap().duration_since(view.summary.started_at).as_secs();
    assert!((170..=320).contains(&took), "{took} s");
    let calls = world.agents.calls();
    assert_eq!((calls.len(), calls[0].epoch, calls[1].epoch), (2, 1, 2));
    assert_eq!(calls[0].key, calls[1].key);
    check(&world, "takeover").await;
    second.shut_down().await;
}

/// A claim is stored, but its worker learns of it only when another has taken over and finished: it must not begin.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_overtaken_is_not_performed() {
    let world = World::new();
    let registrar = world.peer();
    registrar.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 1s'}\n").await;
    let run = registrar.start("w").await;
    let rule = |_, name: &'static str| match name {
        "append" => Fault::Late(Duration::from_hours(1)),
        _ => Fault::None,
    };
    let (slow, _) = faulty(&world, world.options(false), rule);
    let delivery = Delivery {
        scope: ScopeKey::root(run.clone()),
        queue: Queue::Steps,
        hints: Vec::new(),
        redeliveries: 0,
        receipt: "".into(),
    };
    let slow = tokio::spawn(async move { handlers::step(&slow.runtime, &delivery, None).await });
    let quick = world.peer().sweeping();
    quick.runtime.wait(&run, DAY).await.unwrap().expect("it is taken over");
    assert!(!slow.is_finished());
    slow.await.unwrap().unwrap();
    let calls = world.agents.calls();
    assert_eq!(
        calls.iter().map(|call| call.epoch).collect::<Vec<_>>(),
        [2],
        "what had succeeded began again"
    );
    quick.shut_down().await;
}

/// An answer meets a record that another process wrote, and then a store that cannot be read: it is not forgotten.
#[tokio::test(start_paused = true)]
async fn an_answer_outlasts_a_conflict_and_a_store_that_fails() {
    let world = World::new();
    let broken = Arc::new(AtomicBool::new(false));
    let rule = {
        let broken = broken.clone();
        move |_, name: &'static str| match name {
            "load" | "head" | "read" if broken.load(Ordering::SeqCst) => Fault::Before,
            _ => Fault::None,
        }
    };
    let (first, _) = faulty(&world, world.options(false), rule);
    first.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 5s'}\n").await;
    let first = first.serving();
    let run = first.start("w").await;
    let second = world.peer();
    tokio::time::sleep(Duration::from_secs(1)).await;
    second.runtime.pause(&run, None).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    broken.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    second.runtime.resume(&run, None).await.unwrap();
    all_end_well(&world, &first, "a store that fails").await;
    assert_eq!(world.agents.calls().len(), 1);
    first.shut_down().await;
}

/// A scope that waits for a signal has no entry, or a late one. What the signal led to, and what was sent before it was waited
/// for, is found all the same when its worker dies and its doorbells are lost.
#[tokio::test(start_paused = true)]
async fn a_signal_is_not_forgotten_with_its_doorbell() {
    let source = |first: &str, limit: &str| {
        format!(
            "id: w\nstates:\n{first}  - {{id: s, type: signal, signal: go{limit}, next: z}}\n  \
             - {{id: z, type: agent, agent: x, task: 'sleep 10s'}}\n"
        )
    };
    let slow = "  - {id: a, type: agent, agent: x, task: 'sleep 5m', next: s}\n";
    let signal = || SignalRequest { id: None, name: "go".into(), payload: Value::object(), by: None };
    for limit in ["", ", timeoutSeconds: 864000"] {
        // It came, and its worker dies while it performs what follows.
        let world = World::new();
        let first = world.peer().sweeping();
        first.register(&source("", limit)).await;
        let run = first.start("w").await;
        tokio::time::sleep(Duration::from_mins(20)).await;
        first.runtime.signal(&run, signal()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        first.kill().await;
        let second = world.peer().sweeping();
        let view = second.runtime.wait(&run, Duration::from_mins(15)).await.unwrap();
        assert!(view.is_some(), "after it came{limit}");
        second.shut_down().await;

        // It was sent long before, and the worker dies as soon as it waits for it.
        let world = World::new();
        let appends = AtomicU64::new(0);
        let rule = move |_, name: &'static str| match name {
            "append" if appends.fetch_add(1, Ordering::SeqCst) == 3 => Fault::DieAfter,
            _ => Fault::None,
        };
        let (first, _) = faulty(&world, world.options(false), rule);
        first.register(&source(slow, limit)).await;
        let first = first.sweeping();
        let run = first.start("w").await;
        first.runtime.signal(&run, signal()).await.unwrap();
        tokio::time::sleep(Duration::from_mins(6)).await;
        assert_eq!(world.records(&run, "/").await, 3, "it waits");
        first.kill().await;
        let second = world.peer().sweeping();
        let view = second.runtime.wait(&run, Duration::from_mins(15)).await.unwrap();
        assert!(view.is_some(), "sent before{limit}");
        second.shut_down().await;

        // It is sent, and whoever was to ring for it dies; the sweeper's own doorbell is lost too.
        let world = World::new();
        let registrar = world.peer();
        registrar.register(&source("", limit)).await;
        let registrar = registrar.sweeping();
        let run = registrar.start("w").await;
        tokio::time::sleep(Duration::from_mins(20)).await;
        registrar.kill().await;
        world.peer().runtime.signal(&run, signal()).await.unwrap();
        let (deaf, _) = faulty(&world, world.options(false), |_, name| match name {
            "ring" => Fault::Lose,
            _ => Fault::None,
        });
        let deaf = deaf.sweeping();
        tokio::time::sleep(Duration::from_mins(5)).await;
        deaf.kill().await;
        let second = world.peer().sweeping();
        let view = second.runtime.wait(&run, Duration::from_mins(15)).await.unwrap();
        assert!(view.is_some(), "rung in vain{limit}");
        second.shut_down().await;
    }
}

/// What was to tell the children of a fork that it no longer needs them dies, and all doorbells with it: the run's own limit,
/// ten days off, is not what it is found by.
#[tokio::test(start_paused = true)]
async fn a_released_fork_is_found_before_the_runs_deadline() {
    let world = World::new();
    let appends = AtomicU64::new(0);
    let (first, _) = faulty(&world, world.options(false), move |_, name| match name {
        "append" if appends.fetch_add(1, Ordering::SeqCst) == 2 => Fault::DieAfter,
        _ => Fault::None,
    });
    first
        .register(
            "id: w\ntimeoutSeconds: 864000\nstates:\n  \
             - {id: both, type: parallel, timeoutSeconds: 60, branches: [{name: a, agent: x, task: 'sleep 1h'}]}\n",
        )
        .await;
    let first = first.sweeping();
    let run = first.start("w").await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert!(
        matches!(world.events(&run).await.last(), Some((path, Event::StepClaimed { .. })) if path != "/")
    );
    assert_eq!(world.records(&run, "/").await, 2, "its children are released");
    first.kill().await;
    let second = world.peer().sweeping();
    let view = second.runtime.wait(&run, Duration::from_mins(15)).await.unwrap();
    assert_eq!(view.expect("it is found").summary.status, RunStatus::Failed);
    second.shut_down().await;
}

/// A summary that could not be written when it changed is written when the sweeper next rings for the run.
#[tokio::test(start_paused = true)]
async fn lists_are_made_good() {
    let world = World::new();
    let broken = Arc::new(AtomicBool::new(true));
    let rule = {
        let broken = broken.clone();
        move |_, name: &'static str| match name {
            "project" if broken.load(Ordering::SeqCst) => Fault::Before,
            _ => Fault::None,
        }
    };
    let (process, _) = faulty(&world, world.options(false), rule);
    process
        .register(
            "id: w\nstates:\n  \
             - {id: both, type: parallel, branches: [{name: ask, states: [{id: q, type: human_approval, message: ok}]}]}\n",
        )
        .await;
    let process = process.sweeping();
    let run = process.start("w").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let listed = async || world.store.run(&run).await.unwrap().unwrap().status;
    assert_eq!(listed().await, RunStatus::Running);
    process.kill().await;
    broken.store(false, Ordering::SeqCst);
    let second = world.peer().sweeping();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(listed().await, RunStatus::WaitingApproval);
    second.shut_down().await;
}

/// States that perform nothing may follow each other for long: whoever is to stop stops, and others have their turn.
#[tokio::test(start_paused = true)]
async fn a_long_way_without_actions_gives_way() {
    let world = World::new();
    let process = world.process();
    process
        .register(
            "
id: endless
states:
  - id: turns
    type: while
    condition: true
    maxIterations: 100000000
    iterator: {states: [{id: nothing, type: inject, data: {a: 1}}]}
",
        )
        .await;
    process.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: one}\n").await;
    let process = process.serving();
    let endless = process.start("endless").await;
    let other = process.start("w").await;
    process.runtime.wait(&other, DAY).await.unwrap().expect("the other ends meanwhile");
    process.shut_down().await;
    let summary = world.store.run(&endless).await.unwrap().unwrap();
    assert_eq!(summary.status, RunStatus::Running);
    let process = world.process();
    process.runtime.cancel(&endless, None, None).await.unwrap();
    let process = process.serving();
    process.runtime.wait(&endless, DAY).await.unwrap().expect("it is cancelled");
    process.shut_down().await;
}

/// Several processes at once, every doorbell of each rung in all: nothing is done twice.
#[tokio::test(start_paused = true)]
async fn many_workers_do_everything_once() {
    let world = World::new();
    let registrar = world.process();
    for source in WORKFLOWS {
        registrar.register(source).await;
    }
    let bell = Arc::new(memory::Doorbell::new(world.clock.clone()));
    let bells: Vec<Arc<memory::Doorbell>> =
        (0..3).map(|_| Arc::new(memory::Doorbell::new(world.clock.clone()))).collect();
    let everywhere = Arc::new(Everywhere(bells.clone()));
    let mut processes = Vec::new();
    for own in &bells {
        let (ports, _) = world.ports();
        let doorbell = Arc::new(Own { all: everywhere.clone(), own: own.clone() });
        let runtime = Runtime::new(Ports { doorbell, ..ports }, world.options(false));
        processes.push(Process::new(runtime, bell.clone()).serving());
    }
    for source in WORKFLOWS {
        let id = source.trim().lines().next().unwrap().trim_start_matches("id: ");
        processes[0].start(id).await;
    }
    all_end_well(&world, &processes[1], "three workers").await;
    let expected: usize = 4 + 4 + 6 + 3 + 1 + 2;
    assert_eq!(world.agents.calls().len(), expected, "{:?}", world.agents.calls());
    for process in processes {
        process.shut_down().await;
    }
}

struct Everywhere(Vec<Arc<memory::Doorbell>>);

struct Own {
    all: Arc<Everywhere>,
    own: Arc<memory::Doorbell>,
}

#[async_trait::async_trait]
impl Doorbell for Own {
    async fn ring(
        &self,
        rings: Vec<stepwell_runtime::ports::Ring>,
    ) -> Result<(), stepwell_runtime::ports::StoreError> {
        for bell in &self.all.0 {
            bell.ring(rings.clone()).await?;
        }
        Ok(())
    }

    async fn receive(
        &self,
        queue: stepwell_runtime::ports::Queue,
        max: usize,
    ) -> Result<Vec<stepwell_runtime::ports::Delivery>, stepwell_runtime::ports::StoreError> {
        self.own.receive(queue, max).await
    }

    async fn acknowledge(
        &self,
        delivery: stepwell_runtime::ports::Delivery,
    ) -> Result<(), stepwell_runtime::ports::StoreError> {
        self.own.acknowledge(delivery).await
    }

    async fn extend(
        &self,
        deliveries: &[stepwell_runtime::ports::Delivery],
        by: Duration,
    ) -> Result<(), stepwell_runtime::ports::StoreError> {
        self.own.extend(deliveries, by).await
    }

    async fn retry(
        &self,
        delivery: stepwell_runtime::ports::Delivery,
        after: Duration,
    ) -> Result<(), stepwell_runtime::ports::StoreError> {
        self.own.retry(delivery, after).await
    }
}

/// People, signals and control around a restart: whatever was stored when the process died has its effect.
#[tokio::test(start_paused = true)]
async fn what_people_did_survives() {
    const ASK: &str = r#"
id: ask
states:
  - {id: q, type: human_approval, message: "?", next: s}
  - {id: s, type: signal, signal: go, next: p}
  - {id: p, type: agent, agent: x, task: end}
"#;
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        for number in 0..200 {
            let what = format!("{fault:?} at call {number}");
            let world = World::new();
            let process = world.process();
            process.register(ASK).await;
            let process = process.serving();
            let run = process.start("ask").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            process.kill().await;
            let id = world
                .store
                .approvals(&ApprovalFilter::default(), &PageRequest { limit: 1, cursor: None })
                .await
                .unwrap()
                .items[0]
                .request
                .id
                .clone();
            let vote = Vote {
                approve: true,
                approver: "user:a".into(),
                teams: Vec::new(),
                comment: None,
                form: None,
            };
            let signal =
                SignalRequest { id: Some("s".into()), name: "go".into(), payload: json("1"), by: None };

            let rule = move |call: u64, _: &'static str| match call.cmp(&number) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => fault,
                std::cmp::Ordering::Greater => Fault::DieBefore,
            };
            let (process, calls) = faulty(&world, world.options(true), rule);
            let process = process.serving();
            let people = async {
                process.runtime.vote(&run, &id, vote.clone()).await.unwrap();
                process.runtime.signal(&run, signal.clone()).await.unwrap();
                process.runtime.pause(&run, None).await.ok();
                process.runtime.resume(&run, None).await.ok();
                process.runtime.wait(&run, DAY).await.unwrap();
            };
            let _ = tokio::time::timeout(Duration::from_mins(5), people).await;
            let died = calls.calls() > number;
            process.kill().await;
            let process = world.process().serving();
            tokio::time::sleep(Duration::from_secs(1)).await;
            // Asked again, as a client would whose connection broke.
            process.runtime.vote(&run, &id, vote).await.unwrap();
            let _ = process.runtime.signal(&run, signal).await;
            let _ = process.runtime.resume(&run, None).await;
            all_end_well(&world, &process, &what).await;
            process.shut_down().await;
            if !died {
                assert!(number > 10, "the whole story was tried");
                break;
            }
        }
    }
}

/// A branch that a person's decision ended, by a process that did not live to tell the parent: the sweeper does, in minutes,
/// however long the parent has waited.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_branch_reaches_a_parent_that_nobody_told() {
    const ASK: &str = r#"
id: ask
states:
  - id: fan
    type: parallel
    branches:
      - {name: a, states: [{id: q, type: human_approval, message: "?", timeoutSeconds: 24h}]}
      - {name: b, states: [{id: w, type: wait, duration: 1s}]}
"#;
    let world = World::new();
    let first = world.peer();
    first.register(ASK).await;
    let first = first.serving();
    let run = first.start("ask").await;
    tokio::time::sleep(Duration::from_mins(50)).await;
    first.kill().await;
    let page = PageRequest { limit: 1, cursor: None };
    let asked = world.store.approvals(&ApprovalFilter::default(), &page).await.unwrap().items;
    let vote =
        Vote { approve: true, approver: "user:a".into(), teams: Vec::new(), comment: None, form: None };
    let rule = |_, name: &'static str| if name == "append" { Fault::DieAfter } else { Fault::None };
    let (dying, _) = faulty(&world, world.options(false), rule);
    let voted = dying.runtime.vote(&run, &asked[0].request.id, vote);
    assert!(tokio::time::timeout(Duration::from_secs(1), voted).await.is_err());
    let next = world.peer().sweeping();
    let view = next.runtime.wait(&run, DAY).await.unwrap().expect("it ends");
    let took = view.summary.ended_at.unwrap().duration_since(view.summary.started_at).as_secs();
    assert!(took <= 55 * 60, "{took} s");
    check(&world, "an untold end").await;
    next.shut_down().await;
}

/// A definition that this engine can no longer read, a journal that was altered: seen as stuck, and retried, never lost.
#[tokio::test(start_paused = true)]
async fn what_cannot_go_on_is_seen_as_stuck() {
    let world = World::new();
    let process = world.process();
    process.register("id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 10s'}\n").await;
    let process = process.serving();
    let run = process.start("w").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    process.kill().await;

    let (ports, doorbell) = world.ports();
    let broken = Arc::new(Broken { store: world.store.clone(), whole: AtomicBool::new(false) });
    let ports = Ports { journal: broken.clone(), ..ports };
    let process = Process::new(Runtime::new(ports, world.options(true)), doorbell).serving();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let summary = world.store.run(&run).await.unwrap().unwrap();
    assert_eq!((summary.status, summary.stuck.as_deref()), (RunStatus::Running, Some("JOURNAL_ALTERED")));
    assert_eq!(process.runtime.get(&run).await.unwrap_err().code(), "JOURNAL_ALTERED");

    // Restored, it goes on by itself.
    broken.whole.store(true, Ordering::SeqCst);
    all_end_well(&world, &process, "restored").await;
    process.shut_down().await;
}

struct Broken {
    store: Arc<memory::Store>,
    whole: AtomicBool,
}

impl Broken {
    fn spoil(&self, mut record: Encoded) -> Encoded {
        if !self.whole.load(Ordering::SeqCst) {
            record.hash = "0".into();
        }
        record
    }
}

#[async_trait::async_trait]
impl Journal for Broken {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        let mut loaded = self.store.load(scope).await?;
        loaded.records = loaded.records.into_iter().map(|record| self.spoil(record)).collect();
        Ok(loaded)
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        self.store.read(scope, after, limit).await
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        self.store.head(scope).await
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        self.store.append(scope, record, extras).await
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        self.store.put_snapshot(scope, seq, body).await
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store.fork_context(scope, seq).await
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        self.store.scopes(run, after, limit).await
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        self.store.waiters(run, name).await
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        self.store.lease(scope).await
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        self.store.renew(scope, lease).await
    }
}
