//! What can go wrong, as runtime's `StoreError` with the code of its page.

use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::error::SdkError;
use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;

/// The queue cannot be reached, or asks for less.
pub(crate) const QUEUE_UNAVAILABLE: &str = "QUEUE_UNAVAILABLE";
/// The queue refuses what was asked.
pub(crate) const QUEUE_REFUSED: &str = "QUEUE_REFUSED";

/// The codes of this crate's errors; each has its page in `docs/errors`.
pub const CODES: &[(&str, &str)] = &[
    (QUEUE_UNAVAILABLE, "an SQS queue cannot be reached, or asks for less"),
    (QUEUE_REFUSED, "an SQS queue refuses what was asked of it"),
];

pub(crate) fn unavailable(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Unavailable, code: QUEUE_UNAVAILABLE, message }
}

pub(crate) fn refused(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Permanent, code: QUEUE_REFUSED, message }
}

/// What a request's error means. That a doorbell may have rung all the same is of no interest: it may ring twice.
pub(crate) fn request<E, R>(what: &str, url: &str, error: &SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let message = format!("{what} `{url}` failed: {}", DisplayErrorContext(error));
    match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some(code) if is_lasting(code) => refused(message),
        _ => unavailable(message),
    }
}

/// Whether this code of SQS says that trying again will not help. What is unknown may pass.
fn is_lasting(code: &str) -> bool {
    let code = code.rsplit('#').next().unwrap_or(code);
    [
        "AccessDenied",
        "AccessDeniedException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "InvalidAddress",
        "InvalidMessageContents",
        "InvalidParameterValue",
        "InvalidSecurity",
        "UnsupportedOperation",
        "AWS.SimpleQueueService.UnsupportedOperation",
        "BatchRequestTooLong",
        "AWS.SimpleQueueService.BatchRequestTooLong",
    ]
    .contains(&code)
}

/// Whether this code of an entry says that the message of a receipt is over, or visible again.
pub(crate) fn is_gone(code: &str) -> bool {
    let code = code.rsplit('.').next().unwrap_or(code).trim_end_matches("Exception");
    ["InvalidParameterValue", "ReceiptHandleIsInvalid", "MessageNotInflight"].contains(&code)
}
