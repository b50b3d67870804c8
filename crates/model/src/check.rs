//! What can only be seen from above: whether states are reached and end, whether names are written by anybody, whether
//! what one agent returns fits what the next one takes.

mod flow;
mod graph;
mod names;

use crate::Workflow;
use crate::read::Reader;

pub(crate) use graph::transitions;

/// Builds the workflow's names and checks what needs the whole of it.
pub(crate) fn workflow(reader: &mut Reader<'_>, workflow: &mut Workflow) {
    workflow.names = names::build(workflow);
    names::check(reader, workflow);
    flow::check(reader, workflow);
}
