//! Files that are not as they should be, and who holds one.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use runtime::ports::Journal as _;
use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;
use rusqlite::Connection;

use super::*;

fn refused(path: &Path) -> StoreError {
    Store::open(path, &Options::default()).expect_err("it must not open")
}

/// Each is refused with its code, quickly, and left byte for byte as it is.
#[tokio::test]
async fn a_file_that_is_not_a_store_of_this_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.append(&scope("r"), &record(1, vec![b'x'; 50_000]), Vec::new()).await.unwrap();
    drop(store);
    let good = fs::read(file(&folder)).unwrap();
    let sql = |change: &str| {
        let path = folder.path().join("changed.db");
        fs::write(&path, &good).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch(&format!("PRAGMA journal_mode = DELETE; {change}"))
            .unwrap();
        fs::read(&path).unwrap()
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("newer", sql("PRAGMA user_version = 1000"), "STORE_NEWER_SCHEMA"),
        ("another program's", sql("PRAGMA application_id = 7"), "STORE_NOT_A_STORE"),
        (
            "another program's, without an id",
            sql("PRAGMA application_id = 0; PRAGMA user_version = 0"),
            "STORE_NOT_A_STORE",
        ),
        ("text", b"states:\n  - id: a\n".repeat(100), "STORE_NOT_A_STORE"),
        ("a garbled header", with(0, &[7; 100]), "STORE_NOT_A_STORE"),
        ("a garbled schema", with(100, &[0xA5; 3000]), "STORE_CORRUPT"),
        ("a table that is gone", sql("DROP TABLE waiters; DROP TABLE records"), "STORE_CORRUPT"),
        ("garbled pages", with(4096, &vec![0xA5; 16 * 4096]), "STORE_CORRUPT"),
        ("cut off", good[..8192].to_vec(), "STORE_CORRUPT"),
    ];
    for (name, bytes, code) in cases {
        let path = folder.path().join("case.db");
        fs::write(&path, &bytes).unwrap();
        let error = refused(&path);
        assert_eq!((error.code, error.kind), (code, StoreErrorKind::Permanent), "{name}: {error}");
        assert!(error.message.contains("case.db"), "{error}");
        assert!(fs::read(&path).unwrap() == bytes, "{name}: it was changed");
    }
    let paths = [folder.path().to_owned(), folder.path().join("none/x.db"), "/".into()];
    for path in paths {
        assert_eq!(refused(&path).code, "STORE_PATH", "{}", path.display());
    }
    // An empty file is how a temporary file begins: it becomes a store.
    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    drop(Store::open(&empty, &Options::default()).unwrap());
}

/// As a later version will: the file is migrated and keeps what it holds, by a step that fails not at all; the version
/// before then refuses it.
#[tokio::test]
async fn migrations_go_forward_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.append(&scope("r"), &record(1, "x"), Vec::new()).await.unwrap();
    drop(store);
    let good = fs::read(file(&folder)).unwrap();
    let migrate = |steps: &[&str]| {
        let connection = Connection::open(file(&folder)).unwrap();
        crate::schema::prepare_file(&connection, &file(&folder), &[crate::schema::MIGRATIONS, steps].concat())
    };
    let second = "ALTER TABLE runs ADD COLUMN colour TEXT; CREATE TABLE colours (id INTEGER PRIMARY KEY);";

    assert_eq!(
        migrate(&[second, "CREATE TABLE other (id); CREATE TABLE colours (id);"]).unwrap_err().code,
        "STORE_CORRUPT"
    );
    assert!(fs::read(file(&folder)).unwrap() == good);
    migrate(&[second]).unwrap();
    migrate(&[second]).unwrap();
    assert_eq!(refused(&file(&folder)).code, "STORE_NEWER_SCHEMA");
    let connection = Connection::open(file(&folder)).unwrap();
    let kept: i64 = connection
        .query_row("SELECT count(colour) + (SELECT count(*) FROM records) FROM runs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn bytes_that_changed_on_the_disk_are_found_when_they_are_read() {
    let (folder, store) = store();
    store.append(&scope("r"), &record(1, "first"), Vec::new()).await.unwrap();
    store.append(&scope("r"), &record(2, "second"), Vec::new()).await.unwrap();
    store.append(&scope("s"), &record(1, vec![b'y'; 200_000]), Vec::new()).await.unwrap();
    drop(store);
    let mut bytes = fs::read(file(&folder)).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] = b'S';
    let at = bytes.windows(6).position(|window| window == b"yyyyyy").unwrap();
    bytes[at] = b'Y';
    fs::write(file(&folder), bytes).unwrap();

    let store = open(&folder);
    for damaged in [scope("r"), scope("s")] {
        let error = store.load(&damaged).await.unwrap_err();
        assert_eq!((error.code, error.kind), ("STORE_CORRUPT", StoreErrorKind::Permanent), "{error}");
    }
    assert_eq!(store.read(&scope("r"), 0, 1).await.unwrap(), [record(1, "first")]);
    store.append(&scope("t"), &record(1, "x"), Vec::new()).await.unwrap();
}

#[test]
fn one_process_holds_a_store_and_says_where_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(crate::holder(&file(&folder)).unwrap(), None);
    let store = open(&folder);
    let linked = folder.path().join("linked.db");
    std::os::unix::fs::symlink(file(&folder), &linked).unwrap();

    let error = refused(&linked);
    assert_eq!((error.code, error.kind), ("STORE_LOCKED", StoreErrorKind::Unavailable));
    assert!(error.message.contains(&format!("process {}", std::process::id())), "{error}");
    store.publish_address("http://127.0.0.1:7070").unwrap();
    assert!(refused(&file(&folder)).message.contains("http://127.0.0.1:7070"));
    let holder = crate::holder(&linked).unwrap().unwrap();
    assert_eq!((holder.pid, holder.address.as_deref()), (std::process::id(), Some("http://127.0.0.1:7070")));
    assert!(holder.since.is_some());

    drop(store);
    // The lock file stands there still, and stale, but nobody holds it.
    assert_eq!(crate::holder(&file(&folder)).unwrap(), None);
    drop(open(&folder));
}

/// For the superuser nothing is read-only: the test then runs itself again as another user.
#[test]
fn what_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    if std::env::var_os("STEPWELL_TEST_READ_ONLY").is_none()
        && fs::metadata("/proc/self").is_ok_and(|data| is_root(&data))
    {
        let copy = folder.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        fs::set_permissions(folder.path(), permissions(0o777)).unwrap();
        let mut again = Command::new(&copy);
        again
            .args(["--exact", "tests::files::what_cannot_be_written_is_refused"])
            .env("STEPWELL_TEST_READ_ONLY", "1");
        again.env("TMPDIR", folder.path()).current_dir("/").uid(65534).gid(65534);
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    fs::set_permissions(file(&folder), permissions(0o444)).unwrap();
    assert_eq!(refused(&file(&folder)).code, "STORE_READ_ONLY");
    fs::set_permissions(file(&folder), permissions(0o644)).unwrap();
    fs::remove_file(folder.path().join("stepwell.db.lock")).unwrap();
    fs::set_permissions(folder.path(), permissions(0o555)).unwrap();
    let error = refused(&file(&folder));
    fs::set_permissions(folder.path(), permissions(0o755)).unwrap();
    assert_eq!((error.code, error.kind), ("STORE_READ_ONLY", StoreErrorKind::Permanent));
    drop(open(&folder));
}

fn is_root(data: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(data) == 0
}

fn permissions(mode: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}
