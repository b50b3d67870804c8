//! Two stores that are asked the same must answer the same.

use std::collections::BTreeSet;

use engine::ApprovalRequested;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::Vote;
use jiff::SignedDuration;
use jiff::Timestamp;

use super::at;
use super::bytes;
use super::record;
use super::scope;
use super::summary;
use crate::ports::AppendError;
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
use crate::ports::RunFilter;
use crate::ports::RunStatus;
use crate::ports::RunSummary;
use crate::ports::StoreError;
use crate::ports::WaiterRow;

/// A store: its journal and its catalog.
pub type Pair<'a> = (&'a dyn Journal, &'a dyn Catalog);

const RUNS: [&str; 4] = ["run-a", "run-b", "run-c", "ü/1"];
const PATHS: [&str; 5] = ["/", "/f#1/a", "/f#1/b", "/f#2/a", "/each#1[0]"];
const SIGNALS: [&str; 2] = ["go", "stop"];
const NAMES: [&str; 3] = ["one", "two", "Two"];
const STATUSES: [RunStatus; 6] = [
    RunStatus::Running,
    RunStatus::WaitingApproval,
    RunStatus::WaitingTimer,
    RunStatus::Paused,
    RunStatus::Completed,
    RunStatus::Failed,
];
/// After every due time there is.
const FAR: u64 = 10_000_000;

/// Asks two stores the same `operations` things, chosen by `seed`, and panics where they answer otherwise; in the end both
/// are read back in full. They may hold what an earlier call left in both.
///
/// What a contract leaves open is not compared: waiters of one signal, and approvals asked at one moment, have no order. Runs
/// are created with rising times, since a store may list them by either.
pub async fn differential(left: Pair<'_>, right: Pair<'_>, seed: u64, operations: usize) {
    let mut dice = Dice(seed);
    let newest = left.1.runs(&RunFilter::default(), &PageRequest { limit: 1, cursor: None }).await.unwrap();
    let begun = newest.items.first().map_or(at(0), |run| run.started_at);
    let mut past = Vec::new();
    for number in 0..operations {
        let now = begun + SignedDuration::from_secs(i64::try_from(number).unwrap() + 1);
        let operation = Operation::choose(&mut dice, left, now).await;
        let answers = (operation.ask(left).await, operation.ask(right).await);
        past.push(format!("{operation:?}"));
        assert!(
            answers.0 == answers.1,
            "seed {seed}, operation {number}: {operation:?}\n- {}\n+ {}\nbefore it:\n  {}",
            answers.0,
            answers.1,
            past[past.len().saturating_sub(20)..].join("\n  ")
        );
    }
    for (what, left, right) in everything(left, right).await {
        assert!(left == right, "seed {seed}, in the end {what}:\n- {left}\n+ {right}");
    }
}

