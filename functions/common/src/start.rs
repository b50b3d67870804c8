//! What creates runs: requests, signed deliveries, events of the bus.

use lambda_runtime::Error;
use runtime::Runtime;
use serde_json::Value;

use crate::Configuration;
use crate::Function;
use crate::Invocation;
use crate::bus;
use crate::bus::Listeners;
use crate::web;

/// Creates runs: by the API, by webhooks, by events of a bus.
pub struct Start {
    runtime: Runtime,
    api: http_api::Api,
    listeners: Listeners,
}

impl Function for Start {
    const NAME: &'static str = "start";

    fn new(runtime: Runtime, configuration: &Configuration) -> Self {
        let api = http_api::Api::of_starts(runtime.clone())
            .with_home(web::home(configuration))
            .with_secrets(web::secrets());
        Self { runtime, api, listeners: Listeners::default() }
    }

    async fn answer(&self, payload: Value, _: Invocation) -> Result<Value, Error> {
        if bus::is_event(&payload) {
            return Ok(bus::deliver(&self.runtime, &self.listeners, payload).await?.into());
        }
        web::answer(&self.api, payload).await
    }
}
