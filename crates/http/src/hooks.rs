//! Webhooks: a signed request to `/hooks/{workflow}/{name}` starts a run, once for each delivery.
//!
//! Nothing is answered that costs more for a name that exists than for one that does not: the body is read, the
//! definition looked up and a signature computed either way.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;
use engine::RunId;
use engine::Trigger;
use expression::Object;
use expression::Value;
use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use jiff::Timestamp;
use model::Signature;
use model::Webhook;
use parking_lot::Mutex;
use runtime::Runtime;
use runtime::StartError;
use runtime::StartRequest;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::RunStatus;
use sha2::Sha256;

use crate::Error;
use crate::api::Answer;
use crate::api::Shape;
use crate::api::Shared;
use crate::documents;
use crate::error::json;
use crate::extract::Segments;
use crate::extract::content_type;
use crate::extract::decode;
use crate::extract::is_json;
use crate::extract::read;

/// A delivery may have so many bytes: it is read before anybody knows who sent it.
pub const HOOK_BODY_LIMIT: usize = 2 << 20;
/// A delivery's time may be so many seconds away from ours, either way.
const WINDOW_SECONDS: u64 = 300;
/// Definitions whose webhooks are remembered.
const KEPT: usize = 1_024;
/// Stands in for a secret where there is none, so that a signature is computed all the same.
const NO_SECRET: &[u8] = b"there is no such webhook";

/// The webhooks of the definitions seen so far, by hash.
#[derive(Default)]
pub(crate) struct Hooks {
    known: Mutex<HashMap<Arc<str>, Arc<[Webhook]>>>,
}

/// `POST /hooks/{workflow}/{name}`.
pub(crate) async fn receive(
    State(shared): Shape,
    Segments((workflow, name)): Segments<(Arc<str>, Arc<str>)>,
    request: Request,
) -> Answer {
    let headers = request.headers().clone();
    let body = read(request, HOOK_BODY_LIMIT).await?;
    let webhook = shared.hooks.find(&shared.runtime, &workflow, &name).await?;
    let secret = match &webhook {
        Some(webhook) => Some(shared.secret(&workflow, webhook).await?),
        None => None,
    };
    let signature = webhook.as_ref().map(|webhook| webhook.signature).unwrap_or_default();
    let key = secret.as_ref().map_or(NO_SECRET, |secret| secret.as_bytes());
    let delivery = delivery(signature, &headers, &body, key, shared.runtime.ports().clock.now());
    let Some(webhook) = webhook else { return Err(not_found(&workflow, &name)) };
    let delivery = delivery?;
    // Sent when the webhook is made, to see whether it answers.
    if signature == Signature::GitHub && text(&headers, "x-github-event") == Some("ping") {
        return Ok(json(StatusCode::OK, &Value::from(Object::from_iter([("status", "ok")]))));
    }
    let input = input(&webhook, &headers, &body)?;
    shared.start_delivery(&workflow, &webhook, delivery, input).await
}

impl Hooks {
    /// The webhook of this name in the active definition, or in the one that is disabled: who signs rightly is told so.
    async fn find(&self, runtime: &Runtime, workflow: &str, name: &str) -> Result<Option<Webhook>, Error> {
        let kind = DefinitionKind::Workflow;
        let definition = match runtime.definition(kind, workflow, None).await? {
            Some(definition) => Some(definition),
            None => runtime.versions(kind, workflow).await?.into_iter().next(),
        };
        let Some(definition) = definition else { return Ok(None) };
        Ok(self.of(&definition).iter().find(|webhook| &*webhook.name == name).cloned())
    }

    fn of(&self, definition: &Definition) -> Arc<[Webhook]> {
        if let Some(webhooks) = self.known.lock().get(&definition.hash) {
            return webhooks.clone();
        }
        let file = definition.file.as_deref().unwrap_or("workflow.yaml");
        let options = model::Options { file, agents: None, workflows: None };
        let workflow = model::parse(&definition.source, &options).workflow;
        let triggers = workflow.map(|workflow| workflow.triggers).unwrap_or_default();
        let webhooks: Arc<[Webhook]> = triggers
            .into_iter()
            .filter_map(|trigger| match trigger {
                model::Trigger::Webhook(webhook) => Some(webhook),
                _ => None,
            })
            .collect();
        let mut known = self.known.lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(definition.hash.clone(), webhooks.clone());
        webhooks
    }
}

