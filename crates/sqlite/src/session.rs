//! What the writer does inside a group's transaction.

use std::sync::Arc;

use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use runtime::ports::Extra;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::Statement;
use rusqlite::params;

use crate::codec;
use crate::error::code;
use crate::error::permanent;
use crate::scopes::Recent;

/// Why a piece of work failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite failed: in the writer, the whole transaction is rolled back.
    Sql(rusqlite::Error),
    /// It was refused before anything was changed.
    Refused(StoreError),
}

impl Failure {
    pub(crate) fn into_store(self, explain: impl FnOnce(&rusqlite::Error) -> StoreError) -> StoreError {
        match self {
            Self::Sql(error) => explain(&error),
            Self::Refused(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// The writer's connection with its statements, and what it knows about the scopes used lately. Nobody else writes to
/// the file, so what it knows is true; after a rollback it forgets all of it.
pub(crate) struct Session<'c> {
    /// For rare work.
    pub(crate) connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    find_run: Statement<'c>,
    create_run: Statement<'c>,
    find_scope: Statement<'c>,
    create_scope: Statement<'c>,
    insert_record: Statement<'c>,
    set_due: Statement<'c>,
    remove_due: Statement<'c>,
    write_summary: Statement<'c>,
    runs: Recent<RunId, i64>,
    scopes: Recent<ScopeKey, Scope>,
}

/// A scope as the writer knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) id: i64,
    /// The number of its last record.
    pub(crate) head: i64,
}

/// Scopes and runs to remember: enough for all that are active at once, at some 200 bytes each.
const REMEMBERED: usize = 8192;

impl<'c> Session<'c> {
    pub(crate) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            connection,
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            find_run: prepare("SELECT id FROM runs WHERE run = ?1")?,
            create_run: prepare(
                "INSERT INTO runs (run, workflow, version, status, starter, started_at, updated_at, ended_at, more, revision) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?,
            find_scope: prepare(
                "SELECT id, coalesce((SELECT max(seq) FROM records WHERE scope = scopes.id), 0) FROM scopes \
                 WHERE run = ?1 AND path = ?2",
            )?,
            create_scope: prepare(
                "INSERT INTO scopes (run, path, due, due_seq, due_visits) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            insert_record: prepare(
                "INSERT INTO records (scope, seq, at, digest, append_id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            set_due: prepare("UPDATE scopes SET due = ?2, due_seq = ?3, due_visits = 0 WHERE id = ?1")?,
            remove_due: prepare(
                "UPDATE scopes SET due = NULL, due_seq = NULL, due_visits = NULL WHERE id = ?1 AND due IS NOT NULL",
            )?,
            write_summary: prepare(
                "UPDATE runs SET workflow = ?2, version = ?3, status = ?4, starter = ?5, started_at = ?6, updated_at = ?7, \
                 ended_at = ?8, more = ?9, revision = revision + 1 WHERE id = ?1",
            )?,
            runs: Recent::new(REMEMBERED),
            scopes: Recent::new(REMEMBERED),
        })
    }

    pub(crate) fn begin(&mut self) -> rusqlite::Result<()> {
        self.begin.raw_execute().map(|_| ())
    }

    pub(crate) fn commit(&mut self) -> rusqlite::Result<()> {
        self.commit.raw_execute().map(|_| ())
    }

    /// Undoes the transaction and forgets what was learnt in it.
    pub(crate) fn roll_back(&mut self) {
        self.runs.clear();
        self.scopes.clear();
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed transaction could not be rolled back; the next one will say so again");
        }
    }

