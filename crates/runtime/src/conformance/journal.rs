//! The suite of [`Journal`].

use std::sync::Arc;

use engine::RunId;
use engine::ScopePath;
use futures::future::join_all;

use super::at;
use super::bytes;
use super::record;
use super::scope;
use super::summary;
use crate::ports::AppendError;
use crate::ports::Catalog;
use crate::ports::Extra;
use crate::ports::Journal;
use crate::ports::Lease;
use crate::ports::RunStatus;
use crate::ports::WaiterRow;

/// Runs every case; `store` must be empty.
pub async fn journal_suite<S: Journal + Catalog>(store: Arc<S>) {
    records_are_kept_as_they_are(&*store).await;
    a_number_is_given_once(&*store).await;
    of_many_writers_one_wins(&store).await;
    extras_come_with_their_record_or_not_at_all(&*store).await;
    a_snapshot_shortens_the_way_and_is_never_needed(&*store).await;
    scopes_with_any_name_are_apart(&*store).await;
    waiters_and_leases_are_kept(&*store).await;
}

async fn records_are_kept_as_they_are<S: Journal + Catalog>(store: &S) {
    let root = scope("kept", "/");
    assert!(store.load(&root).await.unwrap().records.is_empty());
    assert_eq!(store.head(&root).await.unwrap(), None);
    let large = "x".repeat(5 << 20);
    let records = [
        record(1, "a", b"{\"one\": 1}"),
        record(2, "b", large.as_bytes()),
        record(3, "c", "{\"ü\": \"\\u0000\"}".as_bytes()),
    ];
    for one in &records {
        store.append(&root, one, Vec::new()).await.unwrap();
    }
    assert_eq!(store.load(&root).await.unwrap().records, records);
    assert_eq!(store.head(&root).await.unwrap().as_ref(), records.last());
    assert_eq!(store.read(&root, 1, 1).await.unwrap(), records[1..2]);
    assert_eq!(store.read(&root, 2, 10).await.unwrap(), records[2..]);
    assert!(store.read(&root, 3, 10).await.unwrap().is_empty());
}

async fn a_number_is_given_once<S: Journal + Catalog>(store: &S) {
    let root = scope("once", "/");
    let first = record(1, "mine", b"{}");
    store.append(&root, &first, Vec::new()).await.unwrap();
    match store.append(&root, &record(1, "yours", b"{\"other\": 1}"), Vec::new()).await {
        Err(AppendError::Conflict(existing)) => assert_eq!(*existing, first, "the loser sees who won"),
        other => panic!("a taken number was given again: {other:?}"),
    }
    match store.append(&root, &first, Vec::new()).await {
        Err(AppendError::Conflict(existing)) => {
            assert_eq!(existing.append_id, first.append_id, "a writer knows its own");
        }
        other => panic!("a record was appended twice: {other:?}"),
    }
    let gap = store.append(&root, &record(3, "gap", b"{}"), Vec::new()).await;
    assert!(gap.is_err(), "a record without the one before it");
    assert_eq!(store.load(&root).await.unwrap().records, [first]);
}

async fn of_many_writers_one_wins<S: Journal + Catalog>(store: &Arc<S>) {
    let root = scope("race", "/");
    for seq in 1..=20 {
        let writers = (0..8).map(|writer| {
            let (store, root) = (store.clone(), root.clone());
            async move {
                let record =
                    record(seq, &format!("{seq}-{writer}"), format!("{{\"by\": {writer}}}").as_bytes());
                let due = vec![Extra::Due(at(seq * 100 + writer))];
                store.append(&root, &record, due).await.is_ok().then_some((record, writer))
            }
        });
        let won: Vec<_> = join_all(writers).await.into_iter().flatten().collect();
        let [(record, writer)] = &won[..] else { panic!("{} writers won record {seq}", won.len()) };
        assert_eq!(store.head(&root).await.unwrap().as_ref(), Some(record));
        let due = store.due(at(1_000_000), None, 100).await.unwrap();
        let mine: Vec<_> = due.iter().filter(|row| row.scope == root).map(|row| (row.at, row.seq)).collect();
        assert_eq!(mine, [(at(seq * 100 + writer), seq)], "the loser's extras are nowhere");
    }
}

