//! One `LocalStack` and one DynamoDB Local for all tests of this process, and clients of them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::config::Region;
use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use dynamodb::Blobs;
use dynamodb::S3Blobs;
use dynamodb::S3Options;
use dynamodb::Store;
use dynamodb::table;
use rusty_s3::Bucket;
use rusty_s3::S3Action as _;
use rusty_s3::UrlStyle;
use sqs::Queues;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;

/// Where the services listen.
struct Servers {
    dynamodb: String,
    others: String,
}

/// They end with this process.
static SERVERS: LazyLock<Servers> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../localstack/up");
    let owner = std::process::id();
    let states = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serverless");
    tidy(&states);
    let started = Command::new(script)
        .arg("--state")
        .arg(states.join(owner.to_string()))
        .args(["--owner", &owner.to_string(), "--json"])
        .output()
        .expect("python3 runs the scripts of localstack/");
    let told = String::from_utf8_lossy(&started.stdout);
    let said: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
    let at = |name: &str| said[name].as_str().map(ToOwned::to_owned);
    match (at("dynamodb"), at("endpoint")) {
        (Some(dynamodb), Some(others)) if started.status.success() => Servers { dynamodb, others },
        _ => panic!(
            "these tests need LocalStack and DynamoDB Local, and so python 3.13, java and mvn:\n{told}{}",
            String::from_utf8_lossy(&started.stderr)
        ),
    }
});

/// Removes what the servers of processes that have ended left behind.
fn tidy(states: &Path) {
    for state in std::fs::read_dir(states).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(state.file_name()).exists() {
            let _ = std::fs::remove_dir_all(state.path());
        }
    }
}

/// What connections and timeouts belong to: real time, and threads of its own.
static NETWORK: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

pub(crate) fn network() -> &'static Handle {
    NETWORK.handle()
}

/// Works where connections live.
pub(crate) fn online<T>(work: impl Future<Output = T>) -> T {
    network().block_on(work)
}

/// The usual way to a service.
pub(crate) fn http() -> SharedHttpClient {
    static HTTP: LazyLock<SharedHttpClient> =
        LazyLock::new(|| aws_smithy_http_client::Builder::new().build_http());
    HTTP.clone()
}

fn credentials() -> Credentials {
    Credentials::new("test", "test", None, None, "tests")
}

pub(crate) fn table_client(http: SharedHttpClient) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials())
        .endpoint_url(&SERVERS.dynamodb)
        .http_client(http)
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

pub(crate) fn queue_client() -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials())
        .endpoint_url(&SERVERS.others)
        .http_client(http())
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// The objects of a bucket.
pub(crate) fn blobs(bucket: &str) -> S3Blobs {
    let options = S3Options {
        bucket: bucket.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(SERVERS.others.clone()),
        fips: false,
        seed: 1,
    };
    S3Blobs::new(&options, SharedCredentialsProvider::new(credentials()), connector()).unwrap()
}

fn connector() -> SharedHttpConnector {
    SharedHttpConnector::new(aws_smithy_http_client::Connector::builder().build_http())
}

/// A name that nothing else of this process has.
pub(crate) fn unused(what: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A new table.
pub(crate) async fn table() -> String {
    let name = unused("table");
    table::create(&table_client(http()), &name).await.unwrap();
    name
}

/// A process's store in a table.
pub(crate) fn store_in(table: &str, http: SharedHttpClient, blobs: Arc<dyn Blobs>) -> Store {
    // A loaded machine answers late; no test is to fail by that.
    let options = dynamodb::Options { attempt: Duration::from_mins(1), ..dynamodb::Options::new(1) };
    Store::new(&table_client(http), table, blobs, &options)
}

/// Nothing is left in the table.
pub(crate) async fn assert_empty(table: &str) {
    let left = table_client(http()).scan().table_name(table).limit(5).send().await.unwrap();
    assert!(left.items().is_empty(), "{:?}", left.items());
}

/// A new bucket.
pub(crate) async fn bucket() -> String {
    let name = unused("bucket");
    let (endpoint, credentials) =
        (SERVERS.others.parse().unwrap(), rusty_s3::Credentials::new("test", "test"));
    let bucket = Bucket::new(endpoint, UrlStyle::Path, name.clone(), "us-east-1").unwrap();
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_method("PUT").unwrap();
    request.set_uri(bucket.create_bucket(&credentials).sign(Duration::from_mins(1)).as_str()).unwrap();
    let answer = connector().call(request).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    name
}

/// Two new queues.
pub(crate) async fn queues() -> Queues {
    let client = queue_client();
    let queue = async |name: String| {
        client.create_queue().queue_name(name).send().await.unwrap().queue_url.expect("its URL")
    };
    Queues { steps: queue(unused("steps")).await, resume: queue(unused("resume")).await }
}
