//! Doorbells: "look at this scope". They carry no authority and may come twice, late, in any order, or not at all.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::ScopeKey;
use serde::Deserialize;
use serde::Serialize;

use super::StoreError;

/// Rings and receives. At least once, as far as the process or the queue lives; due entries cover the rest.
#[async_trait]
pub trait Doorbell: Send + Sync + 'static {
    /// Rings all of these.
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError>;

    /// Waits for doorbells of this queue; up to `max`, fairly among runs.
    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError>;

    /// It has been answered: what it led to is stored.
    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError>;

    /// They take longer: not to be delivered again before then. One that came again meanwhile is no error.
    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError>;

    /// It could not be answered: deliver it again after this time.
    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError>;

    /// Lets messages that nobody can read be delivered again after this time, so that their queue gives them up before long.
    /// Where messages are read before they are handed out there are none.
    async fn put_back(
        &self,
        _queue: Queue,
        _receipts: &[String],
        _after: Duration,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Queue {
    /// For the `step` handler: something may be performed.
    Steps,
    /// For the `resume` handler: something became true.
    Resume,
}

/// One doorbell to ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// For whom.
    pub queue: Queue,
    /// Which scope.
    pub scope: ScopeKey,
    /// Not before this much time has passed. Some homes cap it (SQS: 15 minutes) and ring early; whoever answers looks at
    /// the time.
    pub after: Duration,
    /// What to look at first.
    pub hint: Hint,
}

/// What to look at first. Only ever a hint: the journals decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hint {
    /// Nothing in particular.
    None,
    /// Something may have been missed: believe nothing that was done before.
    Missed,
    /// The child with this index ended.
    ChildEnded(u32),
    /// A signal was sent.
    Signal,
}

/// A doorbell that rang. `hints` are those of all rings it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which scope.
    pub scope: ScopeKey,
    /// From which queue.
    pub queue: Queue,
    /// What the rings hinted at.
    pub hints: Vec<Hint>,
    /// How often it was delivered before.
    pub redeliveries: u32,
    /// By which the adapter knows it again; opaque.
    pub receipt: Arc<str>,
}
