//! From what the runtime says to what the API answers.

use axum::http::StatusCode;
use expression::Object;
use expression::Value;
use model::Issue;
use model::Violation;
use runtime::ControlError;
use runtime::RegisterError;
use runtime::StartError;
use runtime::VoteError;
use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;

use crate::Error;

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let status = match error.kind {
            _ if error.code == "CURSOR_INVALID" => StatusCode::BAD_REQUEST,
            StoreErrorKind::Unavailable | StoreErrorKind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
            StoreErrorKind::Permanent => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code, error.message)
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        use runtime::Error as E;
        let status = match &error {
            E::Store(_) => {
                let E::Store(error) = error else {
                    return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "STORE", "");
                };
                return error.into();
            }
            E::RunNotFound { .. } => StatusCode::NOT_FOUND,
            E::Contended { .. } | E::Aborted { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            StartError::Other(error) => error.into(),
            StartError::WorkflowNotFound { .. } => Self::new(StatusCode::NOT_FOUND, code, message)
                .hint("GET /api/v1/workflows lists what there is"),
            StartError::WorkflowDisabled { .. } | StartError::KeyReused { .. } => {
                Self::new(StatusCode::CONFLICT, code, message)
            }
            StartError::Input { violations, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
                    .details(list("violations", violations.iter().map(violation)))
            }
            StartError::InputNotObject { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message),
        }
    }
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Other(error) => error.into(),
            error => {
                let refused = Self::new(StatusCode::CONFLICT, error.code(), error.to_string());
                match error.status() {
                    Some(status) => {
                        refused.details(Object::from_iter([("status", status.to_string())]).into())
                    }
                    None => refused,
                }
            }
        }
    }
}

impl From<VoteError> for Error {
    fn from(error: VoteError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            VoteError::Other(error) => error.into(),
            VoteError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, code, message),
            VoteError::Settled { decision, status, .. } => {
                let mut details = Object::new();
                details.insert("status", status.to_string());
                details.insert("decision", decision);
                Self::new(StatusCode::CONFLICT, code, message).details(details.into())
            }
            VoteError::DecidedOtherwise { vote, .. } => {
                let mut details = Object::new();
                details.insert("approve", vote.approve);
                details.insert("approver", vote.approver);
                details.insert("comment", vote.comment);
                Self::new(StatusCode::CONFLICT, code, message)
                    .details(Object::from_iter([("vote", Value::from(details))]).into())
            }
            VoteError::NotAnApprover { .. } | VoteError::StarterMayNotDecide { .. } => {
                Self::new(StatusCode::FORBIDDEN, code, message)
            }
            VoteError::Form { violations } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
                .details(list("violations", violations.iter().map(violation))),
        }
    }
}

impl From<RegisterError> for Error {
    fn from(error: RegisterError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            RegisterError::Store(error) => error.into(),
            RegisterError::Invalid { issues } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
                .details(list("issues", issues.iter().map(issue))),
            RegisterError::VersionTaken { .. } => Self::new(StatusCode::CONFLICT, code, message)
                .hint("change `version`, or ask with ?newVersion=true"),
        }
    }
}

fn list(name: &str, items: impl Iterator<Item = Value>) -> Value {
    Object::from_iter([(name, items.collect::<Value>())]).into()
}

fn violation(violation: &Violation) -> Value {
    Object::from_iter([("path", violation.path.as_str()), ("message", violation.message.as_str())]).into()
}

fn issue(issue: &Issue) -> Value {
    serde_json::to_value(issue).map(Value::from).unwrap_or_default()
}
