//! The suite of [`Catalog`].

use std::sync::Arc;

use engine::ApprovalRequested;
use engine::RunId;

use super::at;
use super::bytes;
use super::record;
use super::scope;
use super::summary;
use crate::ports::ApprovalFilter;
use crate::ports::ApprovalRow;
use crate::ports::Catalog;
use crate::ports::Definition;
use crate::ports::DefinitionKind;
use crate::ports::DueMove;
use crate::ports::DueRow;
use crate::ports::Extra;
use crate::ports::Journal;
use crate::ports::Lease;
use crate::ports::Page;
use crate::ports::PageRequest;
use crate::ports::Registered;
use crate::ports::RunFilter;
use crate::ports::RunStatus;
use crate::ports::WaiterRow;

/// Runs every case; `store` must be empty.
pub async fn catalog_suite<S: Journal + Catalog>(store: Arc<S>) {
    a_version_never_changes(&*store).await;
    definitions_are_listed_and_disabled(&*store).await;
    runs_are_listed_newest_first_and_pages_hold_still(&*store).await;
    a_projection_never_overtakes(&*store).await;
    approvals_are_asked_and_settled(&*store).await;
    due_entries_are_moved_only_as_they_were_read(&*store).await;
    a_run_that_is_over_is_forgotten_whole(&*store).await;
}

fn definition(id: &str, version: Option<&str>, hash: &str) -> Definition {
    Definition {
        kind: DefinitionKind::Workflow,
        id: id.into(),
        version: version.map(Into::into),
        hash: hash.into(),
        source: format!("id: {id} # {hash}").into(),
        file: Some("a.workflow.yaml".into()),
        registered_at: at(1),
        disabled: false,
    }
}

fn page(limit: usize, cursor: Option<String>) -> PageRequest {
    PageRequest { limit, cursor }
}

async fn a_version_never_changes<S: Catalog>(store: &S) {
    let kind = DefinitionKind::Workflow;
    let created = store.register(definition("v", Some("1.10"), "h1"), false).await.unwrap();
    assert!(
        matches!(&created, Registered::Created(known) if known.version.as_deref() == Some("1.10")),
        "{created:?}"
    );
    let again = store.register(definition("v", Some("1.10"), "h1"), false).await.unwrap();
    assert!(matches!(again, Registered::Unchanged(_)), "{again:?}");
    let taken = store.register(definition("v", Some("1.10"), "h2"), false).await.unwrap();
    assert!(matches!(&taken, Registered::VersionTaken(known) if &*known.hash == "h1"), "{taken:?}");
    let made = store.register(definition("v", Some("1.10"), "h2"), true).await.unwrap();
    assert!(
        matches!(&made, Registered::Created(known) if known.version.as_deref() == Some("1.10+2")),
        "{made:?}"
    );
    let hash = async |version| {
        store.definition(kind, "v", version).await.unwrap().map(|known| known.hash.to_string())
    };
    assert_eq!(hash(None).await.as_deref(), Some("h2"), "the last registered is the active one");
    assert_eq!(hash(Some("1.10")).await.as_deref(), Some("h1"));
    assert_eq!(hash(Some("1.1")).await, None, "versions are text");
    let pinned = store.pinned(kind, "v", "h1").await.unwrap().unwrap();
    assert_eq!(&*pinned.source, "id: v # h1");
    assert_eq!(store.pinned(kind, "v", "h9").await.unwrap(), None);
    store.register(definition("v", Some("1.10"), "h1"), false).await.unwrap();
    assert_eq!(hash(None).await.as_deref(), Some("h1"), "registered again, the old one is active again");

    for (hash, version) in [("n1", "1"), ("n2", "2")] {
        let made = store.register(definition("counted", None, hash), false).await.unwrap();
        assert!(
            matches!(&made, Registered::Created(known) if known.version.as_deref() == Some(version)),
            "{made:?}"
        );
    }
    let same = store.register(definition("counted", None, "n2"), false).await.unwrap();
    assert!(
        matches!(&same, Registered::Unchanged(known) if known.version.as_deref() == Some("2")),
        "{same:?}"
    );
    let versions = store.versions(kind, "counted").await.unwrap();
    assert_eq!(
        versions.iter().map(|known| known.version.as_deref()).collect::<Vec<_>>(),
        [Some("2"), Some("1")]
    );
    assert_eq!(
        store.definition(DefinitionKind::Agent, "counted", None).await.unwrap(),
        None,
        "kinds are apart"
    );
}

