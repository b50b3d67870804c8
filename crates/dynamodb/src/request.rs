//! One request: what its failure means, and whether it is sent again.
//!
//! | answer | what became of it | sent again |
//! | --- | --- | --- |
//! | throttled; a transaction is in the way | nothing | yes |
//! | none, a broken one, or "internal error" | unknown | what is the same done twice: reads, and some writes |
//! | a condition is not met | nothing | no: it is the caller's to read |
//! | anything else | nothing | no: it would be refused again |
//!
//! An append whose answer is lost goes up to the caller, which reads before it appends again: it knows its own record by its
//! mark.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemError;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::query::QueryError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use tokio::time::Instant;

use crate::error::code;
use crate::error::permanent;
use crate::error::unavailable;
use crate::error::unknown;

/// The longest first pause, and the longest of all. They double in between; each is random below its length.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Sends requests, again where that may help.
#[derive(Debug)]
pub(crate) struct Requests {
    /// After this much time a request is not sent again.
    pub(crate) budget: Duration,
    pub(crate) jitter: Mutex<fastrand::Rng>,
}

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Sent twice, it does the same as once.
    Freely,
    /// Only when the one before has certainly done nothing.
    IfUntouched,
}

/// A request that failed for good.
#[derive(Debug)]
pub(crate) struct Failed<E> {
    pub(crate) error: StoreError,
    /// What the table answered, if it did.
    pub(crate) answer: Option<Box<E>>,
    /// It was not done because a condition is not met.
    pub(crate) unmet: bool,
}

impl<E> From<Failed<E>> for StoreError {
    fn from(failed: Failed<E>) -> Self {
        failed.error
    }
}

impl Requests {
    /// Sends a request until it is answered or `budget` is over. `what` names it in errors: `Query of table`.
    pub(crate) async fn send<T, E, F>(
        &self,
        what: impl Fn() -> String,
        again: Again,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failed<E>>
    where
        E: Answer,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let begun = Instant::now();
        let mut longest = PAUSES.0;
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let fault = fault(&error);
            let may = match fault {
                Fault::Untouched => true,
                Fault::Unknown => again == Again::Freely,
                Fault::Unmet | Fault::Refused => false,
            };
            let pause = longest.mul_f64(self.jitter.lock().f64());
            if !may || begun.elapsed() + pause > self.budget {
                return Err(failed(&what(), fault, error));
            }
            tracing::debug!(request = what(), error = chain(&error), "a request is sent again");
            tokio::time::sleep(pause).await;
            longest = (longest * 2).min(PAUSES.1);
        }
    }
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing was done, and it may be another time.
    Untouched,
    /// It may have been done.
    Unknown,
    /// A condition is not met.
    Unmet,
    /// It never will be done.
    Refused,
}

/// An operation's error.
pub(crate) trait Answer: ProvideErrorMetadata + Error + Send + Sync + 'static {
    /// What it means, where its code does not say.
    fn fault(&self) -> Option<Fault> {
        None
    }
}

impl Answer for GetItemError {}
impl Answer for BatchGetItemError {}
impl Answer for QueryError {}
impl Answer for PutItemError {}
impl Answer for UpdateItemError {}
impl Answer for DeleteItemError {}
impl Answer for BatchWriteItemError {}
impl Answer for TransactWriteItemsError {
    fn fault(&self) -> Option<Fault> {
        let Self::TransactionCanceledException(cancelled) = self else { return None };
        let codes = || cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
        let passing = |code| {
            matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
        };
        Some(if codes().any(|code| code == "ConditionalCheckFailed") {
            Fault::Unmet
        } else if codes().any(passing) {
            Fault::Untouched
        } else {
            Fault::Refused
        })
    }
}

fn fault<E: Answer>(error: &SdkError<E, HttpResponse>) -> Fault {
    match error {
        SdkError::ConstructionFailure(_) => Fault::Refused,
        SdkError::DispatchFailure(failure) if failure.is_user() => Fault::Refused,
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status();
            answer.err().fault().unwrap_or_else(|| match answer.err().code() {
                Some("ConditionalCheckFailedException") => Fault::Unmet,
                Some(
                    "ThrottlingException"
                    | "ProvisionedThroughputExceededException"
                    | "RequestLimitExceeded"
                    | "TransactionConflictException"
                    | "ReplicatedWriteConflictException"
                    // The credentials are renewed meanwhile, or the clock is set.
                    | "ExpiredTokenException"
                    | "RequestExpired",
                ) => Fault::Untouched,
                Some("TransactionInProgressException") => Fault::Unknown,
                _ if status.is_server_error() => Fault::Unknown,
                _ => Fault::Refused,
            })
        }
        _ => Fault::Unknown,
    }
}

fn failed<E: Answer>(what: &str, fault: Fault, error: SdkError<E, HttpResponse>) -> Failed<E> {
    let why = chain(&error);
    let error_of = match fault {
        Fault::Untouched => unavailable(
            code::THROTTLED,
            format!(
                "{what} was not done, the table is busy ({why}): it goes on by itself; if this lasts, look at the table's limits"
            ),
        ),
        Fault::Unknown => unknown(
            code::UNREACHABLE,
            format!(
                "{what} was not answered ({why}): check the network, the endpoint and the state of the service"
            ),
        ),
        Fault::Unmet | Fault::Refused => permanent(
            code::REFUSED,
            format!(
                "{what} was refused ({why}): check the table's name, its keys and indexes, and the permissions"
            ),
        ),
    };
    let answer = match error {
        SdkError::ServiceError(answer) => Some(Box::new(answer.into_err())),
        _ => None,
    };
    Failed { error: error_of, answer, unmet: fault == Fault::Unmet }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