impl Shared {
    async fn secret(&self, workflow: &str, webhook: &Webhook) -> Result<String, Error> {
        let found = match (&webhook.secret, &self.given.secrets) {
            (Some(reference), Some(secrets)) => secrets.secret(reference).await,
            (Some(_), None) => Err("this home knows no secrets".to_owned()),
            (None, _) => Err("the trigger names no `secret`".to_owned()),
        };
        let found = match found {
            Ok(secret) if secret.is_empty() => Err("it is empty".to_owned()),
            found => found,
        };
        found.map_err(|error| {
            tracing::error!(workflow, webhook = %webhook.name, %error, "a webhook's secret cannot be had");
            let message = format!("the webhook `{}` cannot check signatures: it has no secret", webhook.name);
            Error::new(StatusCode::SERVICE_UNAVAILABLE, "WEBHOOK_NO_SECRET", message)
                .hint("the log of the server says why")
        })
    }

    async fn start_delivery(
        &self,
        workflow: &Arc<str>,
        webhook: &Webhook,
        delivery: Arc<str>,
        input: Value,
    ) -> Result<Response, Error> {
        let request = StartRequest {
            run_id: Some(RunId::from_delivery(workflow, &webhook.name, &delivery)),
            trigger: Trigger::Webhook { name: webhook.name.clone(), delivery: delivery.clone() },
            ..StartRequest::new(workflow.clone(), input)
        };
        let started = self.runtime.start(request).await.map_err(|error| match error {
            StartError::KeyReused { run } => {
                let message =
                    format!("the delivery `{delivery}` was received before, with other content: run {run}");
                Error::new(StatusCode::CONFLICT, "KEY_REUSED", message)
                    .hint("give each delivery an id of its own")
            }
            error => error.into(),
        })?;
        let status = if started.created {
            RunStatus::Pending
        } else {
            self.runtime.get(&started.run).await?.summary.status
        };
        let document = documents::Started {
            run_id: &started.run,
            workflow_id: workflow,
            status,
            created: started.created,
            output: None,
            error: None,
        };
        Ok(json(if started.created { StatusCode::ACCEPTED } else { StatusCode::OK }, &document))
    }
}

/// The id of a delivery that is signed rightly. One without an id is known by its signature.
fn delivery(
    signature: Signature,
    headers: &HeaderMap,
    body: &[u8],
    secret: &[u8],
    now: Timestamp,
) -> Result<Arc<str>, Error> {
    match signature {
        Signature::Stepwell => {
            let time = required(headers, "stepwell-timestamp")?;
            let id = delivery_id(headers, "stepwell-delivery")?;
            let mut signed = vec![time.as_bytes()];
            signed.extend(id.map(str::as_bytes));
            signed.push(body);
            let digest = check(secret, &signed, required(headers, "stepwell-signature")?)?;
            // Only who knows the secret learns of our clock.
            let away = time.parse::<i64>().map(|time| time.abs_diff(now.as_second()));
            if !away.as_ref().is_ok_and(|away| *away <= WINDOW_SECONDS) {
                let message = format!(
                    "the delivery's time `{time}` is more than {WINDOW_SECONDS} s from now, {}",
                    now.as_second()
                );
                return Err(Error::new(StatusCode::UNAUTHORIZED, "WEBHOOK_TIMESTAMP", message).hint(
                    "send the seconds since 1970 in Stepwell-Timestamp, and sign again for a new attempt",
                ));
            }
            Ok(id.unwrap_or(&digest).into())
        }
        Signature::GitHub => {
            let digest = check(secret, &[body], required(headers, "x-hub-signature-256")?)?;
            Ok(delivery_id(headers, "x-github-delivery")?.unwrap_or(&digest).into())
        }
    }
}

/// Compares `sha256=HEX` with the HMAC over the pieces, joined by dots, in constant time; answers with the digits.
fn check(secret: &[u8], pieces: &[&[u8]], signature: &str) -> Result<String, Error> {
    let wrong = || {
        Error::new(StatusCode::UNAUTHORIZED, "WEBHOOK_SIGNATURE", "the request's signature is not right")
            .hint("sign the body as it is sent, byte for byte, with the webhook's secret")
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return Err(wrong()) };
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            mac.update(b".");
        }
        mac.update(piece);
    }
    let digits = signature.strip_prefix("sha256=").unwrap_or_default().to_ascii_lowercase();
    mac.verify_slice(&bytes(&digits).unwrap_or_default()).map_err(|_| wrong())?;
    Ok(digits)
}

/// From hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
            _ => None,
        })
        .collect()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn required<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Error> {
    text(headers, name).filter(|text| !text.is_empty()).ok_or_else(|| {
        let message = format!("the request is not signed: it has no header {name}");
        Error::new(StatusCode::UNAUTHORIZED, "WEBHOOK_SIGNATURE", message)
    })
}

/// No id can begin as a body does, so that the same signed text is never read in two ways.
fn delivery_id<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Error> {
    let Some(id) = headers.get(name) else { return Ok(None) };
    let fine = |id: &str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(&byte))
    };
    id.to_str().ok().filter(|id| fine(id)).map(Some).ok_or_else(|| {
        let message = format!("the header {name} must hold 1 to 128 letters, digits and -._~:/+=@");
        Error::new(StatusCode::BAD_REQUEST, "HEADER_INVALID", message)
    })
}