async fn definitions_are_listed_and_disabled<S: Catalog>(store: &S) {
    let kind = DefinitionKind::Agent;
    for id in ["c", "a", "b", "d"] {
        store.register(Definition { kind, ..definition(id, None, id) }, false).await.unwrap();
    }
    assert!(store.set_disabled(kind, "b", true).await.unwrap());
    assert!(!store.set_disabled(kind, "z", true).await.unwrap());
    assert_eq!(store.definition(kind, "b", None).await.unwrap(), None, "no new runs");
    assert!(
        store.pinned(kind, "b", "b").await.unwrap().is_some_and(|known| known.disabled),
        "running ones go on"
    );
    let first = store.definitions(kind, &page(2, None)).await.unwrap();
    let second = store.definitions(kind, &page(2, first.next.clone())).await.unwrap();
    let ids =
        |page: &Page<Definition>| page.items.iter().map(|known| known.id.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (ids(&first), ids(&second), second.next),
        (vec!["a".into(), "c".into()], vec!["d".into()], None)
    );
    store.set_disabled(kind, "b", false).await.unwrap();
    assert!(store.definition(kind, "b", None).await.unwrap().is_some());
}

async fn start<S: Journal>(store: &S, run: &str, workflow: &str, status: RunStatus, started: u64) {
    let extras = vec![Extra::Summary(Box::new(summary(run, workflow, status, started)))];
    store.append(&scope(run, "/"), &record(1, run, b"{}"), extras).await.unwrap();
}

async fn runs_are_listed_newest_first_and_pages_hold_still<S: Journal + Catalog>(store: &S) {
    for (index, status) in [RunStatus::Completed, RunStatus::Running, RunStatus::WaitingApproval]
        .iter()
        .cycle()
        .take(9)
        .enumerate()
    {
        // Three share each start time: the id decides among them.
        start(store, &format!("list-{index}"), "listed", *status, 100 + index as u64 / 3).await;
    }
    let filter = RunFilter { workflow: Some("listed".into()), statuses: Vec::new() };
    let first = store.runs(&filter, &page(4, None)).await.unwrap();
    start(store, "list-new", "listed", RunStatus::Running, 500).await;
    let second = store.runs(&filter, &page(4, first.next.clone())).await.unwrap();
    let third = store.runs(&filter, &page(4, second.next.clone())).await.unwrap();
    let listed: Vec<_> =
        first.items.iter().chain(&second.items).chain(&third.items).map(|run| run.run.to_string()).collect();
    assert_eq!(
        listed,
        ["list-8", "list-7", "list-6", "list-5", "list-4", "list-3", "list-2", "list-1", "list-0"]
    );
    assert_eq!(third.next, None);
    let filter = RunFilter {
        workflow: Some("listed".into()),
        statuses: vec![RunStatus::Running, RunStatus::WaitingApproval],
    };
    let open = store.runs(&filter, &page(100, None)).await.unwrap();
    assert_eq!(open.items.len(), 7);
    assert_eq!(open.items[0].labels.get("team").map(String::as_str), Some("sre"));
    let none = RunFilter { workflow: Some("unlisted".into()), statuses: Vec::new() };
    assert!(store.runs(&none, &page(10, None)).await.unwrap().items.is_empty());
}

