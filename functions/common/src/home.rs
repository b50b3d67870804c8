//! The serverless home: the runtime and the API over a table, a bucket, two queues and a bus.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_smithy_http_client::tls;
use expression::SecretRef;
use expression::Value;
use http_api::Api;
use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::SystemClock;
use runtime::SystemIds;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::Catalog;
use runtime::ports::Doorbell;
use runtime::ports::Ids as _;
use runtime::ports::Notifier;
use tracing::Instrument as _;

use crate::Configuration;
use crate::bus::Listeners;

/// What a process of the serverless home has, made once. Cheap to clone.
#[derive(Clone)]
pub struct Home {
    /// The runtime.
    pub runtime: Runtime,
    /// The REST API over it.
    pub api: Api,
    /// What was read of who listens for events.
    pub(crate) listeners: Arc<Listeners>,
}

/// After so many visits in vain a run is marked as stuck: before its doorbell goes to the dead letter queue, which it does
/// after twenty deliveries (template.yaml).
const VISITS: u32 = 18;
/// An attempt's limit where its state gives none. A step is begun inline only while the invocation can hold its limit: with a day,
/// as elsewhere, each step would have an invocation of its own.
const STEP_TIMEOUT: Duration = Duration::from_mins(10);
/// API Gateway waits for an answer no longer than 29 seconds.
const LONGEST_WAIT_SECONDS: u64 = 25;

impl Home {
    /// Makes the clients. Region, credentials and endpoints come from the environment, as for every AWS client.
    pub async fn open(configuration: &Configuration) -> Result<Self, lambda_runtime::Error> {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build_https();
        let shared = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).load().await;
        let ids = SystemIds::new()?;
        let seed = ids.entropy();
        let s3 = aws_sdk_s3::config::Builder::from(&shared)
            // Where buckets have no host names of their own.
            .force_path_style(shared.endpoint_url().is_some())
            .build();
        let blobs = dynamodb::S3Blobs::new(aws_sdk_s3::Client::from_conf(s3), &*configuration.bucket);
        let store = dynamodb::Store::new(
            &aws_sdk_dynamodb::Client::new(&shared),
            &*configuration.table,
            Arc::new(blobs),
            &dynamodb::Options::new(seed),
        );
        let queues = sqs::Queues { steps: configuration.steps.clone(), resume: configuration.resume.clone() };
        let doorbell = sqs::Doorbell::new(aws_sdk_sqs::Client::new(&shared), queues, seed);
        let notifier = configuration.bus.as_ref().map(|bus| {
            let client = aws_sdk_eventbridge::Client::new(&shared);
            Arc::new(eventbridge::Notifier::new(client, bus, seed)) as Arc<dyn Notifier>
        });
        Self::over(configuration, Arc::new(store), Arc::new(doorbell), notifier, ids)
    }

    /// The home over these ports.
    pub fn over<S: runtime::ports::Journal + Catalog + Clone>(
        configuration: &Configuration,
        store: Arc<S>,
        doorbell: Arc<dyn Doorbell>,
        notifier: Option<Arc<dyn Notifier>>,
        ids: SystemIds,
    ) -> Result<Self, lambda_runtime::Error> {
        let catalog: Arc<dyn Catalog> = store.clone();
        let actions =
            Arc::new(agents::Options::new("/tmp").without_programs().build(Arc::new(catalog.clone()))?);
        let options = Options {
            visits: VISITS,
            step_timeout: STEP_TIMEOUT,
            retention: configuration.retention,
            ..Options::shared(ids.worker())
        };
        let ports = Ports {
            journal: store,
            catalog,
            doorbell,
            agents: Arc::new(Marked(actions.clone())),
            clock: Arc::new(SystemClock),
            ids: Arc::new(ids),
        };
        let runtime = match notifier {
            Some(notifier) => Runtime::telling(ports, options, notifier),
            None => Runtime::new(ports, options),
        };
        let home = http_api::Home::serverless(configuration.longest_step.as_secs(), LONGEST_WAIT_SECONDS);
        let api = Api::new(runtime.clone()).with_home(home).with_secrets(Arc::new(Secrets(actions)));
        Ok(Self { runtime, api, listeners: Arc::default() })
    }
}

/// What is logged while an attempt is performed says which.
struct Marked(Arc<agents::Actions>);

#[async_trait]
impl Agents for Marked {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        let (state, attempt) = (call.state.clone(), call.attempt);
        // A span is there at every level, or lines would lack it where less is logged.
        let span = tracing::error_span!("attempt", state = &*state, attempt);
        let attempt = async {
            let answer = self.0.perform(call).await;
            match &answer {
                Ok(_) => tracing::info!("an attempt succeeded"),
                Err(failed) => {
                    let error = &failed.error;
                    tracing::info!(error = &*error.kind, code = error.code.as_deref(), "an attempt failed");
                }
            }
            answer
        };
        attempt.instrument(span).await
    }
}

/// The secrets by which webhooks are signed are those that actions use.
struct Secrets(Arc<agents::Actions>);

#[async_trait]
impl http_api::Secrets for Secrets {
    async fn secret(&self, reference: &SecretRef) -> Result<String, String> {
        self.0.secret(reference).await.map_err(|error| error.error.message.to_string())
    }
}

#[cfg(test)]
impl Home {
    /// The same over stores and queues in memory, for tests of what comes in.
    pub(crate) fn in_memory(retention: Option<Duration>) -> Self {
        let configuration = Configuration {
            table: String::new(),
            bucket: String::new(),
            steps: String::new(),
            resume: String::new(),
            bus: None,
            retention,
            log: tracing::level_filters::LevelFilter::OFF,
            longest_step: Duration::from_mins(1),
        };
        let store = Arc::new(runtime::memory::Store::new());
        let doorbell = Arc::new(runtime::memory::Doorbell::new(Arc::new(SystemClock)));
        Self::over(&configuration, store, doorbell, None, SystemIds::new().unwrap()).unwrap()
    }
}
