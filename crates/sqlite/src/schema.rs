//! The file: whose it is, which version, and connections to it.

use std::path::Path;
use std::time::Duration;

use runtime::ports::StoreError;
use rusqlite::Connection;
use rusqlite::ErrorCode;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;

use crate::error::code;
use crate::error::corrupt;
use crate::error::from_sqlite;
use crate::error::permanent;

/// "STWL": in the header of every Stepwell store, shown by `file`.
const APPLICATION_ID: i64 = 0x5354_574C;

/// What makes version n + 1 out of version n; the first makes version 1 out of nothing. Only ever appended to.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// The connection that writes, to a file that is ours and of this version: created or migrated if need be.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| from_sqlite(&error, path))?;
    prepare_file(&connection, path, MIGRATIONS)?;
    configure(&connection, WRITER_CACHE_KIB).map_err(|error| from_sqlite(&error, path))?;
    Ok(connection)
}

/// A connection that copies the write-ahead log into the file.
pub(crate) fn open_checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection, OTHER_CACHE_KIB)?;
        Ok(connection)
    };
    open().map_err(|error| from_sqlite(&error, path))
}

/// A connection that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection, OTHER_CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|error| from_sqlite(&error, path))
}

/// Pages that the writer keeps: the log's end, the hot parts of the indices. The system's own cache holds the rest.
const WRITER_CACHE_KIB: i64 = 8 * 1024;
const OTHER_CACHE_KIB: i64 = 2 * 1024;
/// Nobody else should hold a lock inside the file; whoever does, a backup tool perhaps, is waited for so long.
const BUSY: Duration = Duration::from_secs(5);

fn configure(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // A mapped file turns a failing disk into a signal that kills the process: read it instead.
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

/// Sees to it that the file is a store of the last version that `migrations` make, or says why it cannot be.
pub(crate) fn prepare_file(
    connection: &Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let shown = path.display();
    let (application, version, tables) = header(connection).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => permanent(
            code::NOT_A_STORE,
            format!("{shown} is not a Stepwell store (or its first page is damaged): name another file; it was left as it is"),
        ),
        _ => from_sqlite(&error, path),
    })?;
    let ours = application == APPLICATION_ID;
    let empty = application == 0 && version == 0 && tables == 0;
    if !ours && !empty {
        return Err(permanent(
            code::NOT_A_STORE,
            format!("{shown} is the SQLite file of another program: name another file; it was left as it is"),
        ));
    }
    let done = usize::try_from(version).unwrap_or(0);
    let known = migrations.len();
    if done > known {
        return Err(permanent(
            code::NEWER_SCHEMA,
            format!(
                "{shown} has version {version} and this stepwell knows versions up to {known}: use the newer stepwell that wrote \
                 it; it was left as it is"
            ),
        ));
    }
    if ours && done == 0 {
        return Err(corrupt(format!("{shown} says that it is a Stepwell store but not of which version")));
    }
    let (applied, to_apply) = migrations.split_at_checked(done).unwrap_or_default();
    if let Some(missing) = first_missing(connection, applied).map_err(|error| from_sqlite(&error, path))? {
        return Err(corrupt(format!("{shown} lacks its {missing} or has another in its place")));
    }
    ready(connection, to_apply, known).map_err(|error| from_sqlite(&error, path))
}

fn header(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok((pragma("application_id")?, pragma("user_version")?, tables))
}

/// Migrates, all or nothing, and sees to it that the file is in WAL mode.
fn ready(connection: &Connection, migrations: &[&str], version: usize) -> rusqlite::Result<()> {
    let read_only = || {
        let reason = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        Err(rusqlite::Error::SqliteFailure(reason, None))
    };
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return read_only();
    }
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if !migrations.is_empty() {
        let steps = migrations.concat();
        let all = format!(
            "BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; COMMIT;"
        );
        if let Err(error) = connection.execute_batch(&all) {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            return Err(error);
        }
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode == "wal" { Ok(()) } else { read_only() }
}

/// The first table or index that these migrations make and that the file lacks. Reads the first page of every one: damage
/// there shows now rather than in the middle of a run.
fn first_missing(connection: &Connection, migrations: &[&str]) -> rusqlite::Result<Option<String>> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(&migrations.concat())?;
    let mut expected = model.prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let mut expected = expected.query([])?;
    while let Some(row) = expected.next()? {
        let (kind, name, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let standing = connection
            .query_row("SELECT sql FROM sqlite_schema WHERE type = ?1 AND name = ?2", [&kind, &name], |row| {
                row.get::<_, String>(0)
            })
            .optional()?;
        if standing.as_ref() != Some(&sql) {
            return Ok(Some(format!("{kind} {name}")));
        }
        if kind == "table" {
            // The names are this crate's own.
            connection.query_row(
                &format!("SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT 1)"),
                [],
                |_| Ok(()),
            )?;
        }
    }
    Ok(None)
}
