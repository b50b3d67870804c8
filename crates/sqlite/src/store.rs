//! The store as others hold it.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use runtime::ports::StoreError;
use rusqlite::MAIN_DB;
use rusqlite::wal::CheckpointMode;

use crate::checkpoint::Care;
use crate::checkpoint::Checkpointer;
use crate::error::code;
use crate::error::unavailable;
use crate::lock::Lock;
use crate::lock::resolve;
use crate::readers::Readers;
use crate::schema::open_writer;
use crate::writer::Writer;

/// How a store works. The defaults suit two cores or more.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many threads read.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers: 2 }
    }
}

/// A journal and a catalog in one file. Cheap to clone; the last clone to go closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    path: Arc<PathBuf>,
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    checkpointer: Checkpointer,
    counters: Arc<Counters>,
    // Last: given back when everything else has ended.
    lock: Lock,
}

impl Store {
    /// Opens the store at `path`, creating or migrating it if need be. This process then holds it alone.
    ///
    /// Blocks for the time that takes: the log of a process that crashed is read (some ten milliseconds).
    ///
    /// # Errors
    /// `STORE_LOCKED` names the process that holds it (see [`holder`](crate::holder) for its address). All others say
    /// what is wrong with the file and leave it as it is.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, StoreError> {
        let path = Arc::new(resolve(path.as_ref())?);
        let lock = Lock::take(&path)?;
        let connection = open_writer(&path)?;
        let counters = Arc::<Counters>::default();
        let checkpointer = Checkpointer::start(&path, &counters)?;
        let readers = Readers::start(&path, options.readers)?;
        let writer = Writer::start(connection, &path, Care::new(checkpointer.shared()), &counters)?;
        Ok(Self { inner: Arc::new(Inner { path, writer, readers, checkpointer, counters, lock }) })
    }

    /// Says in the lock file where this process serves, so that others that want the store find it.
    pub fn publish_address(&self, address: &str) -> Result<(), StoreError> {
        self.inner.lock.publish_address(address)
    }

    /// The file, links followed.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What the store has done since it was opened.
    pub fn stats(&self) -> Stats {
        self.inner.counters.read()
    }

    /// Writes what waits and closes the file; whatever is asked of it afterwards fails with `STORE_CLOSED`. Blocks for
    /// the time that takes. Dropping the last clone does the same.
    pub fn close(&self) {
        self.inner.close();
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        let connection = self.writer.close();
        self.readers.close();
        self.checkpointer.close();
        let Some(connection) = connection else { return };
        // The log is empty now that nobody uses it, unless the disk is full or fails: then the next open reads it.
        if let Err(error) = connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE) {
            tracing::warn!(%error, "the write-ahead log could not be copied into the store's file; it is when it is next opened");
        }
        let Stats { writes, groups, checkpoints, log_frames } = self.counters.read();
        let fsyncs = groups + 2 * checkpoints;
        tracing::info!(writes, groups, fsyncs, log_frames, "the store is closed");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Writes that were answered: appends and all others.
    pub writes: u64,
    /// Transactions they were committed in, each with one fsync.
    pub groups: u64,
    /// How often the log was copied into the file, each time with up to two fsyncs.
    pub checkpoints: u64,
    /// The most frames (pages of 4 KiB) the log ever had.
    pub log_frames: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    writes: AtomicU64,
    groups: AtomicU64,
    checkpoints: AtomicU64,
    log_frames: AtomicU64,
}

impl Counters {
    pub(crate) fn group(&self, writes: usize) {
        self.groups.fetch_add(1, Relaxed);
        self.writes.fetch_add(u64::try_from(writes).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn checkpoint(&self) {
        self.checkpoints.fetch_add(1, Relaxed);
    }

    pub(crate) fn log_reached(&self, frames: i64) {
        self.log_frames.fetch_max(u64::try_from(frames).unwrap_or(0), Relaxed);
    }

    fn read(&self) -> Stats {
        Stats {
            writes: self.writes.load(Relaxed),
            groups: self.groups.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            log_frames: self.log_frames.load(Relaxed),
        }
    }
}

/// A thread with a name that shows in a profile.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| unavailable(code::IO, format!("the thread {name} cannot be started ({error})")))
}
