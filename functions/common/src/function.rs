//! What a function is, and the `main` that all of them share.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::Error as StepError;
use engine::error_type;
use expression::Value as Output;
use jiff::Timestamp;
use lambda_runtime::Context;
use lambda_runtime::Error;
use lambda_runtime::LambdaEvent;
use lambda_runtime::service_fn;
use runtime::Runtime;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::Catalog;
use serde_json::Value;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Mutex;
use tracing::Instrument as _;

use crate::Configuration;
use crate::clients::Clients;
use crate::home;
use crate::logs;

/// A Lambda function: what it has of its own beside the runtime, and what it does with an invocation.
///
/// It is a type, not a value, so that a program holds what its own function needs: a cold start reads all of it.
#[allow(async_fn_in_trait)]
pub trait Function: Sized {
    /// Its name, as in template.yaml.
    const NAME: &'static str;

    /// Who performs actions here: nobody, unless it is what the function is for.
    fn agents(_definitions: Arc<dyn Catalog>) -> Result<Arc<dyn Agents>, Error> {
        Ok(Arc::new(Nobody(Self::NAME)))
    }

    /// The function over the runtime, made once in a process.
    fn new(runtime: Runtime, configuration: &Configuration) -> Self;

    /// Answers one invocation.
    async fn answer(&self, payload: Value, invocation: Invocation) -> Result<Value, Error>;
}

/// One invocation, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Invocation {
    /// The time that is left of it.
    pub remaining: Duration,
}

/// So long an answer may be on its way when the environment is to end.
const ANSWERED: Duration = Duration::from_millis(100);

/// A function's `main`: returns when the environment is shut down.
pub fn run<F: Function>() -> ExitCode {
    // One thread: an environment has one invocation at a time, and what computes long has threads of its own.
    let ran = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|threads| threads.block_on(serve::<F>()));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(function = F::NAME, %error, "the function cannot work");
            ExitCode::FAILURE
        }
    }
}

async fn serve<F: Function>() -> Result<(), Error> {
    let configuration = Configuration::read(|name| std::env::var(name).ok());
    logs::init(configuration.as_ref().map_or(tracing::level_filters::LevelFilter::INFO, |known| known.log));
    let configuration = configuration?;
    let clients = Clients::open(&configuration)?;
    let agents = F::agents(clients.store.clone())?;
    let runtime = home::runtime(&configuration, clients, agents);
    let function = F::new(runtime.clone(), &configuration);
    let at_work = Mutex::new(());
    let answer = async |event: LambdaEvent<Value>| {
        let _at_work = at_work.lock().await;
        // Spans are there at every level, or lines would lack what they say where less is logged.
        let request = tracing::error_span!("invocation", requestId = event.context.request_id);
        let LambdaEvent { payload, context } = event;
        let invocation = Invocation { remaining: remaining(&runtime, &context) };
        function.answer(payload, invocation).instrument(request).await
    };
    tokio::select! {
        ran = lambda_runtime::run(service_fn(answer)) => ran,
        () = ended(&runtime, &at_work) => Ok(()),
    }
}

/// The environment is to end: what is being performed may end and be answered, nothing more is begun. Lambda says so to functions
/// that have an extension; the others it ends between two invocations, when nothing is lost.
async fn ended(runtime: &Runtime, at_work: &Mutex<()>) {
    match signal(SignalKind::terminate()) {
        Ok(mut end) => drop(end.recv().await),
        Err(error) => {
            tracing::warn!(%error, "nobody can say that the environment is to end");
            return std::future::pending().await;
        }
    }
    runtime.drain();
    drop(at_work.lock().await);
    tokio::time::sleep(ANSWERED).await;
}

/// The time that is left of an invocation.
fn remaining(runtime: &Runtime, context: &Context) -> Duration {
    let now: Timestamp = runtime.ports().clock.now();
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    Duration::from_millis(context.deadline.saturating_sub(now))
}

/// Performs nothing: that is `step`'s.
struct Nobody(&'static str);

#[async_trait]
impl Agents for Nobody {
    async fn perform(&self, call: Call) -> Result<Output, CallError> {
        // The handlers of these functions have no turn to perform in.
        let message = format!(
            "`{}` was to be performed by the function {}, which performs nothing",
            call.state, self.0
        );
        tracing::error!(state = &*call.state, "{message}");
        let error = StepError::new(error_type::INTERRUPTED, message);
        Err(CallError { error, definite: false, retry_after: None })
    }
}
