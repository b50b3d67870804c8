//! Time, ids and randomness: the only way in for each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use jiff::Timestamp;

/// Time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Waits. In tests, virtual.
    async fn sleep(&self, duration: Duration);
}

/// Ids and randomness.
pub trait Ids: Send + Sync + 'static {
    /// A new run's id: a UUIDv7, so that ids sort by time.
    fn run(&self) -> RunId;

    /// A mark for one append, unlike any other.
    fn append(&self) -> Arc<str>;

    /// Random bits, for jitter.
    fn entropy(&self) -> u64;
}
