//! Time, ids and randomness of the machine: the only place that asks for them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use jiff::Timestamp;

use crate::ports::Clock;
use crate::ports::Ids;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is the clock.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Ids and randomness from the machine.
#[derive(Debug)]
pub struct SystemIds {
    /// Begins every append's mark: unlike that of any other process.
    prefix: String,
    count: AtomicU64,
    random: AtomicU64,
}

impl SystemIds {
    /// Ids of this process. Fails only where the system has no randomness to give.
    #[allow(clippy::disallowed_methods)] // These are the ids.
    pub fn new() -> std::io::Result<Self> {
        let mut seed = [[0; 8]; 2];
        for half in &mut seed {
            getrandom::fill(half).map_err(std::io::Error::other)?;
        }
        let [prefix, random] = seed.map(u64::from_le_bytes);
        Ok(Self {
            prefix: format!("{prefix:016x}-"),
            count: AtomicU64::new(0),
            random: AtomicU64::new(random),
        })
    }

    /// A name for this process that no other has, for [`Options::worker`](crate::Options::worker).
    pub fn worker(&self) -> Arc<str> {
        format!("worker-{}", self.prefix.trim_end_matches('-')).into()
    }
}

impl Ids for SystemIds {
    #[allow(clippy::disallowed_methods)]
    fn run(&self) -> RunId {
        let mut buffer = uuid::Uuid::encode_buffer();
        RunId::new(&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer))
    }

    fn append(&self) -> Arc<str> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{}{count:x}", self.prefix).into()
    }

    fn entropy(&self) -> u64 {
        mix(self.random.fetch_add(GOLDEN, Ordering::Relaxed))
    }
}

pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`: spreads consecutive numbers over all bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(GOLDEN);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