/// One thing that is asked.
#[derive(Debug)]
enum Operation {
    Append(ScopeKey, Encoded, Vec<Extra>),
    Snapshot(ScopeKey, u64),
    Renew(ScopeKey, Lease),
    Register(Definition, bool),
    Disable(DefinitionKind, &'static str, bool),
    Definitions(DefinitionKind, usize),
    Project(RunSummary),
    Runs(RunFilter, usize),
    Approvals(ApprovalFilter, usize),
    Due(u64, usize),
    MoveDue(Vec<DueMove>),
    EnsureDue(ScopeKey, Timestamp, u64),
    Read(ScopeKey, u64, usize),
    Scopes(RunId, usize),
    Waiters(RunId, &'static str),
}

impl Operation {
    async fn choose(dice: &mut Dice, store: Pair<'_>, now: Timestamp) -> Self {
        let mut key = scope(dice.of(&RUNS), dice.of(&PATHS));
        // A run begins with its root's first record.
        let root = ScopeKey::root(key.run.clone());
        if store.0.head(&root).await.unwrap().is_none() {
            key = root;
        }
        let head = store.0.head(&key).await.unwrap();
        let seq = head.as_ref().map_or(0, |head| head.seq);
        match dice.below(24) {
            0..=8 => Self::append(dice, store, key, head, now).await,
            9 if seq > 0 => Self::Snapshot(key, dice.below(seq) + 1),
            10 if seq > 0 => {
                let worker = if dice.coin() { "one" } else { "two" };
                let (claim, until) = (dice.below(seq + 2), at(dice.below(1000)));
                Self::Renew(key, Lease { worker: worker.into(), claim, until })
            }
            11 | 12 => {
                let version = [None, Some("1.10"), Some("2")][dice.index(3)];
                Self::Register(definition(dice, version), dice.coin())
            }
            13 => Self::Disable(kind(dice), dice.of(&NAMES), dice.coin()),
            14 => Self::Definitions(kind(dice), dice.index(3) + 1),
            15 | 16 => match store.1.run(&key.run).await.unwrap() {
                Some(stored) => {
                    let stale = u64::from(dice.below(3) == 0);
                    let status = STATUSES[dice.index(4)];
                    let revision = stored.revision - stale;
                    let stuck = dice.coin().then(|| "NO_PROGRESS".into());
                    Self::Project(RunSummary { status, revision, stuck, updated_at: now, ..stored })
                }
                None => Self::Scopes(key.run, 2),
            },
            17 => {
                let workflow = dice.coin().then(|| dice.of(&NAMES).into());
                let statuses = STATUSES.into_iter().filter(|_| dice.below(3) == 0).collect();
                Self::Runs(RunFilter { workflow, statuses }, dice.index(3) + 1)
            }
            18 => {
                let run = dice.coin().then_some(key.run);
                Self::Approvals(ApprovalFilter { run, pending: dice.coin() }, dice.index(3) + 1)
            }
            19 => Self::Due(dice.below(1000), dice.index(4) + 1),
            20 => {
                let rows = store.1.due(at(FAR), None, 100).await.unwrap();
                let moves = rows.into_iter().filter_map(|row| (dice.below(3) == 0).then(|| dice.moved(row)));
                Self::MoveDue(moves.collect())
            }
            21 if seq > 0 => Self::EnsureDue(key, at(dice.below(1000)), dice.below(seq + 2)),
            22 => Self::Scopes(key.run, dice.index(3) + 1),
            23 => Self::Waiters(key.run, dice.of(&SIGNALS)),
            _ => Self::Read(key, dice.below(seq + 2), dice.index(5)),
        }
    }

    /// Mostly the next record; now and then one whose number is taken, its writer's own once more, or one after a gap.
    async fn append(
        dice: &mut Dice,
        store: Pair<'_>,
        key: ScopeKey,
        head: Option<Encoded>,
        now: Timestamp,
    ) -> Self {
        let seq = head.as_ref().map_or(0, |head| head.seq);
        let mark = dice.next().to_string();
        let body = format!("{{\"by\": {mark}}}");
        let next = match (dice.below(12), head) {
            (0, Some(head)) => head,
            (1, Some(_)) => record(dice.below(seq) + 1, &mark, body.as_bytes()),
            (2, _) => record(seq + 2, &mark, body.as_bytes()),
            _ => record(seq + 1, &mark, body.as_bytes()),
        };
        let mut extras = Vec::new();
        if dice.coin() {
            extras.push(if dice.below(4) == 0 { Extra::NoDue } else { Extra::Due(at(dice.below(1000))) });
        }
        if key.path.is_root() && (seq == 0 || dice.coin()) {
            let stored = store.1.run(&key.run).await.unwrap();
            let started = stored.as_ref().map_or(now, |stored| stored.started_at);
            let workflow = match &stored {
                Some(stored) => stored.workflow.to_string(),
                None => dice.of(&NAMES).to_owned(),
            };
            let status = STATUSES[dice.index(STATUSES.len())];
            let mut written = summary(key.run.as_str(), &workflow, status, 0);
            (written.started_at, written.updated_at) = (started, now);
            if status == RunStatus::Failed {
                written.error = Some(engine::Error::new("broken", "ä \u{0} \"quoted\""));
            }
            extras.push(Extra::Summary(Box::new(written)));
        }
        if dice.below(3) == 0 {
            extras.push(Extra::Approval(Box::new(approval(dice, &key))));
        }
        match dice.below(6) {
            0 => {
                let signal = dice.of(&SIGNALS).into();
                extras.push(Extra::Waiter(WaiterRow { scope: key.clone(), signal }));
            }
            1 => extras.push(Extra::WaiterGone),
            2 => extras.push(Extra::ForkContext(bytes(&mark))),
            _ => {}
        }
        Self::Append(key, next, extras)
    }

    async fn ask(&self, (journal, catalog): Pair<'_>) -> String {
        match self {
            Self::Append(scope, record, extras) => {
                match journal.append(scope, record, extras.clone()).await {
                    Ok(()) => "stored".to_owned(),
                    Err(AppendError::Conflict(existing)) => format!("conflict with {existing:?}"),
                    Err(AppendError::Store(error)) => format!("{:?}", error.kind),
                }
            }
            Self::Snapshot(scope, seq) => {
                let put = journal.put_snapshot(scope, *seq, bytes(&seq.to_string())).await;
                format!("{} {}", said(put), said(journal.load(scope).await))
            }
            Self::Renew(scope, lease) => {
                let renewed = journal.renew(scope, lease).await;
                format!("{} {}", said(renewed), said(journal.lease(scope).await))
            }
            Self::Register(definition, new_version) => {
                said(catalog.register(definition.clone(), *new_version).await)
            }
            Self::Disable(kind, id, disabled) => said(catalog.set_disabled(*kind, id, *disabled).await),
            Self::Definitions(kind, limit) => {
                let list = pages(*limit, |page| async move { catalog.definitions(*kind, &page).await });
                format!("{:?}", list.await)
            }
            Self::Project(summary) => said(catalog.project(summary).await),
            Self::Runs(filter, limit) => {
                let list = pages(*limit, |page| async move { catalog.runs(filter, &page).await });
                format!("{:?}", list.await)
            }
            Self::Approvals(filter, limit) => {
                let list = pages(*limit, |page| async move { catalog.approvals(filter, &page).await }).await;
                format!("{:?}", oldest_first(list))
            }
            Self::Due(until, limit) => {
                let first = catalog.due(at(*until), None, *limit).await;
                let rest = match first.as_ref().map(|rows| rows.last()) {
                    Ok(Some(last)) => said(catalog.due(at(*until), Some(last), *limit).await),
                    _ => String::new(),
                };
                format!("{} {rest}", said(first))
            }
            Self::MoveDue(moves) => said(catalog.move_due(moves.clone()).await),
            Self::EnsureDue(scope, at, seq) => said(catalog.ensure_due(scope, *at, *seq).await),
            Self::Read(scope, after, limit) => said(journal.read(scope, *after, *limit).await),
            Self::Scopes(run, limit) => {
                let first = journal.scopes(run, None, *limit).await.unwrap();
                let rest = journal.scopes(run, first.last(), *limit).await;
                format!("{first:?} {}", said(rest))
            }
            Self::Waiters(run, signal) => said(journal.waiters(run, signal).await.map(|mut waiters| {
                waiters.sort_by(|left, right| left.scope.cmp(&right.scope));
                waiters
            })),
        }
    }
}

/// All that stands in both stores, part by part.
async fn everything(left: Pair<'_>, right: Pair<'_>) -> Vec<(String, String, String)> {
    let mut parts = Vec::new();
    let (mut one, mut other) = (all(left).await, all(right).await);
    parts.append(&mut one);
    parts.into_iter().zip(other.drain(..)).map(|((what, left), (_, right))| (what, left, right)).collect()
}

async fn all((journal, catalog): Pair<'_>) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for run in RUNS.map(RunId::new) {
        parts.push((format!("the summary of {run}"), said(catalog.run(&run).await)));
        parts.push((format!("the scopes of {run}"), said(journal.scopes(&run, None, 100).await)));
        for path in PATHS {
            let key = scope(run.as_str(), path);
            let head = journal.head(&key).await.unwrap();
            let mut forks = Vec::new();
            for seq in 1..=head.as_ref().map_or(0, |head| head.seq) {
                forks.push(journal.fork_context(&key, seq).await.unwrap());
            }
            let records = said(journal.read(&key, 0, usize::MAX).await);
            let loaded = said(journal.load(&key).await);
            let lease = said(journal.lease(&key).await);
            parts.push((key.to_string(), format!("{records} {loaded} {lease} {forks:?} {head:?}")));
        }
        for id in ["0", "1"].map(|id| format!("{run}-{id}")) {
            parts.push((format!("the approval {id}"), said(catalog.approval(&run, &id).await)));
        }
        for signal in SIGNALS {
            let waiters = Operation::Waiters(run.clone(), signal).ask((journal, catalog)).await;
            parts.push((format!("who waits for {signal} in {run}"), waiters));
        }
    }
    parts.push(("what is due".to_owned(), said(catalog.due(at(FAR), None, usize::MAX).await)));
    for list in [
        Operation::Runs(RunFilter::default(), 2),
        Operation::Approvals(ApprovalFilter::default(), 2),
        Operation::Definitions(DefinitionKind::Workflow, 2),
        Operation::Definitions(DefinitionKind::Agent, 2),
    ] {
        parts.push((format!("{list:?}"), list.ask((journal, catalog)).await));
    }
    for kind in [DefinitionKind::Workflow, DefinitionKind::Agent] {
        for id in NAMES {
            let versions = catalog.versions(kind, id).await;
            let active = catalog.definition(kind, id, None).await;
            let mut known = vec![said(versions), said(active)];
            for version in ["1", "1.10", "1.10+2", "2"] {
                known.push(said(catalog.definition(kind, id, Some(version)).await));
            }
            for hash in 0..4 {
                known.push(said(catalog.pinned(kind, id, &format!("hash-{hash}")).await));
            }
            parts.push((format!("{kind:?} {id}"), known.join("\n")));
        }
    }
    parts
}

/// A value, or the kind of error: its code and words are each store's own.
fn said<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind),
    }
}

