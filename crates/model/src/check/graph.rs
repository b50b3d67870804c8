//! Reachability within one list of states.

use std::collections::HashMap;
use std::collections::HashSet;

use crate::Block;
use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::OnReject;
use crate::OnTimeout;
use crate::State;
use crate::StateId;
use crate::read::Reader;

/// Reports states that nobody reaches, and those that never come to an end. Silent when a state of the list could not be
/// read: what it leads to is not known.
pub(crate) fn transitions(reader: &mut Reader<'_>, block: &Block) {
    let states: Option<Vec<&State>> =
        block.states.iter().map(|id| reader.states.get(id.0 as usize).and_then(Option::as_ref)).collect();
    let Some(states) = states else { return };
    if block.states.iter().any(|id| reader.lost.transitions.contains(id)) {
        return;
    }
    let mut onward: HashMap<StateId, Vec<StateId>> = HashMap::new();
    let mut back: HashMap<StateId, Vec<StateId>> = HashMap::new();
    for state in &states {
        for target in targets(state) {
            onward.entry(state.id).or_default().push(target);
            back.entry(target).or_default().push(state.id);
        }
    }
    let reached = closure([block.start], &[&onward]);
    let ending = closure(states.iter().filter(|state| ends(state)).map(|state| state.id), &[&back]);
    let mut found = Vec::new();
    // What hangs on an unreachable state is unreachable with it: only the first of such a chain is told.
    let is_lost = |id: &StateId| !reached.contains(id);
    let begins = |id: StateId| {
        !back.get(&id).is_some_and(|from| from.iter().any(|other| is_lost(other) && *other != id))
    };
    let mut unreached =
        closure(block.states.iter().copied().filter(|id| is_lost(id) && begins(*id)), &[&onward]);
    let mut told: HashSet<StateId> = HashSet::new();
    for state in &states {
        if is_lost(&state.id) {
            if begins(state.id) || unreached.insert(state.id) {
                unreached.extend(closure([state.id], &[&onward]));
                let issue =
                    Issue::error(Code::UnreachableState, format!("no transition leads to `{}`", state.name))
                        .hint("lead to it from another state, or take it out");
                found.push((state.id, issue));
            }
        } else if !ending.contains(&state.id) && !told.contains(&state.id) {
            // All that hangs together with it is one loop: one issue, at its first state in the file.
            told.extend(closure([state.id], &[&onward, &back]).into_iter().filter(|id| !ending.contains(id)));
            let issue = Issue::error(
                Code::NoEnd,
                format!("from `{}` no end can be reached: it would run for ever", state.name),
            )
            .hint("lead out of the loop: a `switch` that goes to a state with `end: true`");
            found.push((state.id, issue));
        }
    }
    for (id, issue) in found {
        reader.report_state(id, issue);
    }
}

/// Where a state may go on to.
pub(super) fn targets(state: &State) -> Vec<StateId> {
    let mut targets: Vec<StateId> = state.next.into_iter().collect();
    match &state.kind {
        Kind::Switch(switch) => {
            targets.extend(switch.cases.iter().map(|(_, target)| *target));
            targets.extend(switch.default);
        }
        Kind::Approval(approval) => {
            if let OnReject::Goto(target) = approval.on_reject {
                targets.push(target);
            }
            if let OnTimeout::Goto(target) = approval.on_timeout {
                targets.push(target);
            }
        }
        Kind::Signal(signal) => targets.extend(signal.on_timeout),
        _ => {}
    }
    targets
}

fn ends(state: &State) -> bool {
    match &state.kind {
        Kind::Fail(_) | Kind::Succeed(_) => true,
        Kind::Switch(_) => false,
        _ => state.next.is_none(),
    }
}

/// All that can be reached from some states by some edges.
fn closure(
    from: impl IntoIterator<Item = StateId>,
    edges: &[&HashMap<StateId, Vec<StateId>>],
) -> HashSet<StateId> {
    let mut open: Vec<StateId> = from.into_iter().collect();
    let mut reached: HashSet<StateId> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        for target in edges.iter().filter_map(|map| map.get(&id)).flatten() {
            if reached.insert(*target) {
                open.push(*target);
            }
        }
    }
    reached
}