async fn a_projection_never_overtakes<S: Journal + Catalog>(store: &S) {
    start(store, "project", "w", RunStatus::Running, 1).await;
    let read = store.run(&RunId::new("project")).await.unwrap().unwrap();
    let waiting = crate::ports::RunSummary { status: RunStatus::WaitingTimer, ..read.clone() };
    assert!(store.project(&waiting).await.unwrap());
    assert!(!store.project(&waiting).await.unwrap(), "a revision is used once");
    let read = store.run(&RunId::new("project")).await.unwrap().unwrap();
    assert_eq!((read.status, read.revision), (RunStatus::WaitingTimer, 2));
    let end = vec![Extra::Summary(Box::new(summary("project", "w", RunStatus::Failed, 1)))];
    store.append(&scope("project", "/"), &record(2, "end", b"{}"), end).await.unwrap();
    let ended = store.run(&RunId::new("project")).await.unwrap().unwrap();
    let late = crate::ports::RunSummary { status: RunStatus::Running, ..ended.clone() };
    assert!(!store.project(&late).await.unwrap(), "what is over stays over");
    assert_eq!(store.run(&RunId::new("project")).await.unwrap(), Some(ended));
}

async fn approvals_are_asked_and_settled<S: Journal + Catalog>(store: &S) {
    let row = |run: &str, asked: u64, settled: Option<u64>| ApprovalRow {
        scope: scope(run, "/"),
        workflow: "w".into(),
        state: "gate".into(),
        request: ApprovalRequested {
            id: format!("{run}-{asked}").into(),
            message: "Go?".into(),
            title: None,
            summary: None,
            approvers: vec!["team:sre".into()],
            quorum: 2,
            excluded: None,
            deadline: at(10_000),
        },
        requested_at: at(asked),
        votes: Vec::new(),
        settled_at: settled.map(at),
        decision: None,
    };
    let mut seq = std::collections::HashMap::<String, u64>::new();
    let mut put = async |row: ApprovalRow| {
        let run = row.scope.run.to_string();
        let next = seq.entry(run.clone()).or_insert(0);
        *next += 1;
        let record = record(*next, &format!("{run}-{next}"), b"{}");
        store.append(&scope(&run, "/"), &record, vec![Extra::Approval(Box::new(row))]).await.unwrap();
    };
    put(row("ask-b", 20, None)).await;
    put(row("ask-a", 10, None)).await;
    put(row("ask-a", 30, None)).await;
    let pending = ApprovalFilter { run: None, pending: true };
    let ids =
        |page: Page<ApprovalRow>| page.items.iter().map(|row| row.request.id.to_string()).collect::<Vec<_>>();
    let first = store.approvals(&pending, &page(2, None)).await.unwrap();
    let next = first.next.clone();
    assert_eq!(ids(first), ["ask-a-10", "ask-b-20"], "the oldest first");
    assert_eq!(ids(store.approvals(&pending, &page(2, next)).await.unwrap()), ["ask-a-30"]);
    put(row("ask-b", 20, Some(40))).await;
    assert_eq!(ids(store.approvals(&pending, &page(9, None)).await.unwrap()), ["ask-a-10", "ask-a-30"]);
    let of_run = ApprovalFilter { run: Some(RunId::new("ask-b")), pending: false };
    assert_eq!(
        ids(store.approvals(&of_run, &page(9, None)).await.unwrap()),
        ["ask-b-20"],
        "settled ones stay"
    );
    let found = store.approval(&RunId::new("ask-b"), "ask-b-20").await.unwrap();
    assert_eq!(found, Some(row("ask-b", 20, Some(40))));
    assert_eq!(store.approval(&RunId::new("ask-a"), "ask-b-20").await.unwrap(), None, "another run's");
}

