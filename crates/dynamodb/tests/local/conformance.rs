//! The suites of runtime's ports, and the comparison with the store in memory. DynamoDB Local brings an index up to date with
//! each write, so that they hold for lists too.

use runtime::conformance;
use runtime::memory;

use crate::server::Fixture;

const SEEDS: u64 = 12;
const OPERATIONS: usize = 150;

#[tokio::test]
async fn it_is_a_journal() {
    conformance::journal_suite(Fixture::new("journal").await.store).await;
}

#[tokio::test]
async fn it_is_a_catalog() {
    conformance::catalog_suite(Fixture::new("catalog").await.store).await;
}

#[tokio::test]
async fn it_answers_as_the_store_in_memory() {
    let seeds = (0..SEEDS).map(|seed| async move {
        let table = Fixture::new(&format!("differential-{seed}")).await.store;
        let memory = memory::Store::new();
        conformance::differential((&memory, &memory), (&*table, &*table), seed, OPERATIONS).await;
    });
    futures::future::join_all(seeds).await;
}
