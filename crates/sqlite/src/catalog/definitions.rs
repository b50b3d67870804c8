//! Workflows and agents, all their versions, and which one is active.

use std::sync::Arc;

use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::Registered;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::codec;
use crate::session::Failure;
use crate::session::Session;

const SELECT: &str = "SELECT d.id, d.kind, d.name, d.version, d.hash, d.source, d.file, d.registered_at, \
                      coalesce((SELECT disabled FROM active WHERE active.kind = d.kind AND active.name = d.name), 0) \
                      FROM definitions d";

const ACTIVE: &str = "JOIN active a ON a.definition = d.id";

pub(super) fn register(
    session: &mut Session<'_>,
    definition: &Definition,
    new_version: bool,
) -> Result<Registered, Failure> {
    let connection = session.connection;
    let (kind, name) = (definition.kind, &*definition.id);
    // Known content keeps the version it was given, also one that was made beside the version asked for (`1.0+2`).
    let sql = format!("{SELECT} WHERE d.kind = ?1 AND d.name = ?2 AND d.hash = ?3 ORDER BY d.id DESC");
    let mut statement = connection.prepare_cached(&sql)?;
    let same = statement.query_map(params![number(kind), name, &*definition.hash], read)?;
    for standing in same {
        let standing = standing?;
        if definition.version.as_deref().is_none_or(|asked| is_version(&standing.1, asked)) {
            return activate(connection, standing).map(Registered::Unchanged);
        }
    }
    let standing = |version: &str| by_version(connection, kind, name, version);
    let asked = definition.version.as_deref();
    let mut version = asked.unwrap_or("1").to_owned();
    let mut next = 2_u64;
    while let Some((_, taken)) = standing(&version)? {
        if asked.is_some() && !new_version {
            return Ok(Registered::VersionTaken(taken));
        }
        version = asked.map_or_else(|| next.to_string(), |asked| format!("{asked}+{next}"));
        next += 1;
    }
    create(connection, definition, &version).map(Registered::Created)
}

/// Whether it was registered as the version `asked`: that itself, or one made beside it.
fn is_version(definition: &Definition, asked: &str) -> bool {
    let made = |rest: &str| rest.strip_prefix('+').is_some_and(|count| count.parse::<u64>().is_ok());
    let rest = definition.version.as_deref().and_then(|version| version.strip_prefix(asked));
    rest.is_some_and(|rest| rest.is_empty() || made(rest))
}

fn create(connection: &Connection, definition: &Definition, version: &str) -> Result<Definition, Failure> {
    let sql = "INSERT INTO definitions (kind, name, version, hash, source, file, registered_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = connection.prepare_cached(sql)?.insert(params![
        number(definition.kind),
        &*definition.id,
        version,
        &*definition.hash,
        &*definition.source,
        definition.file.as_deref(),
        codec::time(definition.registered_at)
    ])?;
    let stored = Definition { version: Some(version.into()), ..definition.clone() };
    activate(connection, (row, stored))
}

/// Makes it the active one, and enables it.
fn activate(connection: &Connection, (row, definition): (i64, Definition)) -> Result<Definition, Failure> {
    let sql = "INSERT INTO active (kind, name, definition, disabled) VALUES (?1, ?2, ?3, 0) \
               ON CONFLICT (kind, name) DO UPDATE SET definition = excluded.definition, disabled = 0";
    connection.prepare_cached(sql)?.execute(params![number(definition.kind), &*definition.id, row])?;
    Ok(Definition { disabled: false, ..definition })
}

pub(super) fn get(
    connection: &Connection,
    kind: DefinitionKind,
    id: &str,
    version: Option<&str>,
) -> Result<Option<Definition>, Failure> {
    let found = match version {
        Some(version) => by_version(connection, kind, id, version)?,
        None => find(
            connection,
            ACTIVE,
            "a.kind = ?1 AND a.name = ?2 AND NOT a.disabled",
            params![number(kind), id],
        )?,
    };
    Ok(found.map(|(_, definition)| definition))
}

pub(super) fn pinned(
    connection: &Connection,
    kind: DefinitionKind,
    id: &str,
    hash: &str,
) -> Result<Option<Definition>, Failure> {
    let found =
        find(connection, "", "d.kind = ?1 AND d.name = ?2 AND d.hash = ?3", params![number(kind), id, hash])?;
    Ok(found.map(|(_, definition)| definition))
}

/// The active ones by id. A cursor is the last id shown.
pub(super) fn list(
    connection: &Connection,
    kind: DefinitionKind,
    page: &PageRequest,
) -> Result<Page<Definition>, Failure> {
    let above = match &page.cursor {
        Some(cursor) => codec::to_place(LIST, cursor)?,
        None => String::new(),
    };
    let sql = format!(
        "{SELECT} {ACTIVE} WHERE a.kind = ?1 AND a.name > ?2 AND NOT a.disabled ORDER BY a.name LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let wanted = codec::limit(page.limit).saturating_add(1);
    let mut items = statement
        .query_map(params![number(kind), above, wanted], read)?
        .map(|row| row.map(|(_, definition)| definition))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let next = items.last().filter(|_| more).map(|last| codec::cursor(LIST, &last.id));
    Ok(Page { items, next })
}

const LIST: char = 'd';

pub(super) fn versions(
    connection: &Connection,
    kind: DefinitionKind,
    id: &str,
) -> Result<Vec<Definition>, Failure> {
    let sql = format!("{SELECT} WHERE d.kind = ?1 AND d.name = ?2 ORDER BY d.id DESC");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![number(kind), id], read)?;
    Ok(rows.map(|row| row.map(|(_, definition)| definition)).collect::<rusqlite::Result<_>>()?)
}

pub(super) fn set_disabled(
    session: &mut Session<'_>,
    kind: DefinitionKind,
    id: &str,
    disabled: bool,
) -> Result<bool, Failure> {
    let sql = "UPDATE active SET disabled = ?3 WHERE kind = ?1 AND name = ?2";
    let changed = session.connection.prepare_cached(sql)?.execute(params![number(kind), id, disabled])?;
    Ok(changed > 0)
}

fn by_version(
    connection: &Connection,
    kind: DefinitionKind,
    id: &str,
    version: &str,
) -> Result<Option<(i64, Definition)>, Failure> {
    find(connection, "", "d.kind = ?1 AND d.name = ?2 AND d.version = ?3", params![number(kind), id, version])
}

/// The newest one that fits.
fn find(
    connection: &Connection,
    join: &str,
    condition: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Option<(i64, Definition)>, Failure> {
    let sql = format!("{SELECT} {join} WHERE {condition} ORDER BY d.id DESC LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row(parameters, read).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Definition)> {
    let kind = match row.get::<_, i64>(1)? {
        0 => DefinitionKind::Workflow,
        1 => DefinitionKind::Agent,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(1, other)),
    };
    let definition = Definition {
        kind,
        id: row.get(2)?,
        version: Some(row.get::<_, Arc<str>>(3)?),
        hash: row.get(4)?,
        source: row.get(5)?,
        file: row.get(6)?,
        registered_at: codec::to_time(row.get(7)?),
        disabled: row.get(8)?,
    };
    Ok((row.get(0)?, definition))
}

fn number(kind: DefinitionKind) -> i64 {
    match kind {
        DefinitionKind::Workflow => 0,
        DefinitionKind::Agent => 1,
    }
}
