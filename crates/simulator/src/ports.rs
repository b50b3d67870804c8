//! The ports of one process: the world's store, queues and agents, with everything that may go wrong in between.

mod agents;
mod catalog;
mod doorbell;
mod journal;
mod notifier;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runtime::ports::Clock;
use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;

pub(crate) use doorbell::Bells;

use crate::plan::Mischief;
use crate::process::Life;
use crate::world::About;
use crate::world::Nature;
use crate::world::Pause;
use crate::world::World;

/// The ports of one process, but for its doorbells.
pub(crate) struct Port {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl Port {
    /// One call: what becomes of it, and what it does. `stale` says how old the answer may be, in milliseconds.
    async fn call<T, E>(
        &self,
        call: &'static str,
        about: About<'_>,
        nature: Nature,
        effect: impl AsyncEffect<Result<T, E>>,
        failed: impl Fn(StoreError) -> E,
    ) -> Result<T, E> {
        self.life.moves().await;
        let turn = self.world.turn(Some(&self.life), call, about, nature);
        self.pause(turn.before).await;
        let mut stale = 0;
        match turn.fault {
            Some(Mischief::DieBefore) => return self.die().await,
            Some(Mischief::Unavailable) => {
                return Err(failed(injected(StoreErrorKind::Unavailable, call)));
            }
            Some(Mischief::Unheard) => return Err(failed(injected(StoreErrorKind::Unknown, call))),
            Some(Mischief::StallBefore(millis)) => self.pause(Pause::Sleep(millis)).await,
            Some(Mischief::Stale(millis)) => stale = millis,
            _ => {}
        }
        let result = effect.run(stale).await;
        match turn.fault {
            Some(Mischief::DieAfter) => return self.die().await,
            Some(Mischief::Unknown) => {
                // Also that it could not be done.
                drop(result);
                self.pause(turn.after).await;
                return Err(failed(injected(StoreErrorKind::Unknown, call)));
            }
            Some(Mischief::StallAfter(millis)) => self.pause(Pause::Sleep(millis)).await,
            _ => {}
        }
        self.pause(turn.after).await;
        result
    }

    /// Time passes; a process that died or froze meanwhile does not go on.
    async fn pause(&self, pause: Pause) {
        if !matches!(pause, Pause::None) {
            pause.take().await;
            self.life.moves().await;
        }
    }

    async fn die<T>(&self) -> T {
        self.life.kill(&self.world);
        std::future::pending().await
    }
}

/// What a call does, once; told how old its answer may be.
trait AsyncEffect<T> {
    fn run(self, stale: u64) -> impl Future<Output = T> + Send;
}

impl<T, F: FnOnce(u64) -> R + Send, R: Future<Output = T> + Send> AsyncEffect<T> for F {
    fn run(self, stale: u64) -> impl Future<Output = T> + Send {
        self(stale)
    }
}

fn injected(kind: StoreErrorKind, call: &str) -> StoreError {
    StoreError { kind, code: "SIMULATED", message: format!("`{call}` failed on purpose") }
}

#[async_trait]
impl Clock for Port {
    fn now(&self) -> Timestamp {
        self.life.clock(self.world.now())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
        self.life.moves().await;
    }
}
