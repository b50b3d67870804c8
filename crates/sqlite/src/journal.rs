//! The journal port over the file.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use runtime::ports::AppendError;
use runtime::ports::Extra;
use runtime::ports::Journal;
use runtime::ports::Lease;
use runtime::ports::Loaded;
use runtime::ports::StoreError;
use runtime::ports::WaiterRow;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::Store;
use crate::codec;
use crate::error::corrupt;
use crate::session::Failure;
use crate::session::encoded;

#[async_trait]
impl Journal for Store {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        let scope = scope.clone();
        self.inner().readers.read(move |connection| load(connection, &scope)).await
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        let scope = scope.clone();
        let read = move |connection: &Connection| match scope_id(connection, &scope)? {
            Some(id) => records(connection, &scope, id, after, limit),
            None => Ok(Vec::new()),
        };
        self.inner().readers.read(read).await
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        let scope = scope.clone();
        let head = move |connection: &Connection| {
            let Some(id) = scope_id(connection, &scope)? else { return Ok(None) };
            let sql = "SELECT seq, at, digest, append_id, body FROM records WHERE scope = ?1 ORDER BY seq DESC LIMIT 1";
            let found = connection.prepare_cached(sql)?.query_row([id], |row| Ok(encoded(row))).optional()?;
            found.transpose()
        };
        self.inner().readers.read(head).await
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        let (scope, record) = (scope.clone(), record.clone());
        let standing =
            self.inner().writer.write(move |session| session.append(&scope, &record, &extras)).await?;
        match standing {
            None => Ok(()),
            Some(standing) => Err(AppendError::Conflict(standing)),
        }
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        let scope = scope.clone();
        let put = move |session: &mut crate::session::Session<'_>| {
            let scope = session.scope_or_create(&scope)?;
            // A worker that fell asleep must not put an old one over a newer one.
            let sql = "INSERT INTO snapshots (scope, seq, body) VALUES (?1, ?2, ?3) \
                       ON CONFLICT (scope) DO UPDATE SET seq = excluded.seq, body = excluded.body WHERE seq < excluded.seq";
            session.connection.prepare_cached(sql)?.execute(params![scope, codec::number(seq), &*body])?;
            Ok(())
        };
        self.inner().writer.write(put).await
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        let scope = scope.clone();
        let find = move |connection: &Connection| {
            let Some(id) = scope_id(connection, &scope)? else { return Ok(None) };
            let sql = "SELECT body FROM forks WHERE scope = ?1 AND seq = ?2";
            let found = connection
                .prepare_cached(sql)?
                .query_row(params![id, codec::number(seq)], blob)
                .optional()?;
            Ok(found)
        };
        self.inner().readers.read(find).await
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        let (run, after) = (run.clone(), after.cloned());
        let list = move |connection: &Connection| {
            // No path is empty: everything is above it.
            let after = after.as_ref().map_or("", ScopePath::as_str);
            let sql = "SELECT path FROM scopes WHERE run = (SELECT id FROM runs WHERE run = ?1) AND path > ?2 \
                       AND EXISTS (SELECT 1 FROM records WHERE scope = scopes.id) ORDER BY path LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![run.as_str(), after, codec::limit(limit)], |row| {
                row.get::<_, Arc<str>>(0)
            })?;
            Ok(rows.map(|path| path.map(ScopePath::from_stored)).collect::<rusqlite::Result<_>>()?)
        };
        self.inner().readers.read(list).await
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        let (run, name) = (run.clone(), name.to_owned());
        let list = move |connection: &Connection| {
            let sql = "SELECT scopes.path, waiters.signal FROM waiters JOIN scopes ON scopes.id = waiters.scope \
                       WHERE waiters.run = (SELECT id FROM runs WHERE run = ?1) AND waiters.signal = ?2 ORDER BY scopes.path";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([run.as_str(), &name], |row| {
                let path = ScopePath::from_stored(row.get::<_, Arc<str>>(0)?);
                Ok(WaiterRow { scope: ScopeKey::new(run.clone(), path), signal: row.get(1)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.inner().readers.read(list).await
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        let scope = scope.clone();
        let find = move |connection: &Connection| {
            let Some(id) = scope_id(connection, &scope)? else { return Ok(None) };
            let sql = "SELECT worker, claim, until FROM leases WHERE scope = ?1";
            let lease = connection.prepare_cached(sql)?.query_row([id], |row| {
                Ok(Lease {
                    worker: row.get(0)?,
                    claim: codec::to_number(row.get(1)?),
                    until: codec::to_time(row.get(2)?),
                })
            });
            Ok(lease.optional()?)
        };
        self.inner().readers.read(find).await
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        let (scope, lease) = (scope.clone(), lease.clone());
        let renew = move |session: &mut crate::session::Session<'_>| {
            let scope = session.scope_or_create(&scope)?;
            // A worker whose claim was taken over does not renew over the one who has it now.
            let sql = "INSERT INTO leases (scope, worker, claim, until) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT (scope) DO UPDATE SET worker = excluded.worker, claim = excluded.claim, until = excluded.until \
                       WHERE claim <= excluded.claim";
            let until = codec::time(lease.until);
            session.connection.prepare_cached(sql)?.execute(params![
                scope,
                &*lease.worker,
                codec::number(lease.claim),
                until
            ])?;
            Ok(())
        };
        self.inner().writer.write(renew).await
    }
}

fn load(connection: &Connection, scope: &ScopeKey) -> Result<Loaded, Failure> {
    let Some(id) = scope_id(connection, scope)? else { return Ok(Loaded::default()) };
    let sql = "SELECT seq, body FROM snapshots WHERE scope = ?1";
    let snapshot = connection
        .prepare_cached(sql)?
        .query_row([id], |row| Ok((codec::to_number(row.get(0)?), row.get_ref(1)?.as_blob()?.into())))
        .optional()?;
    let after = snapshot.as_ref().map_or(0, |(seq, _)| *seq);
    let records = records(connection, scope, id, after, usize::MAX)?;
    Ok(Loaded { snapshot, records })
}

/// The records above `after`, without a gap.
fn records(
    connection: &Connection,
    scope: &ScopeKey,
    id: i64,
    after: u64,
    limit: usize,
) -> Result<Vec<Encoded>, Failure> {
    let sql = "SELECT seq, at, digest, append_id, body FROM records WHERE scope = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![id, codec::number(after), codec::limit(limit)])?;
    let mut records = Vec::new();
    let mut last = after;
    while let Some(row) = rows.next()? {
        let record = encoded(row)?;
        if record.seq != last + 1 {
            return Err(corrupt(format!("record {} of {scope} is missing", last + 1)).into());
        }
        last = record.seq;
        records.push(record);
    }
    Ok(records)
}

pub(crate) fn scope_id(connection: &Connection, scope: &ScopeKey) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT scopes.id FROM runs JOIN scopes ON scopes.run = runs.id WHERE runs.run = ?1 AND scopes.path = ?2";
    connection
        .prepare_cached(sql)?
        .query_row([scope.run.as_str(), scope.path.as_str()], |row| row.get(0))
        .optional()
}

fn blob(row: &rusqlite::Row<'_>) -> rusqlite::Result<Arc<[u8]>> {
    Ok(row.get_ref(0)?.as_blob()?.into())
}