    /// Appends `record` with its `extras` if it follows the scope's last one; otherwise gives the record that stands at
    /// its number.
    pub(crate) fn append(
        &mut self,
        key: &ScopeKey,
        record: &Encoded,
        extras: &[Extra],
    ) -> Result<Option<Box<Encoded>>, Failure> {
        let seq = codec::number(record.seq);
        let (head, known) = match self.scope(key)? {
            Some(scope) => (scope.head, Some(scope.id)),
            None => (0, None),
        };
        if seq != head + 1 {
            if let Some(id) = known
                && let Some(standing) = self.record(id, seq)?
            {
                return Ok(Some(Box::new(standing)));
            }
            let text = format!(
                "record {seq} of {key} does not follow its last one, {head}: reload the scope and decide again"
            );
            return Err(permanent(code::JOURNAL_GAP, text).into());
        }
        let mut first = None;
        let scope = if let Some(id) = known {
            id
        } else {
            // What a new row is to hold is written at once rather than changed right after.
            let summary = extras
                .iter()
                .find_map(|extra| if let Extra::Summary(summary) = extra { Some(&**summary) } else { None });
            let due = extras
                .iter()
                .rev()
                .find_map(|extra| if let Extra::Due(at) = extra { Some(*at) } else { None });
            let (run, fresh) = self.run_or_create(&key.run, summary)?;
            first = Some(Fresh { summary: fresh && summary.is_some(), due: due.is_some() });
            self.create_scope(key, run, due.map(|at| (at, record.seq)))?
        };
        self.insert_record.execute(params![
            scope,
            seq,
            codec::time(record.at),
            codec::digest(&record.hash),
            &*record.append_id,
            &*record.body
        ])?;
        self.scopes.set(key, Scope { id: scope, head: seq });
        for extra in extras {
            self.extra(key, scope, record.seq, extra, first.as_ref())?;
        }
        Ok(None)
    }

    fn extra(
        &mut self,
        key: &ScopeKey,
        scope: i64,
        seq: u64,
        extra: &Extra,
        first: Option<&Fresh>,
    ) -> Result<(), Failure> {
        match extra {
            Extra::Due(_) if first.is_some_and(|first| first.due) => {}
            Extra::Due(at) => self.set_due(scope, *at, seq)?,
            Extra::NoDue => self.remove_due(scope)?,
            Extra::Summary(_) if first.is_some_and(|first| first.summary) => {}
            Extra::Summary(summary) => self.write_summary(summary)?,
            Extra::Approval(row) => self.write_approval(row)?,
            Extra::Waiter(row) => {
                let run = self.run_or_create(&key.run, None)?.0;
                let sql = "INSERT INTO waiters (scope, run, signal) VALUES (?1, ?2, ?3) \
                           ON CONFLICT (scope) DO UPDATE SET signal = excluded.signal";
                self.connection.prepare_cached(sql)?.execute(params![scope, run, &*row.signal])?;
            }
            Extra::WaiterGone => {
                self.connection.prepare_cached("DELETE FROM waiters WHERE scope = ?1")?.execute([scope])?;
            }
            Extra::ForkContext(body) => {
                let sql = "INSERT INTO forks (scope, seq, body) VALUES (?1, ?2, ?3)";
                self.connection.prepare_cached(sql)?.execute(params![scope, codec::number(seq), &**body])?;
            }
        }
        Ok(())
    }

    /// The scope, if it is known to the file.
    pub(crate) fn scope(&mut self, key: &ScopeKey) -> rusqlite::Result<Option<Scope>> {
        if let Some(scope) = self.scopes.get(key) {
            return Ok(Some(scope));
        }
        let Some(run) = self.run(&key.run)? else { return Ok(None) };
        let found = self
            .find_scope
            .query_row(params![run, key.path.as_str()], |row| {
                Ok(Scope { id: row.get(0)?, head: row.get(1)? })
            })
            .optional()?;
        if let Some(scope) = found {
            self.scopes.set(key, scope);
        }
        Ok(found)
    }

    /// The scope's row, made if there is none yet.
    pub(crate) fn scope_or_create(&mut self, key: &ScopeKey) -> rusqlite::Result<i64> {
        if let Some(scope) = self.scope(key)? {
            return Ok(scope.id);
        }
        let (run, _) = self.run_or_create(&key.run, None)?;
        self.create_scope(key, run, None)
    }

    fn create_scope(
        &mut self,
        key: &ScopeKey,
        run: i64,
        due: Option<(Timestamp, u64)>,
    ) -> rusqlite::Result<i64> {
        let (at, seq, visits) = match due {
            Some((at, seq)) => (Some(codec::time(at)), Some(codec::number(seq)), Some(0)),
            None => (None, None, None),
        };
        let id = self.create_scope.insert(params![run, key.path.as_str(), at, seq, visits])?;
        self.scopes.set(key, Scope { id, head: 0 });
        Ok(id)
    }