async fn due_entries_are_moved_only_as_they_were_read<S: Journal + Catalog>(store: &S) {
    let far = 5_000_000;
    let mine = |rows: Vec<DueRow>| -> Vec<DueRow> {
        rows.into_iter().filter(|row| row.scope.run.as_str().starts_with("due-")).collect()
    };
    for (run, due) in [("due-c", 3_000_010), ("due-a", 3_000_000), ("due-b", 3_000_000)] {
        store.append(&scope(run, "/"), &record(1, run, b"{}"), vec![Extra::Due(at(due))]).await.unwrap();
    }
    let runs = |rows: &[DueRow]| rows.iter().map(|row| row.scope.run.to_string()).collect::<Vec<_>>();
    let all = mine(store.due(at(far), None, 1_000).await.unwrap());
    assert_eq!(runs(&all), ["due-a", "due-b", "due-c"]);
    let rest = mine(store.due(at(far), Some(&all[0]), 1_000).await.unwrap());
    assert_eq!(runs(&rest), ["due-b", "due-c"]);
    let none = mine(store.due(at(2_999_999), None, 1_000).await.unwrap());
    assert_eq!(runs(&none), Vec::<String>::new());

    // A record in between sets the entry anew: whoever read the old one may not touch it.
    let old = all[0].clone();
    let anew = record(2, "anew", b"{}");
    store.append(&old.scope, &anew, vec![Extra::Due(at(3_000_000))]).await.unwrap();
    store.move_due(vec![DueMove { row: old, to: None, visits: 0 }]).await.unwrap();
    let entry = mine(store.due(at(far), None, 1_000).await.unwrap())[0].clone();
    assert_eq!((entry.seq, entry.visits, entry.at), (2, 0, at(3_000_000)));
    store.move_due(vec![DueMove { row: entry, to: Some(at(3_000_300)), visits: 1 }]).await.unwrap();
    let last = mine(store.due(at(far), None, 1_000).await.unwrap()).pop().unwrap();
    assert_eq!((last.scope.run.as_str(), last.seq, last.visits, last.at), ("due-a", 2, 1, at(3_000_300)));

    store.ensure_due(&last.scope, at(3_000_400), 2).await.unwrap();
    store.ensure_due(&last.scope, at(3_000_200), 1).await.unwrap();
    let kept = mine(store.due(at(far), None, 1_000).await.unwrap()).pop().unwrap();
    assert_eq!(kept, last, "an earlier entry and one of a later record stay");
    store.ensure_due(&last.scope, at(3_000_100), 2).await.unwrap();
    store.ensure_due(&scope("due-d", "/"), at(3_000_500), 1).await.unwrap();
    let rows = mine(store.due(at(far), None, 1_000).await.unwrap());
    assert_eq!(runs(&rows), ["due-b", "due-c", "due-a", "due-d"]);
    let moves = rows.into_iter().map(|row| DueMove { row, to: None, visits: 0 }).collect();
    store.move_due(moves).await.unwrap();
    assert!(mine(store.due(at(far), None, 1_000).await.unwrap()).is_empty());
}

