//! Approvals, the oldest first.

use engine::RunId;
use runtime::ports::ApprovalFilter;
use runtime::ports::ApprovalRow;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::codec;
use crate::session::Failure;
use crate::session::Session;

impl Session<'_> {
    /// Writes the approval, pending or settled; it keeps its place in the list.
    pub(crate) fn write_approval(&mut self, row: &ApprovalRow) -> Result<(), Failure> {
        let (run, _) = self.run_or_create(&row.scope.run, None)?;
        let sql = "INSERT INTO approvals (run, approval, pending, row) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (run, approval) DO UPDATE SET pending = excluded.pending, row = excluded.row";
        let pending = row.settled_at.is_none();
        self.connection.prepare_cached(sql)?.execute(params![
            run,
            &*row.request.id,
            pending,
            super::to_json(row)?
        ])?;
        Ok(())
    }
}

pub(super) fn get(connection: &Connection, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, Failure> {
    let sql =
        "SELECT id, row FROM approvals WHERE run = (SELECT id FROM runs WHERE run = ?1) AND approval = ?2";
    let found = connection.prepare_cached(sql)?.query_row([run.as_str(), id], read).optional()?;
    Ok(found.map(|(_, row)| row))
}

/// A cursor is the place of the last one shown; those asked for meanwhile stand behind it.
pub(super) fn list(
    connection: &Connection,
    filter: &ApprovalFilter,
    page: &PageRequest,
) -> Result<Page<ApprovalRow>, Failure> {
    let above = match &page.cursor {
        Some(cursor) => codec::to_row(LIST, cursor)?,
        None => 0,
    };
    let wanted = codec::limit(page.limit).saturating_add(1);
    let (table, condition) = match (&filter.run, filter.pending) {
        (None, false) => ("approvals", "true"),
        (None, true) => ("approvals INDEXED BY approvals_pending", "pending"),
        (Some(_), false) => ("approvals INDEXED BY approvals_by_run", "true"),
        (Some(_), true) => ("approvals INDEXED BY approvals_by_run", "pending"),
    };
    let run = if filter.run.is_some() { "run = (SELECT id FROM runs WHERE run = ?3)" } else { "?3 IS NULL" };
    let sql =
        format!("SELECT id, row FROM {table} WHERE {run} AND {condition} AND id > ?1 ORDER BY id LIMIT ?2");
    let run = filter.run.as_ref().map(RunId::as_str);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows =
        statement.query_map(params![above, wanted, run], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = rows.len() > page.limit;
    rows.truncate(page.limit);
    let next = rows.last().filter(|_| more).map(|(id, _)| codec::cursor(LIST, &id.to_string()));
    Ok(Page { items: rows.into_iter().map(|(_, row)| row).collect(), next })
}

const LIST: char = 'a';

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, ApprovalRow)> {
    Ok((row.get(0)?, super::from_json(row.get_ref(1)?.as_str()?)?))
}
