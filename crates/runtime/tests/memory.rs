//! The in-memory store does what every store must.

use std::sync::Arc;

use stepwell_runtime::conformance;
use stepwell_runtime::memory;

#[tokio::test]
async fn the_memory_store_conforms() {
    conformance::journal_suite(Arc::new(memory::Store::new())).await;
    conformance::catalog_suite(Arc::new(memory::Store::new())).await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_doorbell_conforms() {
    let clock = memory::VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
    conformance::doorbell_suite(Arc::new(memory::Doorbell::new(Arc::new(clock)))).await;
}