async fn extras_come_with_their_record_or_not_at_all<S: Journal + Catalog>(store: &S) {
    let root = scope("extras", "/");
    let run = RunId::new("extras");
    let extras = || {
        vec![
            Extra::Due(at(7)),
            Extra::Summary(Box::new(summary("extras", "w", RunStatus::Running, 1))),
            Extra::ForkContext(bytes("{\"shared\": true}")),
            Extra::Waiter(WaiterRow { scope: root.clone(), signal: "go".into() }),
        ]
    };
    store.append(&root, &record(1, "a", b"{}"), Vec::new()).await.unwrap();
    store.append(&root, &record(1, "b", b"{}"), extras()).await.unwrap_err();
    assert_eq!(store.run(&run).await.unwrap(), None);
    assert_eq!(store.fork_context(&root, 1).await.unwrap(), None);
    assert!(store.waiters(&run, "go").await.unwrap().is_empty());
    store.append(&root, &record(2, "c", b"{}"), extras()).await.unwrap();
    let stored = store.run(&run).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.revision), (RunStatus::Running, 1));
    assert_eq!(store.fork_context(&root, 2).await.unwrap(), Some(bytes("{\"shared\": true}")));
    assert_eq!(store.fork_context(&root, 1).await.unwrap(), None);
    assert_eq!(
        store.waiters(&run, "go").await.unwrap(),
        [WaiterRow { scope: root.clone(), signal: "go".into() }]
    );
    let ended = vec![
        Extra::NoDue,
        Extra::WaiterGone,
        Extra::Summary(Box::new(summary("extras", "w", RunStatus::Completed, 1))),
    ];
    store.append(&root, &record(3, "d", b"{}"), ended).await.unwrap();
    let stored = store.run(&run).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.revision), (RunStatus::Completed, 2));
    assert!(store.waiters(&run, "go").await.unwrap().is_empty());
}

async fn a_snapshot_shortens_the_way_and_is_never_needed<S: Journal + Catalog>(store: &S) {
    let root = scope("snapshot", "/");
    for seq in 1..=5 {
        store.append(&root, &record(seq, &seq.to_string(), b"{}"), Vec::new()).await.unwrap();
    }
    store.put_snapshot(&root, 3, bytes("three")).await.unwrap();
    let loaded = store.load(&root).await.unwrap();
    assert_eq!(loaded.snapshot, Some((3, bytes("three"))));
    assert_eq!(loaded.records.iter().map(|record| record.seq).collect::<Vec<_>>(), [4, 5]);
    store.put_snapshot(&root, 2, bytes("two")).await.unwrap();
    assert_eq!(
        store.load(&root).await.unwrap().snapshot,
        Some((3, bytes("three"))),
        "an older one does not replace a newer"
    );
    assert_eq!(store.read(&root, 0, 10).await.unwrap().len(), 5, "the journal stays whole");
}

async fn scopes_with_any_name_are_apart<S: Journal + Catalog>(store: &S) {
    let run = RunId::new("names/ä #1");
    let root = ScopePath::root();
    let names = ["a", "A", "a b", "a/b", "é", "[0]", "'; DROP TABLE records; --", "%", "_"];
    let mut paths = vec![root.clone(), ScopePath::inbox()];
    paths.extend(names.map(|name| root.child(name, 1, &engine::ChildKey::Branch(name.into()))));
    for (index, path) in paths.iter().enumerate() {
        let key = engine::ScopeKey::new(run.clone(), path.clone());
        store
            .append(&key, &record(1, &index.to_string(), index.to_string().as_bytes()), Vec::new())
            .await
            .unwrap();
    }
    for (index, path) in paths.iter().enumerate() {
        let key = engine::ScopeKey::new(run.clone(), path.clone());
        assert_eq!(&*store.head(&key).await.unwrap().unwrap().body, index.to_string().as_bytes(), "{path}");
    }
    paths.sort();
    let mut listed: Vec<ScopePath> = Vec::new();
    loop {
        let page = store.scopes(&run, listed.last(), 4).await.unwrap();
        let Some(_) = page.last() else { break };
        listed.extend(page);
    }
    assert_eq!(listed, paths);
    assert!(
        store.scopes(&RunId::new("names"), None, 10).await.unwrap().is_empty(),
        "no run is another's prefix"
    );
}

async fn waiters_and_leases_are_kept<S: Journal + Catalog>(store: &S) {
    let run = RunId::new("leases");
    let root = scope("leases", "/");
    store.append(&root, &record(1, "a", b"{}"), Vec::new()).await.unwrap();
    assert_eq!(store.lease(&root).await.unwrap(), None);
    let lease = |worker: &str, claim, until| Lease { worker: worker.into(), claim, until: at(until) };
    store.renew(&root, &lease("one", 4, 30)).await.unwrap();
    store.renew(&root, &lease("one", 4, 60)).await.unwrap();
    assert_eq!(store.lease(&root).await.unwrap(), Some(lease("one", 4, 60)));
    store.renew(&root, &lease("two", 9, 70)).await.unwrap();
    store.renew(&root, &lease("one", 4, 90)).await.unwrap();
    assert_eq!(
        store.lease(&root).await.unwrap(),
        Some(lease("two", 9, 70)),
        "a superseded worker takes nothing back"
    );
    let waiter = |path: &str, signal: &str| WaiterRow { scope: scope("leases", path), signal: signal.into() };
    for (path, signal) in [("/x#1/a", "go"), ("/x#1/b", "go"), ("/x#1/c", "stop")] {
        let extras = vec![Extra::Waiter(waiter(path, signal))];
        store.append(&scope("leases", path), &record(1, path, b"{}"), extras).await.unwrap();
    }
    let mut waiting = store.waiters(&run, "go").await.unwrap();
    waiting.sort_by(|left, right| left.scope.cmp(&right.scope));
    assert_eq!(waiting, [waiter("/x#1/a", "go"), waiter("/x#1/b", "go")]);
}
