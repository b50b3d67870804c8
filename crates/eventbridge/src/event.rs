//! What a notice looks like on the bus: its source, its detail type, its detail.
//!
//! | detail type | in the detail, beside `id`, `runId`, `workflowId` and `version` |
//! | --- | --- |
//! | `Workflow Run Status Change` | `status`, `previousStatus`, `startedAt`, `changedAt`, `endedAt`, `error: {type, code}` |
//! | `Workflow Approval Requested` | `approvalId`, `state`, `scope`, `requestedAt`, `deadline` |
//! | `Workflow Approval Settled` | `approvalId`, `state`, `scope`, `settled` (`APPROVED`, `REJECTED`, `TIMED_OUT`, `WITHDRAWN`), `settledAt` |
//! | `Workflow Run Stuck` | `code`, `at` |
//!
//! Times are RFC 3339; what is not known is left out. No value of a run is in it: no input, no output, no message.

use runtime::ports::News;
use runtime::ports::Notice;
use runtime::ports::Place;
use runtime::ports::Settled;
use serde_json::Value;
use serde_json::json;

/// The source of all events.
pub const SOURCE: &str = "stepwell";

/// The type of a notice's detail, by which rules choose.
pub fn detail_type(notice: &Notice) -> &'static str {
    match notice.news {
        News::Status { .. } => "Workflow Run Status Change",
        News::ApprovalRequested { .. } => "Workflow Approval Requested",
        News::ApprovalSettled { .. } => "Workflow Approval Settled",
        News::Stuck { .. } => "Workflow Run Stuck",
    }
}

/// A notice's detail.
pub fn detail(notice: &Notice) -> Value {
    let at = notice.at.to_string();
    let mut detail = json!({
        "id": &*notice.id,
        "runId": notice.run.as_str(),
        "workflowId": &*notice.workflow,
        "version": &*notice.version,
    });
    let more = match &notice.news {
        News::Status { status, previous, started_at, error } => json!({
            "status": status.to_string(),
            "previousStatus": previous.map(|previous| previous.to_string()),
            "startedAt": started_at.to_string(),
            "changedAt": at,
            "endedAt": status.is_terminal().then_some(at),
            "error": error.as_ref().map(|(kind, code)| without_nulls(json!({"type": &**kind, "code": code.as_deref()}))),
        }),
        News::ApprovalRequested { approval, deadline } => {
            let mut more = place(approval);
            add(&mut more, json!({"requestedAt": at, "deadline": deadline.to_string()}));
            more
        }
        News::ApprovalSettled { approval, settled } => {
            let mut more = place(approval);
            add(&mut more, json!({"settled": name(*settled), "settledAt": at}));
            more
        }
        News::Stuck { code } => json!({"code": &**code, "at": at}),
    };
    add(&mut detail, more);
    without_nulls(detail)
}

fn place(approval: &Place) -> Value {
    json!({
        "approvalId": &*approval.approval,
        "state": &*approval.state,
        "scope": approval.scope.as_str(),
    })
}

fn name(settled: Settled) -> &'static str {
    match settled {
        Settled::Approved => "APPROVED",
        Settled::Rejected => "REJECTED",
        Settled::TimedOut => "TIMED_OUT",
        Settled::Withdrawn => "WITHDRAWN",
    }
}

fn add(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
    }
    object
}
