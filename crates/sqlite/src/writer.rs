//! The one thread that writes: takes every write that waits, commits them as one group, answers each.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Condvar;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::checkpoint::Care;
use crate::error::closed;
use crate::error::from_sqlite;
use crate::error::is_ambiguous;
use crate::error::unanswered;
use crate::session::Failure;
use crate::session::Session;
use crate::store::Counters;

/// The way to the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Connection>>>,
}

/// The most writes in one transaction: those behind them do not wait for all that came before.
const MAX_GROUP: usize = 1024;

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Box<dyn Job>>,
    /// The thread sleeps and must be woken.
    asleep: bool,
    closed: bool,
}

/// A write that waits. It may be performed more than once, when the transaction it was in had to be rolled back.
trait Job: Send {
    fn perform(&mut self, session: &mut Session<'_>) -> Result<(), Failure>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Write<T, F> {
    work: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnMut(&mut Session<'_>) -> Result<T, Failure> + Send,
{
    fn perform(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.result = Some((self.work)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // Whoever asked may have gone; what was written stays written.
        let _ = reply.send(outcome.and_then(|()| result.ok_or_else(unanswered)));
    }
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        connection: Connection,
        path: &Arc<PathBuf>,
        care: Care,
        counters: &Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::<Shared>::default();
        let (theirs, path, counters) = (Arc::clone(&shared), Arc::clone(path), Arc::clone(counters));
        let thread =
            crate::store::spawn("store-write", move || serve(&theirs, connection, &path, care, &counters))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Performs `work` in a transaction with whatever else waits; it is durable when this answers. `work` either fails
    /// before it changes anything or by a failure of SQLite's.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Write { work, result: None, reply });
        let wake = {
            let mut queue = self.shared.queue.lock();
            if queue.closed {
                return Err(closed());
            }
            queue.waiting.push(job);
            std::mem::take(&mut queue.asleep)
        };
        if wake {
            self.shared.wake.notify_one();
        }
        answer.await.map_err(|_| unanswered())?
    }

    /// Ends the thread after what waits is written, and gives its connection back.
    pub(crate) fn close(&self) -> Option<Connection> {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_one();
        self.thread.lock().take()?.join().ok()
    }
}

fn serve(
    shared: &Shared,
    connection: Connection,
    path: &Path,
    mut care: Care,
    counters: &Counters,
) -> Connection {
    match Session::new(&connection) {
        Ok(mut session) => {
            let mut taken = Vec::new();
            while shared.take(&mut taken) {
                while !taken.is_empty() {
                    let rest = taken.split_off(taken.len().min(MAX_GROUP));
                    commit(&mut session, std::mem::replace(&mut taken, rest), path, counters);
                    care.after_group(session.connection, counters);
                }
            }
        }
        Err(error) => {
            tracing::error!(%error, "the store cannot write");
            shared.queue.lock().closed = true;
        }
    }
    connection
}

impl Shared {
    /// Waits for writes and takes all; false when there are none and none will come.
    fn take(&self, into: &mut Vec<Box<dyn Job>>) -> bool {
        let mut queue = self.queue.lock();
        while queue.waiting.is_empty() {
            if queue.closed {
                return false;
            }
            queue.asleep = true;
            self.wake.wait(&mut queue);
            queue.asleep = false;
        }
        std::mem::swap(&mut queue.waiting, into);
        true
    }
}

/// Commits the group and answers. When SQLite fails, nothing of the group was written, and each write is tried on its own:
/// what fails is then its own fault.
fn commit(session: &mut Session<'_>, mut group: Vec<Box<dyn Job>>, path: &Path, counters: &Counters) {
    let mut outcomes = Vec::with_capacity(group.len());
    match attempt(session, &mut group, &mut outcomes, path) {
        Ok(()) => {
            counters.group(group.len());
            for (job, outcome) in group.into_iter().zip(outcomes) {
                job.answer(outcome);
            }
        }
        Err(error) if error.kind != StoreErrorKind::Unknown && group.len() > 1 => {
            for job in group {
                commit(session, vec![job], path, counters);
            }
        }
        Err(error) => {
            tracing::warn!(%error, writes = group.len(), "the store could not write");
            for job in group {
                job.answer(Err(error.clone()));
            }
        }
    }
}

/// One transaction: durable if this succeeds, rolled back otherwise (`Unknown`: as far as can be known). A job's own
/// refusal is its outcome and concerns no other.
fn attempt(
    session: &mut Session<'_>,
    group: &mut [Box<dyn Job>],
    outcomes: &mut Vec<Result<(), StoreError>>,
    path: &Path,
) -> Result<(), StoreError> {
    let explain = |error: &rusqlite::Error| from_sqlite(error, path);
    let failed = session.begin().map_err(|error| explain(&error)).and_then(|()| {
        for job in group {
            match job.perform(session) {
                Ok(()) => outcomes.push(Ok(())),
                Err(Failure::Refused(refusal)) => outcomes.push(Err(refusal)),
                Err(Failure::Sql(error)) => return Err(explain(&error)),
            }
        }
        session.commit().map_err(|error| {
            let explained = explain(&error);
            if is_ambiguous(&error) {
                StoreError { kind: StoreErrorKind::Unknown, ..explained }
            } else {
                explained
            }
        })
    });
    if failed.is_err() {
        session.roll_back();
    }
    failed
}
