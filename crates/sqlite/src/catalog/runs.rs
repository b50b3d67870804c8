//! Run summaries: written with a run's records, listed newest first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use engine::Error;
use engine::RunId;
use jiff::Timestamp;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;
use serde::Deserialize;
use serde::Serialize;

use crate::codec;
use crate::error::corrupt;
use crate::session::Failure;
use crate::session::Session;

/// What most runs do not have: one column for all of it.
#[derive(Serialize, Deserialize)]
struct More<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, Error>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stuck: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "no_labels")]
    labels: Cow<'a, BTreeMap<String, String>>,
}

/// The `more` column of a summary.
pub(crate) fn more(summary: &RunSummary) -> rusqlite::Result<Option<String>> {
    if summary.error.is_none() && summary.stuck.is_none() && summary.labels.is_empty() {
        return Ok(None);
    }
    let more = More {
        error: summary.error.as_ref().map(Cow::Borrowed),
        stuck: summary.stuck.clone(),
        labels: Cow::Borrowed(&summary.labels),
    };
    super::to_json(&more).map(Some)
}

const COLUMNS: &str =
    "run, workflow, version, status, starter, started_at, updated_at, ended_at, more, revision, id";

pub(super) fn get(connection: &Connection, run: &RunId) -> Result<Option<RunSummary>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM runs WHERE run = ?1 AND status IS NOT NULL");
    let found =
        connection.prepare_cached(&sql)?.query_row([run.as_str()], |row| Ok(summary(row))).optional()?;
    Ok(found.transpose()?.map(|(_, summary)| summary))
}

/// Runs in the order of their creation, the newest first. A cursor is the place of the last one shown: runs that begin
/// meanwhile stand before it.
pub(super) fn list(
    connection: &Connection,
    filter: &RunFilter,
    page: &PageRequest,
) -> Result<Page<RunSummary>, Failure> {
    let below = match &page.cursor {
        Some(cursor) => codec::to_row(LIST, cursor)?,
        None => i64::MAX,
    };
    // One more than wanted, to know whether there are more.
    let wanted = codec::limit(page.limit).saturating_add(1);
    let mut ids = ids(connection, filter, below, wanted)?;
    ids.sort_unstable_by(|one, other| other.cmp(one));
    let more = ids.len() > page.limit;
    ids.truncate(page.limit);
    let sql = format!("SELECT {COLUMNS} FROM runs WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut items = Vec::with_capacity(ids.len());
    for id in &ids {
        items.push(statement.query_row([id], |row| Ok(summary(row)))??.1);
    }
    let next = ids.last().filter(|_| more).map(|last| codec::cursor(LIST, &last.to_string()));
    Ok(Page { items, next })
}

const LIST: char = 'r';

/// The newest rows under `below` that fit. Each status is a list of its own in an index, so that a rare one among a
/// million others is found at once; the caller merges them.
fn ids(connection: &Connection, filter: &RunFilter, below: i64, wanted: i64) -> Result<Vec<i64>, Failure> {
    let mut ids = Vec::new();
    if filter.workflow.is_none() && filter.statuses.is_empty() {
        let sql = "SELECT id FROM runs WHERE status IS NOT NULL AND id < ?1 ORDER BY id DESC LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        for id in statement.query_map([below, wanted], |row| row.get(0))? {
            ids.push(id?);
        }
        return Ok(ids);
    }
    for status in RunStatus::ALL
        .into_iter()
        .filter(|status| filter.statuses.is_empty() || filter.statuses.contains(status))
    {
        let status = codec::status(status);
        let mut collect = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| -> Result<(), Failure> {
            let mut statement = connection.prepare_cached(sql)?;
            for id in statement.query_map(parameters, |row| row.get(0))? {
                ids.push(id?);
            }
            Ok(())
        };
        match &filter.workflow {
            Some(workflow) => collect(
                "SELECT id FROM runs INDEXED BY runs_by_workflow WHERE workflow = ?4 AND status = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
                &[&status, &below, &wanted, &&**workflow],
            )?,
            None => collect(
                "SELECT id FROM runs INDEXED BY runs_by_status WHERE status = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
                &[&status, &below, &wanted],
            )?,
        }
    }
    Ok(ids)
}

/// Runs that ended before `at`; those that began first come first.
pub(super) fn ended_before(
    connection: &Connection,
    at: Timestamp,
    limit: usize,
) -> Result<Vec<RunId>, Failure> {
    let mut ended = Vec::new();
    for status in RunStatus::ALL.into_iter().filter(|status| status.is_terminal()) {
        let sql = "SELECT run FROM runs INDEXED BY runs_by_status WHERE status = ?1 AND ended_at < ?2 ORDER BY id LIMIT ?3";
        let wanted = codec::limit(limit.saturating_sub(ended.len()));
        let mut statement = connection.prepare_cached(sql)?;
        let parameters = params![codec::status(status), codec::time(at), wanted];
        for run in statement.query_map(parameters, |row| row.get::<_, Arc<str>>(0))? {
            ended.push(RunId::new(run?));
        }
    }
    Ok(ended)
}

/// Writes the summary if the stored one is still the one it was made from.
pub(super) fn project(session: &mut Session<'_>, summary: &RunSummary) -> Result<bool, Failure> {
    let Some(id) = session.run(&summary.run)? else { return Ok(false) };
    let sql = "SELECT revision, status FROM runs WHERE id = ?1 AND status IS NOT NULL";
    let stored = session
        .connection
        .prepare_cached(sql)?
        .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
    let Some((revision, status)) = stored.optional()? else { return Ok(false) };
    if revision != codec::number(summary.revision)
        || codec::to_status(status).is_none_or(RunStatus::is_terminal)
    {
        return Ok(false);
    }
    session.write_summary(summary)?;
    Ok(true)
}

fn summary(row: &Row<'_>) -> Result<(i64, RunSummary), Failure> {
    let id: i64 = row.get(10)?;
    let status: i64 = row.get(3)?;
    let Some(status) = codec::to_status(status) else {
        return Err(corrupt(format!("the status {status} of run {id} is none")).into());
    };
    let more = match row.get_ref(8)?.as_str_or_null().map_err(rusqlite::Error::from)? {
        Some(text) => super::from_json::<More<'_>>(text)?,
        None => More { error: None, stuck: None, labels: Cow::Owned(BTreeMap::new()) },
    };
    let summary = RunSummary {
        run: RunId::new(row.get::<_, Arc<str>>(0)?),
        workflow: row.get(1)?,
        version: row.get(2)?,
        status,
        starter: row.get(4)?,
        started_at: codec::to_time(row.get(5)?),
        updated_at: codec::to_time(row.get(6)?),
        ended_at: row.get::<_, Option<i64>>(7)?.map(codec::to_time),
        error: more.error.map(Cow::into_owned),
        stuck: more.stuck,
        labels: more.labels.into_owned(),
        revision: codec::to_number(row.get(9)?),
    };
    Ok((id, summary))
}

#[allow(clippy::ptr_arg)] // Serde gives what the field is.
fn no_labels(labels: &Cow<'_, BTreeMap<String, String>>) -> bool {
    labels.is_empty()
}
