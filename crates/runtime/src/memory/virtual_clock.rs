//! The time of tokio.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::Clock;

/// The time of tokio, counted from a given moment. Under `tokio::time::pause` it is virtual: whenever nothing else can go on,
/// it jumps to the next timer, and an hour's wait takes none.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    epoch: Timestamp,
    begun: tokio::time::Instant,
}

impl VirtualClock {
    /// A clock that says `epoch` now. Needs a tokio runtime.
    pub fn new(epoch: Timestamp) -> Self {
        Self { epoch, begun: tokio::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.epoch.checked_add(self.begun.elapsed()).unwrap_or(Timestamp::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