/// A list, page by page.
async fn pages<T, F>(limit: usize, page: impl Fn(PageRequest) -> F) -> Vec<T>
where
    F: Future<Output = Result<Page<T>, StoreError>>,
{
    let (mut list, mut cursor) = (Vec::new(), None);
    loop {
        let Page { items, next } = page(PageRequest { limit, cursor }).await.unwrap();
        assert!(items.len() <= limit, "a page of {limit} has {}", items.len());
        list.extend(items);
        cursor = next;
        if cursor.is_none() {
            return list;
        }
    }
}

/// Each once and the oldest first; those of one moment have no order.
fn oldest_first(mut rows: Vec<ApprovalRow>) -> Vec<ApprovalRow> {
    assert!(rows.is_sorted_by_key(|row| row.requested_at), "the oldest come first: {rows:?}");
    let ids: BTreeSet<_> = rows.iter().map(|row| (row.scope.run.clone(), row.request.id.clone())).collect();
    assert_eq!(ids.len(), rows.len(), "each comes once: {rows:?}");
    rows.sort_by_key(|row| (row.requested_at, row.scope.run.clone(), row.request.id.clone()));
    rows
}

fn kind(dice: &mut Dice) -> DefinitionKind {
    if dice.coin() { DefinitionKind::Workflow } else { DefinitionKind::Agent }
}

