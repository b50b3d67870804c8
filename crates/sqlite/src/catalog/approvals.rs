//! Approvals, the oldest first.

use engine::RunId;
use runtime::ports::ApprovalFilter;
use runtime::ports::ApprovalRow;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::StoreError;
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
        let sql = "INSERT INTO approvals (run, approval, requested_at, pending, row) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT (run, approval) DO UPDATE SET pending = excluded.pending, row = excluded.row";
        let (asked, pending) = (codec::time(row.requested_at), row.settled_at.is_none());
        let parameters = params![run, &*row.request.id, asked, pending, super::to_json(row)?];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }
}

pub(super) fn get(connection: &Connection, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, Failure> {
    let sql = "SELECT row FROM approvals WHERE run = (SELECT id FROM runs WHERE run = ?1) AND approval = ?2";
    Ok(connection.prepare_cached(sql)?.query_row([run.as_str(), id], |row| read(row, 0)).optional()?)
}

/// A cursor is the place of the last one shown; those asked for meanwhile stand behind it.
pub(super) fn list(
    connection: &Connection,
    filter: &ApprovalFilter,
    page: &PageRequest,
) -> Result<Page<ApprovalRow>, Failure> {
    let (time, row) = match &page.cursor {
        Some(cursor) => place(cursor)?,
        None => (i64::MIN, 0),
    };
    let wanted = codec::limit(page.limit).saturating_add(1);
    let (index, condition) = match (&filter.run, filter.pending) {
        (None, false) => ("approvals_by_time", "true"),
        (None, true) => ("approvals_pending", "pending"),
        (Some(_), false) => ("approvals_by_run", "true"),
        (Some(_), true) => ("approvals_by_run", "pending"),
    };
    let run = if filter.run.is_some() { "run = (SELECT id FROM runs WHERE run = ?4)" } else { "?4 IS NULL" };
    let sql = format!(
        "SELECT requested_at, id, row FROM approvals INDEXED BY {index} \
         WHERE {run} AND {condition} AND (requested_at, id) > (?1, ?2) ORDER BY requested_at, id LIMIT ?3"
    );
    let run = filter.run.as_ref().map(RunId::as_str);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement
        .query_map(params![time, row, wanted, run], |row| {
            Ok((format!("{} {}", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?), read(row, 2)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = rows.len() > page.limit;
    rows.truncate(page.limit);
    let next = rows.last().filter(|_| more).map(|(place, _)| codec::cursor(LIST, place));
    Ok(Page { items: rows.into_iter().map(|(_, row)| row).collect(), next })
}

const LIST: char = 'a';

/// The time and the row that a cursor names.
fn place(cursor: &str) -> Result<(i64, i64), StoreError> {
    let place = codec::to_place(LIST, cursor)?;
    let numbers = place.split_once(' ').and_then(|(time, row)| Some((time.parse().ok()?, row.parse().ok()?)));
    numbers.ok_or_else(codec::no_such_place)
}

fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<ApprovalRow> {
    super::from_json(row.get_ref(column)?.as_str()?)
}
