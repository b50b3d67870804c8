//! One DynamoDB Local for all tests of this process, and a table for each.

use std::process::Command;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::config::Region;
use stepwell_dynamodb::MemoryBlobs;
use stepwell_dynamodb::Options;
use stepwell_dynamodb::Store;
use stepwell_dynamodb::table;

use crate::wire::Wire;

/// Where it listens. It ends with this process.
static ENDPOINT: LazyLock<String> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../localstack/dynamodb-local");
    let owner = std::process::id().to_string();
    let started = Command::new(script)
        .args(["--owner", &owner])
        .output()
        .expect("python3 runs the scripts of localstack/");
    let told = String::from_utf8_lossy(&started.stdout);
    let said: Option<serde_json::Value> = serde_json::from_str(&told).ok();
    match said.as_ref().and_then(|said| said["endpoint"].as_str()) {
        Some(endpoint) if started.status.success() => endpoint.to_owned(),
        _ => panic!(
            "these tests need DynamoDB Local, and so java and mvn:\n{told}{}",
            String::from_utf8_lossy(&started.stderr)
        ),
    }
});

/// A new table, and all that a test wants to know of it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<Store>,
    pub(crate) wire: Wire,
    pub(crate) blobs: MemoryBlobs,
}

impl Fixture {
    pub(crate) async fn new(table: &str) -> Self {
        let (wire, blobs) = (Wire::new(), MemoryBlobs::default());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "tests"))
            .endpoint_url(&*ENDPOINT)
            .http_client(wire.clone())
            .build();
        let client = Client::from_conf(config);
        table::create(&client, table).await.unwrap();
        // A loaded machine answers late; no test is to fail by that.
        let options = Options { attempt: Duration::from_secs(20), ..Options::new(1) };
        let store = Store::new(&client, table, Arc::new(blobs.clone()), &options);
        wire.forget();
        Self { store: Arc::new(store), wire, blobs }
    }
}
