//! What makes a tree valid again after something was put into it or cut out of it.

use std::collections::BTreeSet;

use super::Flow;
use super::cues::Act;
use super::tree::Body;
use super::tree::Definition;
use super::tree::Join;
use super::tree::Kind;
use super::tree::Node;
use super::tree::Work;

/// Cuts off what nothing leads to or nobody calls. `None` where something is missing that must be there.
pub(super) fn mend(mut flow: Flow) -> Option<Flow> {
    for definition in flow.children.iter_mut().chain([&mut flow.main]) {
        definition.states = list(std::mem::take(&mut definition.states), true)?;
        block(&mut definition.states)?;
    }
    let mut called = BTreeSet::new();
    calls(&flow.main, &mut called);
    for child in flow.children.iter().rev() {
        if called.contains(&child.id) {
            calls(child, &mut called);
        }
    }
    flow.children.retain(|child| called.remove(&child.id));
    if !called.is_empty() {
        return None;
    }
    // A pause that nobody ends would be waited on for ever; one that a cancel overtook is there again after a redrive.
    let last = |act: &Act| flow.cues.iter().rposition(|cue| cue.act == *act);
    let resumed = last(&Act::Resume).filter(|resumed| last(&Act::Redrive) < Some(*resumed));
    let mut index = 0;
    flow.cues.retain(|cue| {
        index += 1;
        cue.act != Act::Pause || resumed.is_some_and(|resumed| index <= resumed)
    });
    Some(flow)
}

fn calls(definition: &Definition, called: &mut BTreeSet<String>) {
    definition.each(&mut |node| {
        if let Kind::Workflow { workflow, .. } = &node.kind {
            called.insert(workflow.clone());
        }
    });
}

/// Mends a list and all in it; `whole`: it is a list of its own, not a way through another.
fn list(nodes: Vec<Node>, whole: bool) -> Option<Vec<Node>> {
    let mut mended = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        for (is_way, inner) in node.lists_mut() {
            *inner = list(std::mem::take(inner), !is_way)?;
        }
        single(&mut node)?;
        let goes_on = falls_through(&node);
        mended.push(node);
        if !goes_on {
            break;
        }
    }
    (!whole || !mended.is_empty()).then_some(mended)
}

fn single(node: &mut Node) -> Option<()> {
    match &mut node.kind {
        Kind::Approval { approvers, quorum, .. } => {
            if let Some(count) = quorum
                && !approvers.is_empty()
            {
                *count = (*count).min(u32::try_from(approvers.len()).unwrap_or(1));
            }
        }
        Kind::Switch { arms, default, .. } => {
            if arms.is_empty() {
                return None;
            }
            if default.is_none() {
                node.condition = None;
            }
        }
        Kind::Parallel { branches, join, .. } => {
            if branches.is_empty() {
                return None;
            }
            if let Join::Count(count) = join {
                *count = (*count).clamp(1, u32::try_from(branches.len()).unwrap_or(1));
            }
            for branch in branches {
                if branch.body.states().is_some_and(|states| passes_on(states)) && branch.output.is_empty() {
                    branch.output = vec![("passed".to_owned(), "$.workflow.id".to_owned())];
                }
            }
        }
        Kind::Foreach { body: Body::States(states), output, .. }
            if passes_on(states) && output.is_empty() =>
        {
            *output = vec![("passed".to_owned(), "$._index".to_owned())];
        }
        Kind::Try { catches, finally, .. } => {
            if catches.is_empty() && finally.is_none() {
                return None;
            }
            let mut seen = BTreeSet::new();
            let mut takes_all = false;
            catches.retain_mut(|clause| {
                if takes_all {
                    return false;
                }
                takes_all = clause.errors.is_empty();
                clause.errors.retain(|kind| seen.insert(kind.clone()));
                takes_all || !clause.errors.is_empty()
            });
        }
        Kind::Signal { timeout: None, on_timeout, .. } => *on_timeout = None,
        _ => {}
    }
    for work in works(&mut node.kind) {
        let mut seen = BTreeSet::new();
        let mut takes_all = false;
        work.retry.retain_mut(|rule| {
            if let Some(max) = &mut rule.max_backoff {
                *max = (*max).max(rule.backoff);
            }
            if takes_all {
                return false;
            }
            takes_all = rule.on.is_empty();
            rule.on.retain(|kind| seen.insert(kind.clone()));
            takes_all || !rule.on.is_empty()
        });
    }
    Some(())
}

fn works(kind: &mut Kind) -> Vec<&mut Work> {
    match kind {
        Kind::Agent { work, .. } | Kind::Foreach { body: Body::Agent(work), .. } => vec![work],
        Kind::Parallel { branches, .. } => branches
            .iter_mut()
            .filter_map(|branch| match &mut branch.body {
                Body::Agent(work) => Some(work),
                Body::States(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Mends each block's loops back: to a state of the same block that does not count itself, or not at all.
fn block(states: &mut Vec<Node>) -> Option<()> {
    let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
    names_in(states, &mut names, &mut targets).then_some(())?;
    loops(states, &targets);
    whole(states)
}

/// False when two states of a block have one name.
fn names_in(states: &[Node], names: &mut BTreeSet<String>, targets: &mut BTreeSet<String>) -> bool {
    states.iter().all(|node| {
        if !matches!(node.kind, Kind::Again { .. }) {
            targets.insert(node.name.clone());
        }
        names.insert(node.name.clone())
            && node
                .lists()
                .into_iter()
                .filter(|(is_way, _)| *is_way)
                .all(|(_, way)| names_in(way, names, targets))
    })
}

fn loops(states: &mut Vec<Node>, targets: &BTreeSet<String>) {
    states.retain(|node| !matches!(&node.kind, Kind::Again { to, .. } if !targets.contains(to)));
    for node in states {
        for (_, way) in node.lists_mut().into_iter().filter(|(is_way, _)| *is_way) {
            loops(way, targets);
        }
    }
}

fn whole(states: &mut [Node]) -> Option<()> {
    if states.is_empty() {
        return None;
    }
    inner_blocks(states)
}

fn inner_blocks(states: &mut [Node]) -> Option<()> {
    for node in states {
        for (is_way, inner) in node.lists_mut() {
            if is_way { inner_blocks(inner)? } else { block(inner)? }
        }
    }
    Some(())
}

/// Whether what stands behind a node is reached through it.
pub(super) fn falls_through(node: &Node) -> bool {
    if node.end {
        return false;
    }
    match &node.kind {
        Kind::Fail { .. } | Kind::Succeed { .. } => node.condition.is_some(),
        Kind::Switch { arms, default, .. } => {
            arms.iter().map(|arm| &arm.states).chain(default).any(|list| list.iter().all(falls_through))
        }
        _ => true,
    }
}

/// Whether what flows into a list may come out of it again. In branches and iterations it would be copied, and a loop
/// around them would copy the copies.
fn passes_on(list: &[Node]) -> bool {
    list.iter().all(|node| {
        node.condition.is_some()
            || match &node.kind {
                Kind::Wait { .. } | Kind::Until { .. } => true,
                Kind::Switch { arms, default, .. } => {
                    arms.iter().map(|arm| &arm.states).chain(default).any(|list| passes_on(list))
                }
                Kind::Succeed { output } => output.is_empty(),
                Kind::Try { body, catches, .. } => {
                    passes_on(body) || catches.iter().any(|clause| passes_on(&clause.states))
                }
                Kind::Workflow { input, .. } => input.is_none(),
                _ => false,
            }
    })
}
