//! Copies the write-ahead log into the file before it grows large.
//!
//! The bulk is copied on a thread of its own while the writer goes on. That alone would never let the log begin again at
//! its start, because the writer always adds to it meanwhile: so when little is left, the writer copies the rest itself
//! between two groups, and its next group begins the log anew. The log's file keeps its size: writing over it costs
//! less at an fsync than growing it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Condvar;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use rusqlite::Connection;
use rusqlite::MAIN_DB;
use rusqlite::wal::CheckpointMode;

use crate::schema::open_checkpointer;
use crate::store::Counters;

/// The frames (pages of 4 KiB) of the log at which they are copied.
const COPY_AT: i64 = 4096;
/// The frames at which the writer waits for that: a disk that cannot follow slows the writers down, it is not filled.
const WAIT_AT: i64 = 4 * COPY_AT;
/// So few frames the writer copies itself.
const REST: i64 = 128;
/// How often the thread goes over what came meanwhile.
const PASSES: usize = 4;

/// The thread that copies.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Asked,
    /// The writer may copy the rest.
    Done,
    Closed,
}

impl Checkpointer {
    pub(crate) fn start(path: &Arc<PathBuf>, counters: &Arc<Counters>) -> Result<Self, StoreError> {
        let connection = open_checkpointer(path)?;
        let shared = Arc::<Shared>::default();
        let (theirs, counters) = (Arc::clone(&shared), Arc::clone(counters));
        let thread = crate::store::spawn("store-checkpoint", move || theirs.serve(&connection, &counters))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// What the writer needs of it.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn close(&self) {
        *self.shared.state.lock() = State::Closed;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn serve(&self, connection: &Connection, counters: &Counters) {
        loop {
            {
                let mut state = self.state.lock();
                while !matches!(*state, State::Asked | State::Closed) {
                    self.changed.wait(&mut state);
                }
                if *state == State::Closed {
                    return;
                }
            }
            for _ in 0..PASSES {
                let left = copy(connection, counters).and_then(|()| frames(connection));
                if left.is_none_or(|(frames, copied)| frames - copied <= REST) {
                    break;
                }
            }
            let mut state = self.state.lock();
            if *state == State::Asked {
                *state = State::Done;
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

/// The writer's part: called between groups.
#[derive(Debug)]
pub(crate) struct Care {
    shared: Arc<Shared>,
    /// The frames at which to ask next: further on where the log could not be begun anew.
    ask_at: i64,
}

impl Care {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, ask_at: COPY_AT }
    }

    pub(crate) fn after_group(&mut self, connection: &Connection, counters: &Counters) {
        let Some((frames, _)) = frames(connection) else { return };
        counters.log_reached(frames);
        if frames < COPY_AT {
            self.ask_at = COPY_AT;
        }
        let mut state = self.shared.state.lock();
        if *state == State::Idle && frames >= self.ask_at {
            *state = State::Asked;
            self.shared.changed.notify_all();
        }
        while *state == State::Asked && frames >= self.ask_at.saturating_add(WAIT_AT - COPY_AT) {
            self.shared.changed.wait(&mut state);
        }
        if *state == State::Done {
            *state = State::Idle;
            drop(state);
            let _ = copy(connection, counters);
            // A reader that still uses the log keeps it from beginning anew, as does a disk that fails: not at once again.
            self.ask_at = frames.saturating_add(COPY_AT);
        }
    }
}

fn copy(connection: &Connection, counters: &Counters) -> Option<()> {
    match connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE) {
        Ok(_) => {
            counters.checkpoint();
            Some(())
        }
        Err(error) => {
            // Nothing is lost: the log keeps what could not be copied.
            tracing::warn!(%error, "the write-ahead log could not be copied into the store's file; it will be tried again");
            None
        }
    }
}

/// The frames in the log, and how many of them stand in the file already.
fn frames(connection: &Connection) -> Option<(i64, i64)> {
    let (frames, copied) = connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP).ok()?;
    Some((frames.into(), copied.into()))
}
