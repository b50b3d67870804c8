//! The suites of runtime's ports, over a file.

use std::sync::Arc;

use runtime::conformance;
use stepwell_sqlite::Options;
use stepwell_sqlite::Store;

#[tokio::test]
async fn it_is_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("stepwell.db"), &Options::default()).unwrap();
    conformance::journal_suite(Arc::new(store)).await;
}

#[tokio::test]
async fn it_is_a_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("stepwell.db"), &Options::default()).unwrap();
    conformance::catalog_suite(Arc::new(store)).await;
}
