//! What an answer's status means for the workflow.
//!
//! An error is *definite*, so that the next attempt gets a new idempotency key, only where the service has taken the
//! request, decided about it and said no: most of 4xx, and 501. Everything else keeps the key, because nobody knows
//! whether the request took effect (5xx: the service may have failed half way; 408, 425, 429 and gateways' errors: it may
//! not have seen it), or because another request with the same key is still at work (409). To keep a key is never wrong:
//! at worst the service repeats its answer. To change it may do the work twice.

use std::time::Duration;

use engine::error_type;
use expression::Value;
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header;
use runtime::ports::CallError;

use super::client::Answer;
use super::client::Request;
use crate::error::Code;
use crate::error::agent_error;
use crate::error::failure;
use crate::error::head;
use crate::error::own_error;
use crate::secret::Redactor;

/// So much of an unexpected answer's body is shown.
const SHOWN: usize = 512;
/// No service may put a step off for longer.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Whether an answer is one of the expected; 200 to 299 where none is named.
pub(super) fn is_expected(status: StatusCode, expect: &[u16]) -> bool {
    if expect.is_empty() { super::is_success(status) } else { expect.contains(&status.as_u16()) }
}

/// The error that an unexpected answer is.
///
/// Secrets are taken out of the body before it is cut: one that the cut goes through would be none any more.
pub(super) fn unexpected(answer: &Answer, request: &Request, whom: &str, redactor: &Redactor) -> CallError {
    let status = answer.status;
    let text = String::from_utf8_lossy(&answer.body);
    let own = Value::parse_json(&text).ok().and_then(|body| own_error(&body));
    let said = match &own {
        Some((_, message)) => format!(": {message}"),
        None if text.trim().is_empty() => String::new(),
        None => format!(": {}", head(&redactor.text(text.trim()), SHOWN)),
    };
    let message = format!("{whom}: {} {} answered {status}{said}", request.method, request.uri);
    let kind = match own {
        Some((Some(kind), _)) => kind,
        _ if matches!(status.as_u16(), 400 | 422) => error_type::VALIDATION.to_owned(),
        _ => error_type::AGENT_ERROR.to_owned(),
    };
    let mut error = failure(Code::HttpStatus, &kind, message);
    error.definite = is_definite(status);
    error.retry_after = retry_after(&answer.headers);
    error
}

fn is_definite(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 409 | 425 | 429 => false,
        501 => true,
        other => (400..500).contains(&other),
    }
}

/// `Retry-After`: seconds, or a date, which is held against the answer's own date so that no two clocks need agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(header::RETRY_AFTER)?;
    let wait = if let Ok(seconds) = asked.parse() {
        Duration::from_secs(seconds)
    } else {
        let parse = |date: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok();
        let apart = parse(asked)?.duration_since(parse(text(header::DATE)?)?);
        apart.try_into().unwrap_or(Duration::ZERO)
    };
    Some(wait.min(LONGEST_WAIT))
}

impl Answer {
    /// The body as text.
    pub(super) fn text(&self, whom: &str) -> Result<String, CallError> {
        String::from_utf8(self.body.to_vec()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let message =
                format!("{whom}: the answer's body is not UTF-8 text, at byte {at} of {}", self.body.len());
            agent_error(Code::HttpAnswerNotText, message)
        })
    }

    /// Whether the answer says that it is JSON.
    pub(super) fn is_json(&self) -> bool {
        let media_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json")
            || media_type.to_ascii_lowercase().ends_with("+json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decided_no_is_definite() {
        let definite: Vec<_> =
            (400..600).filter(|status| is_definite(StatusCode::from_u16(*status).unwrap())).collect();
        assert!(definite.contains(&400) && definite.contains(&422) && definite.contains(&501));
        for open in [408, 409, 425, 429, 500, 502, 503, 504] {
            assert!(!definite.contains(&open), "{open}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_services_own_clock() {
        let cases = [
            (None, "7", Some(7)),
            (Some("Wed, 21 Oct 2015 07:28:00 GMT"), "Wed, 21 Oct 2015 07:29:30 GMT", Some(90)),
            (Some("Wed, 21 Oct 2015 07:28:00 GMT"), "Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            (None, "Wed, 21 Oct 2015 07:29:30 GMT", None),
            (None, "soon", None),
            (None, "99999999999", Some(86_400)),
        ];
        for (date, asked, seconds) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, asked.parse().unwrap());
            if let Some(date) = date {
                headers.insert(header::DATE, date.parse().unwrap());
            }
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{asked}");
        }
    }
}