/// The body is the run's input; headers that the trigger names stand in it under `headers`.
fn input(webhook: &Webhook, headers: &HeaderMap, body: &[u8]) -> Result<Value, Error> {
    if !body.is_empty() && !is_json(headers) {
        return Err(content_type("application/json"));
    }
    let mut input: Value = if body.is_empty() { Value::object() } else { decode(body)? };
    if !webhook.headers.is_empty()
        && let Some(object) = input.object_mut()
    {
        let named = webhook.headers.iter().filter_map(|name| Some((&**name, text(headers, name)?)));
        object.insert("headers", named.collect::<Object>());
    }
    Ok(input)
}

fn not_found(workflow: &str, name: &str) -> Error {
    let message = format!("there is no webhook `{name}` of a workflow `{workflow}`");
    Error::new(StatusCode::NOT_FOUND, "WEBHOOK_NOT_FOUND", message)
        .hint("its path is /hooks/WORKFLOW/NAME; NAME is that of a trigger of type `webhook`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn judged(
        signature: Signature,
        pairs: &[(&'static str, &str)],
        body: &str,
        secret: &str,
        now: i64,
    ) -> String {
        let now = Timestamp::from_second(now).unwrap();
        match delivery(signature, &headers(pairs), body.as_bytes(), secret.as_bytes(), now) {
            Ok(id) => id.to_string(),
            Err(error) => error.code,
        }
    }

    /// GitHub's own example, from "Validating webhook deliveries".
    #[test]
    fn the_example_of_githubs_documentation_is_right() {
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let judge = |signature: &str, body: &str| {
            let pairs = [("x-hub-signature-256", signature), ("x-github-delivery", "72d3162e-cc78")];
            judged(Signature::GitHub, &pairs, body, "It's a Secret to Everybody", 0)
        };
        assert_eq!(judge(right, "Hello, World!"), "72d3162e-cc78");
        assert_eq!(
            judge(&right.to_uppercase().replace("SHA256", "sha256"), "Hello, World!"),
            "72d3162e-cc78"
        );
        for (signature, body) in [
            (right, "Hello, World"),
            (right.strip_prefix("sha256=").unwrap(), "Hello, World!"),
            (right.get(..70).unwrap(), "Hello, World!"),
            (right.get(..69).unwrap(), "Hello, World!"),
            ("sha256=", "Hello, World!"),
            ("sha256=zz", "Hello, World!"),
        ] {
            assert_eq!(judge(signature, body), "WEBHOOK_SIGNATURE", "{signature} {body}");
        }
    }

    /// Signatures by `printf %s 1700000000.d-1.{} | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn the_time_the_id_and_the_body_are_signed() {
        const WITH_ID: &str = "sha256=f48206851409062944c8fbcd6bad54efa6356c9d6e3613399d61a7d4287cdffb";
        const WITHOUT: &str = "sha256=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        let judge = |time: &str, id: Option<&str>, signature: &str, body: &str, now: i64| {
            let mut pairs = vec![("stepwell-timestamp", time), ("stepwell-signature", signature)];
            pairs.extend(id.map(|id| ("stepwell-delivery", id)));
            judged(Signature::Stepwell, &pairs, body, "secret", now)
        };
        let (time, now) = ("1700000000", 1_700_000_000);
        for (now, expected) in [
            (now, "d-1"),
            (now + 300, "d-1"),
            (now - 300, "d-1"),
            (now + 301, "WEBHOOK_TIMESTAMP"),
            (now - 301, "WEBHOOK_TIMESTAMP"),
        ] {
            assert_eq!(judge(time, Some("d-1"), WITH_ID, "{}", now), expected, "{now}");
        }
        // Without an id a delivery is known by what it says and when.
        assert_eq!(judge(time, None, WITHOUT, "{}", now), WITHOUT.strip_prefix("sha256=").unwrap());
        for (time, id, signature, body) in [
            ("1700000001", Some("d-1"), WITH_ID, "{}"),
            (time, Some("d-2"), WITH_ID, "{}"),
            (time, None, WITH_ID, "{}"),
            (time, Some("d-1"), WITHOUT, "{}"),
            (time, Some("d-1"), WITH_ID, "{ }"),
        ] {
            assert_eq!(judge(time, id, signature, body, now), "WEBHOOK_SIGNATURE", "{time} {id:?} {body}");
        }
        assert_eq!(judge(time, Some("{\"a\":"), WITH_ID, "{}", now), "HEADER_INVALID");
        assert_eq!(judged(Signature::Stepwell, &[], "{}", "secret", now), "WEBHOOK_SIGNATURE");
    }
}
