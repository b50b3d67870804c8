//! Due entries: one per scope at most, kept in the scope's row and found by time.

use std::sync::Arc;

use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::ports::DueMove;
use runtime::ports::DueRow;
use rusqlite::Connection;
use rusqlite::params;

use crate::codec;
use crate::session::Failure;
use crate::session::Session;

pub(super) fn list(
    connection: &Connection,
    until: Timestamp,
    after: Option<&DueRow>,
    limit: usize,
) -> Result<Vec<DueRow>, Failure> {
    // The index gives them by time; only those of the same time are sorted.
    let order = "scopes.due, runs.run, scopes.path";
    let sql = format!(
        "SELECT scopes.due, scopes.due_seq, scopes.due_visits, runs.run, scopes.path \
         FROM scopes INDEXED BY scopes_by_due CROSS JOIN runs ON runs.id = scopes.run \
         WHERE scopes.due <= ?1 AND scopes.due >= ?2 AND ({order}) > (?2, ?3, ?4) ORDER BY {order} LIMIT ?5"
    );
    let (at, run, path) = match after {
        Some(row) => (codec::time(row.at), row.scope.run.as_str(), row.scope.path.as_str()),
        None => (i64::MIN, "", ""),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let rows =
        statement.query_map(params![codec::time(until), at, run, path, codec::limit(limit)], |row| {
            let run = RunId::new(row.get::<_, Arc<str>>(3)?);
            let path = ScopePath::from_stored(row.get::<_, Arc<str>>(4)?);
            Ok(DueRow {
                at: codec::to_time(row.get(0)?),
                scope: ScopeKey::new(run, path),
                seq: codec::to_number(row.get(1)?),
                visits: row.get(2)?,
            })
        })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Moves each entry or removes it, if it still stands as given.
pub(super) fn shift(session: &mut Session<'_>, moves: &[DueMove]) -> Result<(), Failure> {
    for DueMove { row, to, visits } in moves {
        let Some(scope) = session.scope(&row.scope)? else { continue };
        let sql = match to {
            Some(_) => {
                "UPDATE scopes SET due = ?4, due_visits = ?5 WHERE id = ?1 AND due = ?2 AND due_seq = ?3"
            }
            None => {
                "UPDATE scopes SET due = ?4, due_seq = NULL, due_visits = NULL WHERE id = ?1 AND due = ?2 AND due_seq = ?3"
            }
        };
        let mut statement = session.connection.prepare_cached(sql)?;
        let (at, seq) = (codec::time(row.at), codec::number(row.seq));
        match to {
            Some(to) => statement.execute(params![scope.id, at, seq, codec::time(*to), visits])?,
            None => statement.execute(params![scope.id, at, seq, None::<i64>])?,
        };
    }
    Ok(())
}

/// Makes sure that there is an entry at `at` or before. One that a later record set knows better.
pub(super) fn ensure(
    session: &mut Session<'_>,
    scope: &ScopeKey,
    at: Timestamp,
    seq: u64,
) -> Result<(), Failure> {
    let scope = session.scope_or_create(scope)?;
    let sql = "UPDATE scopes SET due = ?2, due_seq = ?3, due_visits = 0 WHERE id = ?1 \
               AND (due IS NULL OR (due > ?2 AND due_seq <= ?3))";
    session.connection.prepare_cached(sql)?.execute(params![scope, codec::time(at), codec::number(seq)])?;
    Ok(())
}