    pub(crate) fn run(&mut self, run: &RunId) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.runs.get(run) {
            return Ok(Some(id));
        }
        let found = self.find_run.query_row([run.as_str()], |row| row.get(0)).optional()?;
        if let Some(id) = found {
            self.runs.set(run, id);
        }
        Ok(found)
    }

    /// The run's row, and whether it was made just now, with the summary given.
    pub(crate) fn run_or_create(
        &mut self,
        run: &RunId,
        summary: Option<&RunSummary>,
    ) -> rusqlite::Result<(i64, bool)> {
        if let Some(id) = self.run(run)? {
            return Ok((id, false));
        }
        let id = if let Some(summary) = summary {
            self.create_run.insert(params![
                run.as_str(),
                &*summary.workflow,
                &*summary.version,
                codec::status(summary.status),
                summary.starter.as_deref(),
                codec::time(summary.started_at),
                codec::time(summary.updated_at),
                summary.ended_at.map(codec::time),
                crate::catalog::more(summary)?,
                1
            ])?
        } else {
            let none = None::<i64>;
            self.create_run.insert(params![
                run.as_str(),
                none,
                none,
                none,
                none,
                none,
                none,
                none,
                none,
                0
            ])?
        };
        self.runs.set(run, id);
        Ok((id, true))
    }

    /// Writes the summary over whatever there is.
    pub(crate) fn write_summary(&mut self, summary: &RunSummary) -> rusqlite::Result<()> {
        let (run, fresh) = self.run_or_create(&summary.run, Some(summary))?;
        if fresh {
            return Ok(());
        }
        self.write_summary.execute(params![
            run,
            &*summary.workflow,
            &*summary.version,
            codec::status(summary.status),
            summary.starter.as_deref(),
            codec::time(summary.started_at),
            codec::time(summary.updated_at),
            summary.ended_at.map(codec::time),
            crate::catalog::more(summary)?
        ])?;
        Ok(())
    }

    /// Removes a run that is over, all at once.
    pub(crate) fn forget(&mut self, run: &RunId) -> Result<(), Failure> {
        let Some(id) = self.run(run)? else { return Ok(()) };
        let sql = "SELECT status FROM runs WHERE id = ?1";
        let status: Option<i64> = self.connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
        if !status.and_then(codec::to_status).is_some_and(RunStatus::is_terminal) {
            return Ok(());
        }
        for table in ["records", "snapshots", "forks", "leases", "waiters"] {
            let sql = format!("DELETE FROM {table} WHERE scope IN (SELECT id FROM scopes WHERE run = ?1)");
            self.connection.prepare_cached(&sql)?.execute([id])?;
        }
        for sql in [
            "DELETE FROM scopes WHERE run = ?1",
            "DELETE FROM approvals WHERE run = ?1",
            "DELETE FROM runs WHERE id = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([id])?;
        }
        // Its numbers may be given to others.
        self.scopes.clear();
        self.runs.clear();
        Ok(())
    }

    pub(crate) fn set_due(&mut self, scope: i64, at: Timestamp, seq: u64) -> rusqlite::Result<()> {
        self.set_due.execute(params![scope, codec::time(at), codec::number(seq)]).map(|_| ())
    }

    fn remove_due(&mut self, scope: i64) -> rusqlite::Result<()> {
        self.remove_due.execute([scope]).map(|_| ())
    }

    fn record(&self, scope: i64, seq: i64) -> Result<Option<Encoded>, Failure> {
        let sql = "SELECT seq, at, digest, append_id, body FROM records WHERE scope = ?1 AND seq = ?2";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([scope, seq], |row| Ok(encoded(row)))
            .optional()?;
        found.transpose()
    }
}

/// What the first record's rows were given when they were made.
struct Fresh {
    summary: bool,
    due: bool,
}

/// A row of `seq, at, digest, append_id, body`. Its hash is taken anew, so that a body that changed on the disk shows.
pub(crate) fn encoded(row: &Row<'_>) -> Result<Encoded, Failure> {
    let seq = codec::to_number(row.get(0)?);
    let digest: i64 = row.get(2)?;
    let append_id: Arc<str> = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?.into();
    let body: Arc<[u8]> = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?.into();
    let hash = engine::hash(&body);
    if codec::digest(&hash) != digest {
        return Err(crate::error::corrupt(format!(
            "the bytes of record {seq} are not those that were written"
        ))
        .into());
    }
    Ok(Encoded { seq, at: codec::to_time(row.get(1)?), append_id, body, hash })
}
