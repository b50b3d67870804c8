//! Reads, on a few threads of their own: a slow disk or a long list never holds up the async workers.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Condvar;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::closed;
use crate::error::from_sqlite;
use crate::error::unanswered;
use crate::schema::open_reader;
use crate::session::Failure;

/// The threads that read.
#[derive(Debug)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    path: Arc<PathBuf>,
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Readers {
    pub(crate) fn start(path: &Arc<PathBuf>, threads: usize) -> Result<Self, StoreError> {
        let readers = Self { shared: Arc::default(), threads: Mutex::default(), path: Arc::clone(path) };
        for number in 0..threads.max(1) {
            let connection = open_reader(path)?;
            let shared = Arc::clone(&readers.shared);
            let thread =
                crate::store::spawn(&format!("store-read-{number}"), move || serve(&shared, &connection))?;
            readers.threads.lock().push(thread);
        }
        Ok(readers)
    }

    /// Does `work` on one of the threads.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more: an abandoned read costs nothing.
            if !reply.is_closed() {
                let _ = reply.send(
                    work(connection).map_err(|failure| failure.into_store(|error| from_sqlite(error, &path))),
                );
            }
        });
        {
            let mut queue = self.shared.queue.lock();
            if queue.closed {
                return Err(closed());
            }
            queue.jobs.push_back(job);
        }
        self.shared.wake.notify_one();
        answer.await.map_err(|_| unanswered())?
    }

    /// Ends the threads after what they were asked for.
    pub(crate) fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_all();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(shared: &Shared, connection: &Connection) {
    loop {
        let job = {
            let mut queue = shared.queue.lock();
            loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                shared.wake.wait(&mut queue);
            }
        };
        job(connection);
    }
}
