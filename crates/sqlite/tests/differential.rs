//! Asked the same, the file answers as the store in memory does; also when it is closed and opened half way.

// They are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use runtime::conformance::differential;
use runtime::memory;
use stepwell_sqlite::Options;
use stepwell_sqlite::Store;

const SEEDS: u64 = 200;
const OPERATIONS: usize = 300;
/// Mostly they wait for the disk.
const AT_ONCE: usize = 16;

#[test]
fn it_answers_as_the_store_in_memory() {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    runtime.block_on(compare(seed));
                }
            });
        }
    });
}

async fn compare(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepwell.db");
    let memory = memory::Store::new();
    for half in [seed, seed + SEEDS] {
        let file = Store::open(&path, &Options { readers: 1 }).unwrap();
        differential((&memory, &memory), (&file, &file), half, OPERATIONS / 2).await;
        file.close();
    }
}
