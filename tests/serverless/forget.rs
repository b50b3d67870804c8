//! Runs that are over, forgotten by sweepers that die, sleep and meet each other at any of their requests.

use std::sync::Arc;

use dynamodb::MemoryBlobs;
use dynamodb::Store;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use futures::StreamExt as _;
use jiff::SignedDuration;
use jiff::Timestamp;
use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::Lease;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use runtime::ports::WaiterRow;

use crate::servers;
use crate::wire::Fate;
use crate::wire::Wire;

/// Long after everything has ended.
const LATER: Timestamp = Timestamp::MAX;
/// Runs looked at at once.
const AT_ONCE: usize = 8;

/// A table with runs in it.
#[derive(Clone)]
struct Table {
    name: String,
    blobs: MemoryBlobs,
}

impl Table {
    async fn new() -> Self {
        Self { name: servers::table().await, blobs: MemoryBlobs::default() }
    }

    /// What one process sees of it.
    fn store(&self, wire: &Wire) -> Store {
        servers::store_in(&self.name, wire.http(), Arc::new(self.blobs.clone()))
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn record(seq: u64, body: &[u8]) -> Encoded {
    Encoded { seq, at: at(1), append_id: "a".into(), body: body.into(), hash: engine::hash(body) }
}

pub(crate) fn summary(run: &RunId, status: RunStatus) -> RunSummary {
    RunSummary {
        run: run.clone(),
        workflow: "w".into(),
        version: "1".into(),
        status,
        starter: None,
        started_at: at(1),
        updated_at: at(2),
        ended_at: status.is_terminal().then(|| at(2)),
        error: None,
        stuck: None,
        labels: [].into(),
        revision: 0,
    }
}

/// The journals of a run, and how long they are.
fn journals(run: &RunId) -> [(ScopeKey, u64); 3] {
    [("/", 3), ("/a#1/x", 28), ("/a#1/x/b#1[0]", 1)]
        .map(|(path, length)| (ScopeKey::new(run.clone(), ScopePath::from_stored(path)), length))
}

/// A run that is over, with something of everything.
async fn make(store: &Store, run: &RunId) {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
    for (scope, length) in journals(run) {
        for seq in 1..=length {
            let extras = match seq {
                1 => vec![
                    Extra::Due(at(9)),
                    Extra::ForkContext(Arc::from(&b"{}"[..])),
                    Extra::Waiter(WaiterRow { scope: scope.clone(), signal: "s".into() }),
                ],
                _ => Vec::new(),
            };
            let body = if seq == 2 { &noise[..] } else { b"{}" };
            store.append(&scope, &record(seq, body), extras).await.unwrap();
        }
        store.put_snapshot(&scope, 1, Arc::from(&b"{}"[..])).await.unwrap();
        store.renew(&scope, &Lease { worker: "w".into(), claim: 1, until: at(3) }).await.unwrap();
    }
    let inbox = ScopeKey::new(run.clone(), ScopePath::inbox());
    let over = Extra::Summary(Box::new(summary(run, RunStatus::Completed)));
    store.append(&inbox, &record(1, b"{}"), vec![over]).await.unwrap();
}

/// How many of the run's journals are whole; none is in parts.
async fn whole(store: &Store, run: &RunId) -> usize {
    let mut whole = 0;
    for (scope, length) in journals(run) {
        let loaded = store.load(&scope).await.unwrap();
        let read = store.read(&scope, 0, 1000).await.unwrap();
        if loaded.snapshot.is_none() {
            assert!(loaded.records.is_empty() && read.is_empty(), "{scope} is in parts: {}", read.len());
        } else {
            let numbers: Vec<u64> = read.iter().map(|record| record.seq).collect();
            assert_eq!(numbers, (1..=length).collect::<Vec<_>>(), "{scope} is in parts");
            assert_eq!(loaded.records.len() as u64, length - 1, "{scope} is in parts");
            whole += 1;
        }
    }
    whole
}

/// Forgets a run to its end.
async fn forget(store: &Store, run: &RunId) {
    while store.forget(run).await.unwrap() {}
}

/// How many requests it takes.
async fn requests(table: &Table) -> usize {
    let (wire, run) = (Wire::default(), RunId::new("counted"));
    let store = table.store(&wire);
    make(&store, &run).await;
    let before = wire.sent();
    forget(&store, &run).await;
    wire.sent() - before
}

#[test]
fn a_sweeper_may_die_at_any_request() {
    servers::online(async {
        let table = Table::new().await;
        let requests = requests(&table).await;
        let fates = (0..requests).flat_map(|at| [(at, Fate::DiesBefore), (at, Fate::DiesAfter)]);
        let cases = fates.map(|(at, fate)| {
            let table = &table;
            async move {
                let (wire, run) = (Wire::default(), RunId::new(format!("{fate:?}-{at}")));
                let dying = table.store(&wire);
                make(&dying, &run).await;
                wire.at(at, fate);
                tokio::select! {
                    () = forget(&dying, &run) => panic!("request {at} was never made"),
                    () = wire.reached() => {}
                }
                let next = table.store(&Wire::default());
                let root = ScopeKey::root(run.clone());
                if next.load(&root).await.unwrap().records.is_empty() {
                    whole(&next, &run).await;
                } else {
                    // Whoever can still be found is whole.
                    assert_eq!(whole(&next, &run).await, 3);
                    assert_eq!(next.waiters(&run, "s").await.unwrap().len(), 3);
                    assert!(next.lease(&root).await.unwrap().is_some());
                    assert!(next.fork_context(&root, 1).await.unwrap().is_some());
                }
                let listed = next.ended_before(LATER, 10_000).await.unwrap().contains(&run);
                assert_eq!(listed, next.run(&run).await.unwrap().is_some(), "a sweep finds what is left");
                forget(&next, &run).await;
                assert_eq!(next.run(&run).await.unwrap(), None);
            }
        });
        futures::stream::iter(cases).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        servers::assert_empty(&table.name).await;
        assert!(table.blobs.is_empty(), "{} objects are left", table.blobs.len());
    });
}

#[test]
fn a_sweeper_may_sleep_at_any_request_while_another_goes_on() {
    servers::online(async {
        let table = Table::new().await;
        let requests = requests(&table).await;
        let fates = (0..requests).flat_map(|at| [(at, Fate::Sleeps), (at, Fate::SleepsAndDies)]);
        let cases = fates.map(|(at, fate)| {
            let table = &table;
            async move {
                let (wire, run) = (Wire::default(), RunId::new(format!("{fate:?}-{at}")));
                let sleeping = table.store(&wire);
                make(&sleeping, &run).await;
                wire.at(at, fate);
                let other = async {
                    wire.reached().await;
                    forget(&table.store(&Wire::default()), &run).await;
                    wire.wake();
                    if fate == Fate::Sleeps {
                        std::future::pending::<()>().await;
                    }
                    wire.reached().await;
                };
                tokio::select! {
                    () = forget(&sleeping, &run) => {}
                    () = other => {}
                }
            }
        });
        futures::stream::iter(cases).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        servers::assert_empty(&table.name).await;
    });
}

#[test]
fn a_run_that_is_redriven_at_that_moment_lives() {
    servers::online(async {
        let table = Table::new().await;
        // Until its root is closed.
        for at in 0..2 {
            let (wire, run) = (Wire::default(), RunId::new(format!("redriven-{at}")));
            let sleeping = table.store(&wire);
            make(&sleeping, &run).await;
            wire.at(at, Fate::Sleeps);
            let person = async {
                wire.reached().await;
                let running = Extra::Summary(Box::new(summary(&run, RunStatus::Running)));
                let root = ScopeKey::root(run.clone());
                let store = table.store(&Wire::default());
                store.append(&root, &record(4, b"{}"), vec![running]).await.unwrap();
                wire.wake();
            };
            let (more, ()) = futures::join!(sleeping.forget(&run), person);
            assert!(!more.unwrap());
            let store = table.store(&Wire::default());
            assert_eq!(store.load(&ScopeKey::root(run.clone())).await.unwrap().records.len(), 3);
            assert_eq!(store.waiters(&run, "s").await.unwrap().len(), 3);
            assert_eq!(store.run(&run).await.unwrap().unwrap().status, RunStatus::Running);
        }
    });
}

#[test]
fn a_sweep_asks_as_much_whoever_lives() {
    servers::online(async {
        let table = Table::new().await;
        let wire = Wire::default();
        let store = table.store(&wire);
        let begin = async |count: usize, status: RunStatus| {
            let runs = (0..count).map(|number| {
                let (store, run) = (&store, RunId::new(format!("{status}-{number}")));
                async move {
                    let summary = Extra::Summary(Box::new(summary(&run, status)));
                    store.append(&ScopeKey::root(run), &record(1, b"{}"), vec![summary]).await.unwrap();
                }
            });
            futures::stream::iter(runs).buffer_unordered(32).collect::<Vec<()>>().await;
        };
        let ask = async || {
            let before = wire.sent();
            let ended = store.ended_before(LATER, 100).await.unwrap().len();
            (ended, wire.sent() - before)
        };
        begin(5, RunStatus::Failed).await;
        let without = ask().await;
        for status in [RunStatus::Running, RunStatus::WaitingTimer] {
            begin(1_000, status).await;
        }
        assert_eq!(ask().await, without);
        assert_eq!(without, (5, 16), "runs, and requests: one for each partition of what is over");
    });
}