async fn a_run_that_is_over_is_forgotten_whole<S: Journal + Catalog>(store: &S) {
    let (old, young) = (RunId::new("forget/#1"), RunId::new("forget/#2"));
    let scopes = ["/", "/f#1/a", "/f#1/a/g#1/b", "@inbox"];
    let approval = |run: &RunId| ApprovalRow {
        scope: scope(run.as_str(), "/"),
        workflow: "w".into(),
        state: "gate".into(),
        request: ApprovalRequested {
            id: "gate".into(),
            message: "Go?".into(),
            title: None,
            summary: None,
            approvers: Vec::new(),
            quorum: 1,
            excluded: None,
            deadline: at(9_000_000),
        },
        requested_at: at(1),
        votes: Vec::new(),
        settled_at: None,
        decision: None,
    };
    for run in [&old, &young] {
        for path in scopes {
            let key = scope(run.as_str(), path);
            for seq in 1..=60 {
                let mut extras = Vec::new();
                if seq == 1 {
                    extras.push(Extra::Due(at(8_000_000)));
                    extras.push(Extra::ForkContext(bytes("{}")));
                    extras.push(Extra::Waiter(WaiterRow { scope: key.clone(), signal: "go".into() }));
                    extras.push(Extra::Approval(Box::new(approval(run))));
                    extras.push(Extra::Summary(Box::new(summary(
                        run.as_str(),
                        "forget",
                        RunStatus::Running,
                        50,
                    ))));
                }
                store.append(&key, &record(seq, &format!("{path}{seq}"), b"{}"), extras).await.unwrap();
            }
            store.put_snapshot(&key, 50, bytes("fifty")).await.unwrap();
            let lease = Lease { worker: "w".into(), claim: 60, until: at(100) };
            store.renew(&key, &lease).await.unwrap();
        }
    }
    let end = summary(old.as_str(), "forget", RunStatus::Failed, 50);
    let ended = end.ended_at.unwrap();
    let last = record(61, "end", b"{}");
    store.append(&scope(old.as_str(), "/"), &last, vec![Extra::Summary(Box::new(end))]).await.unwrap();

    let later = ended + jiff::SignedDuration::from_nanos(1);
    assert!(!store.ended_before(ended, 1000).await.unwrap().contains(&old), "not before it has ended");
    let over = store.ended_before(later, 1000).await.unwrap();
    assert!(over.contains(&old) && !over.contains(&young), "{over:?}");
    assert_eq!(store.ended_before(later, 1).await.unwrap().len(), 1);
    assert!(!store.forget(&young).await.unwrap(), "it is not over");
    assert!(!store.forget(&RunId::new("forget")).await.unwrap(), "there is none");

    let mut parts = 0;
    while store.forget(&old).await.unwrap() {
        for path in scopes {
            let loaded = store.load(&scope(old.as_str(), path)).await.unwrap();
            let seqs: Vec<_> = loaded.records.iter().map(|record| record.seq).collect();
            let whole: Vec<u64> = (51..=if path == "/" { 61 } else { 60 }).collect();
            assert!(seqs.is_empty() || seqs == whole, "{path} is neither whole nor gone: {seqs:?}");
            assert_eq!(loaded.snapshot.is_some(), !seqs.is_empty(), "{path}");
        }
        let listed = store.run(&old).await.unwrap();
        assert!(listed.is_some_and(|run| run.status == RunStatus::Failed), "its summary goes last");
        parts += 1;
        assert!(parts < 1000, "it never ends");
    }
    let filter = RunFilter { workflow: Some("forget".into()), statuses: Vec::new() };
    for (run, is_there) in [(&old, false), (&young, true)] {
        assert_eq!(store.run(run).await.unwrap().is_some(), is_there, "{run}");
        assert_eq!(store.scopes(run, None, 9).await.unwrap().len(), if is_there { 4 } else { 0 });
        assert_eq!(store.waiters(run, "go").await.unwrap().len(), if is_there { 4 } else { 0 });
        assert_eq!(store.approval(run, "gate").await.unwrap().is_some(), is_there);
        let listed = store.runs(&filter, &page(9, None)).await.unwrap();
        assert_eq!(listed.items.iter().any(|listed| listed.run == *run), is_there);
        let due = store.due(at(8_500_000), None, 1000).await.unwrap();
        assert_eq!(due.iter().filter(|row| row.scope.run == *run).count(), if is_there { 4 } else { 0 });
        for path in scopes {
            let key = scope(run.as_str(), path);
            assert_eq!(store.load(&key).await.unwrap().snapshot.is_some(), is_there, "{key}");
            assert_eq!(store.head(&key).await.unwrap().is_some(), is_there, "{key}");
            assert_eq!(store.read(&key, 0, 1).await.unwrap().len(), usize::from(is_there), "{key}");
            assert_eq!(store.fork_context(&key, 1).await.unwrap().is_some(), is_there, "{key}");
            assert_eq!(store.lease(&key).await.unwrap().is_some(), is_there, "{key}");
        }
    }
    let root = scope(old.as_str(), "/");
    let anew = record(1, "anew", b"{}");
    store.append(&root, &anew, Vec::new()).await.unwrap();
    assert_eq!(store.load(&root).await.unwrap().records, [anew], "its id may be used anew");
}
