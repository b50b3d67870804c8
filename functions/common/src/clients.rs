//! The clients of AWS, made once in a process.

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::Region;
use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use lambda_runtime::Error;
use runtime::SystemIds;
use runtime::ports::Doorbell;
use runtime::ports::Ids as _;
use runtime::ports::Notifier;

use crate::Configuration;
use crate::http;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a request to a queue may take, and each attempt of it: less than what is kept of an invocation for storing and ringing.
/// One that has hung is sent again, and a doorbell rung twice does no harm.
const RING: Duration = Duration::from_secs(8);
const ATTEMPT: Duration = Duration::from_secs(3);

/// What a function reaches of AWS.
pub(crate) struct Clients {
    pub(crate) store: Arc<dynamodb::Store>,
    pub(crate) doorbell: Arc<dyn Doorbell>,
    pub(crate) notifier: Option<Arc<dyn Notifier>>,
    pub(crate) ids: SystemIds,
}

impl Clients {
    pub(crate) fn open(configuration: &Configuration) -> Result<Self, Error> {
        let http = http::Client::new()?;
        let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
        let ids = SystemIds::new()?;
        let seed = ids.entropy();
        let endpoints = configuration.endpoints.clone();

        let options = dynamodb::S3Options {
            bucket: configuration.bucket.clone(),
            region: configuration.region.clone(),
            endpoint: endpoints.s3,
            fips: configuration.fips,
            seed,
        };
        let blobs = dynamodb::S3Blobs::new(&options, credentials.clone(), http.connector(Some(CONNECT)))?;

        // Lambda gives a function's credentials in its environment and nowhere else: what `aws_config::load` also knows
        // (profiles, STS, SSO, a machine's metadata) would only be code that each cold start reads.
        let shared = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(configuration.region.clone()))
            .use_fips(configuration.fips)
            .credentials_provider(credentials)
            .http_client(http)
            .build();
        let mut table = aws_sdk_dynamodb::config::Builder::from(&shared);
        table.set_endpoint_url(endpoints.dynamodb);
        let table = aws_sdk_dynamodb::Client::from_conf(table.build());
        let limits = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(RING);
        let mut queues = aws_sdk_sqs::config::Builder::from(&shared).timeout_config(limits.build());
        queues.set_endpoint_url(endpoints.sqs);
        let queues = aws_sdk_sqs::Client::from_conf(queues.build());
        let mut bus = aws_sdk_eventbridge::config::Builder::from(&shared);
        bus.set_endpoint_url(endpoints.eventbridge);
        let bus = aws_sdk_eventbridge::Client::from_conf(bus.build());

        let options = dynamodb::Options::new(seed);
        let store = dynamodb::Store::new(&table, &*configuration.table, Arc::new(blobs), &options);
        let urls = sqs::Queues { steps: configuration.steps.clone(), resume: configuration.resume.clone() };
        let doorbell = sqs::Doorbell::new(queues, urls, seed);
        let notifier = configuration
            .bus
            .as_ref()
            .map(|name| Arc::new(eventbridge::Notifier::new(bus, name, seed)) as Arc<dyn Notifier>);
        Ok(Self { store: Arc::new(store), doorbell: Arc::new(doorbell), notifier, ids })
    }
}
