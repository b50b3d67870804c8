//! The functions, and the `main` that they share.

use std::process::ExitCode;
use std::time::Duration;

use aws_lambda_events::event::sqs::SqsEvent;
use axum::body::Body;
use axum::response::Response;
use jiff::Timestamp;
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_http::tower::Service as _;
use lambda_runtime::Context;
use lambda_runtime::Error;
use lambda_runtime::LambdaEvent;
use lambda_runtime::service_fn;
use serde_json::Value;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Mutex;
use tracing::Instrument as _;

use crate::Configuration;
use crate::Home;
use crate::Invocation;
use crate::bus;
use crate::logs;
use crate::messages;
use crate::sweep;
use crate::web;

/// What a function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Creates runs: by the API, by webhooks, by events of a bus.
    Start,
    /// Performs steps: woken by the queue `steps`.
    Step,
    /// Appends what has become true: woken by the queue `resume`.
    Resume,
    /// Records people's decisions.
    Approval,
    /// Everything else of the API.
    Api,
    /// Each minute: rings what is due, fires schedules.
    Sweep,
}

impl Function {
    /// Its name, as in template.yaml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Step => "step",
            Self::Resume => "resume",
            Self::Approval => "approval",
            Self::Api => "api",
            Self::Sweep => "sweep",
        }
    }
}

/// So long an answer may be on its way when the environment is to end.
const ANSWERED: Duration = Duration::from_millis(100);

/// A function's `main`: returns when the environment is shut down.
pub fn run(function: Function) -> ExitCode {
    // One thread: an environment has one invocation at a time, and what computes long has threads of its own.
    let ran = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|threads| threads.block_on(serve(function)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(function = function.name(), %error, "the function cannot work");
            ExitCode::FAILURE
        }
    }
}

async fn serve(function: Function) -> Result<(), Error> {
    let configuration = Configuration::read(|name| std::env::var(name).ok());
    logs::init(configuration.as_ref().map_or(tracing::level_filters::LevelFilter::INFO, |known| known.log));
    let home = Home::open(&configuration?).await?;
    let at_work = Mutex::new(());
    let answer = async |event: LambdaEvent<Value>| {
        let _at_work = at_work.lock().await;
        // Spans are there at every level, or lines would lack what they say where less is logged.
        let request = tracing::error_span!("invocation", requestId = event.context.request_id);
        invoke(&home, function, event).instrument(request).await
    };
    tokio::select! {
        ran = lambda_runtime::run(service_fn(answer)) => ran,
        () = ended(&home, &at_work) => Ok(()),
    }
}

/// The environment is to end: what is being performed may end and be answered, nothing more is begun. Lambda says so to functions
/// that have an extension; the others it ends between two invocations, when nothing is lost.
async fn ended(home: &Home, at_work: &Mutex<()>) {
    match signal(SignalKind::terminate()) {
        Ok(mut end) => drop(end.recv().await),
        Err(error) => {
            tracing::warn!(%error, "nobody can say that the environment is to end");
            return std::future::pending().await;
        }
    }
    home.runtime.drain();
    drop(at_work.lock().await);
    tokio::time::sleep(ANSWERED).await;
}

/// One invocation.
async fn invoke(home: &Home, function: Function, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let LambdaEvent { payload, context } = event;
    let invocation = Invocation { remaining: remaining(home, &context) };
    let runtime = &home.runtime;
    match function {
        Function::Step => {
            let event: SqsEvent = serde_json::from_value(payload)?;
            Ok(serde_json::to_value(messages::step(runtime, event, invocation).await)?)
        }
        Function::Resume => {
            let event: SqsEvent = serde_json::from_value(payload)?;
            Ok(serde_json::to_value(messages::resume(runtime, event, invocation).await)?)
        }
        Function::Sweep => sweep::sweep(runtime, invocation.remaining).await.map(|()| Value::Null),
        Function::Start if bus::is_event(&payload) => {
            Ok(bus::deliver(runtime, &home.listeners, payload).await?.into())
        }
        Function::Start | Function::Approval | Function::Api => {
            let request: LambdaRequest = serde_json::from_value(payload)?;
            let answer = |request: lambda_http::Request| async move {
                let answer = web::answer(&home.api, function, request.map(Body::new)).await;
                Ok::<Response, Error>(answer)
            };
            let mut gateway = Adapter::from(service_fn(answer));
            Ok(serde_json::to_value(gateway.call(LambdaEvent::new(request, context)).await?)?)
        }
    }
}

/// The time that is left of an invocation.
fn remaining(home: &Home, context: &Context) -> Duration {
    let now: Timestamp = home.runtime.ports().clock.now();
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    Duration::from_millis(context.deadline.saturating_sub(now))
}