fn definition(dice: &mut Dice, version: Option<&str>) -> Definition {
    let (id, content) = (dice.of(&NAMES), dice.below(4));
    Definition {
        kind: kind(dice),
        id: id.into(),
        version: version.map(Into::into),
        hash: format!("hash-{content}").into(),
        source: format!("id: {id} # {content}").into(),
        file: dice.coin().then(|| "a.workflow.yaml".into()),
        registered_at: at(dice.below(100)),
        disabled: false,
    }
}

/// One of two approvals of a run, asked at a time of its own, in whatever state.
fn approval(dice: &mut Dice, key: &ScopeKey) -> ApprovalRow {
    let number = dice.below(2);
    let vote = |name: &str| Vote {
        approve: true,
        approver: name.into(),
        teams: Vec::new(),
        comment: Some("ok".into()),
        form: None,
    };
    ApprovalRow {
        scope: scope(key.run.as_str(), "/"),
        workflow: "one".into(),
        state: "gate".into(),
        request: ApprovalRequested {
            id: format!("{}-{number}", key.run).into(),
            message: "Go?".into(),
            title: None,
            summary: None,
            approvers: vec!["team:sre".into()],
            quorum: 2,
            excluded: None,
            deadline: at(10_000),
        },
        requested_at: at(number),
        votes: ["user:a", "user:b"].into_iter().filter(|_| dice.coin()).map(vote).collect(),
        settled_at: dice.coin().then(|| at(dice.below(100))),
        decision: None,
    }
}

/// Random choices that are the same everywhere (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(u64::try_from(limit).unwrap())).unwrap()
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn of(&mut self, names: &[&'static str]) -> &'static str {
        names[self.index(names.len())]
    }

    /// A move of an entry as it stands, or as it may have stood before.
    fn moved(&mut self, row: DueRow) -> DueMove {
        let row = match self.below(4) {
            0 => DueRow { seq: row.seq + 1, ..row },
            1 => DueRow { at: row.at + SignedDuration::from_secs(1), ..row },
            _ => row,
        };
        let to = (self.below(3) > 0).then(|| at(self.below(1000)));
        DueMove { row, to, visits: u32::try_from(self.below(5)).unwrap() }
    }
}
