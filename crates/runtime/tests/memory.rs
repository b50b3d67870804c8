//! The adapters in this crate do what all must.

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
    conformance::doorbell_suite(
        Arc::new(memory::Doorbell::new(Arc::new(clock))),
        conformance::Manners::default(),
    )
    .await;
}

#[tokio::test]
async fn clocks_conform() {
    let system = stepwell_runtime::SystemClock;
    conformance::clock_suite(&system, async |_| {}).await;
    let manual = memory::ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    conformance::clock_suite(&manual, async |time| manual.advance(time)).await;
}

#[tokio::test(start_paused = true)]
async fn the_virtual_clock_conforms() {
    conformance::clock_suite(&memory::VirtualClock::new(jiff::Timestamp::UNIX_EPOCH), async |_| {}).await;
}

#[test]
fn ids_conform() {
    conformance::ids_suite(&stepwell_runtime::SystemIds::new().unwrap());
    conformance::ids_suite(&memory::SeededIds::new(7));
}
