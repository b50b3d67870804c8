//! One process per store: a lock file beside it, which also says where that process serves.

use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use serde::Deserialize;
use serde::Serialize;

use crate::error::code;
use crate::error::permanent;
use crate::error::unavailable;

/// Who holds a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Where it serves the API, once it does.
    pub address: Option<String>,
}

/// Who holds the store at `path` now; `None` when nobody does.
///
/// The answer may be old by the time it is used. A program beside a running server talks to [`Holder::address`].
pub fn holder(path: &Path) -> Result<Option<Holder>, StoreError> {
    let path = lock_path(&resolve(path)?);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path, &error)),
    };
    match file.try_lock_shared() {
        // Nobody does; closing the file gives our own lock back.
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_holder(file))),
        Err(TryLockError::Error(error)) => Err(io_error(&path, &error)),
    }
}

/// The lock, held until it is dropped or the process dies: the kernel gives it back, so it is never stale.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: Mutex<(File, Holder)>,
}

impl Lock {
    /// Takes the lock of the store at `path` (resolved). A lock file that stands there without a living holder is taken.
    pub(crate) fn take(store: &Path) -> Result<Self, StoreError> {
        let path = lock_path(store);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| io_error(&path, &error))?;
        // A program that only asks who holds the store has the lock for an instant: that is not a refusal yet.
        let mut refused = false;
        for _ in 0..LOOKS {
            match file.try_lock() {
                Ok(()) => {
                    refused = false;
                    break;
                }
                Err(TryLockError::WouldBlock) => {
                    refused = true;
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(TryLockError::Error(error)) => return Err(io_error(&path, &error)),
            }
        }
        if refused {
            return Err(locked(store, &read_holder(file)));
        }
        let mut holder = Holder { pid: std::process::id(), since: None, address: None };
        write_holder(&mut file, &holder).map_err(|error| io_error(&path, &error))?;
        // The file system's clock is the only one this crate meets.
        holder.since = file
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok());
        write_holder(&mut file, &holder).map_err(|error| io_error(&path, &error))?;
        Ok(Self { path, file: Mutex::new((file, holder)) })
    }

    /// Says where this process serves, for programs that meet the lock.
    pub(crate) fn publish_address(&self, address: &str) -> Result<(), StoreError> {
        let mut guard = self.file.lock();
        let (file, holder) = &mut *guard;
        holder.address = Some(address.to_owned());
        write_holder(file, holder).map_err(|error| io_error(&self.path, &error))
    }
}

const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The path with links followed, so that one file has one lock by whatever name it is opened.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    if path.is_dir() {
        return Err(permanent(
            code::PATH,
            format!(
                "{} is a folder: name a file in it, as {}",
                path.display(),
                path.join("stepwell.db").display()
            ),
        ));
    }
    if let Ok(whole) = path.canonicalize() {
        return Ok(whole);
    }
    let Some(name) = path.file_name() else {
        return Err(permanent(code::PATH, format!("`{}` names no file", path.display())));
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match folder.canonicalize() {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => Err(permanent(
            code::PATH,
            format!(
                "the folder {} of the store cannot be opened: create it first ({error})",
                folder.display()
            ),
        )),
    }
}

fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn locked(store: &Path, holder: &Holder) -> StoreError {
    let who = if holder.pid == 0 { "another process".to_owned() } else { format!("process {}", holder.pid) };
    let since = holder.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
    let advice = match &holder.address {
        Some(address) => format!("it serves at {address}: talk to it there, or stop it"),
        None => "stop it, or use another file".to_owned(),
    };
    unavailable(code::LOCKED, format!("{} is held by {who}{since}; {advice}", store.display()))
}

/// What the holder wrote; one who is just writing it is known only to exist.
fn read_holder(mut file: File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or(Holder {
        pid: 0,
        since: None,
        address: None,
    })
}

/// In place: the lock belongs to this file, not to its name.
fn write_holder(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(holder)?;
    text.push(b'\n');
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&text)
}

fn io_error(path: &Path, error: &std::io::Error) -> StoreError {
    let shown = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => permanent(
            code::READ_ONLY,
            format!(
                "{shown} cannot be written: let this user write the store's folder and the files in it ({error})"
            ),
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            unavailable(code::FULL, format!("no space is left for {shown}: free some ({error})"))
        }
        _ => unavailable(code::IO, format!("{shown} cannot be opened or written ({error})")),
    }
}
