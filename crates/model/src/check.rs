//! What can only be seen from above: whether states are reached and end, whether names are written by anybody, whether
//! what one agent returns fits what the next one takes.

mod flow;
mod graph;
mod names;

use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::Workflow;
use crate::read::DEFAULT_APPROVAL_DEADLINE;
use crate::read::Reader;

pub(crate) use graph::transitions;

/// Builds the workflow's names and checks what needs the whole of it.
pub(crate) fn workflow(reader: &mut Reader<'_>, workflow: &mut Workflow) {
    workflow.names = names::build(workflow);
    timeouts(reader, workflow);
    names::check(reader, workflow);
    flow::check(reader, workflow);
}

/// Limits that the run's own limit leaves no time for.
fn timeouts(reader: &mut Reader<'_>, workflow: &Workflow) {
    let Some(whole) = workflow.timeout else { return };
    for state in workflow.states() {
        let limit = match &state.kind {
            // The default says nothing about what its author thought.
            Kind::Approval(approval) if approval.deadline != DEFAULT_APPROVAL_DEADLINE => {
                Some(approval.deadline)
            }
            Kind::Signal(signal) => signal.timeout,
            _ => state.timeout,
        };
        if limit.is_some_and(|limit| limit > whole) {
            let issue = Issue::warning(
                Code::BadTimeout,
                format!("`{}` may take longer than the whole run, so its limit is never reached", state.name),
            )
            .hint("shorten it, or raise the workflow's `timeoutSeconds`");
            reader.report_state(state.id, issue);
        }
    }
}
