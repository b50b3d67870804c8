//! A first walk over all lists of states: how many there are, and what they are called.

use std::sync::Arc;

use super::Reader;
use crate::yaml::Data;
use crate::yaml::Node;

/// What holds states (or `agent:` in their place) in a state, with the last part of its address.
pub(super) fn blocks(state: &Node) -> Vec<(String, &Node)> {
    let mut holders: Vec<(String, &Node)> = Vec::new();
    match state.get("type").and_then(Node::text).map_or("", |word| word) {
        "parallel" => {
            for (index, branch) in items(state.get("branches")).iter().enumerate() {
                let name = name_of(branch).map_or_else(|| index.to_string(), |name| address_part(&name));
                holders.push((format!("branches/{name}"), branch));
            }
        }
        "foreach" | "while" => holders.push(("iterator".to_owned(), state.get("iterator").unwrap_or(state))),
        "try" => {
            holders.extend(state.get("try").map(|holder| ("try".to_owned(), holder)));
            for (index, clause) in one_or_each(state.get("catch")).into_iter().enumerate() {
                holders.push((format!("catch/{index}"), clause));
            }
            holders.extend(state.get("finally").map(|holder| ("finally".to_owned(), holder)));
        }
        _ => {}
    }
    holders.retain(|(_, holder)| holder.get("states").is_some() || holder.get("agent").is_some());
    holders
}

/// The items of a list; nothing when it is none.
pub(crate) fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.data) {
        Some(Data::List(items)) => items,
        _ => &[],
    }
}

/// One mapping as a list of one.
pub(crate) fn one_or_each(node: Option<&Node>) -> Vec<&Node> {
    match node.map(|node| (node, &node.data)) {
        Some((_, Data::List(items))) => items.iter().collect(),
        Some((node, _)) => vec![node],
        None => Vec::new(),
    }
}

/// A name as part of an address.
pub(super) fn address_part(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// The name by which a state or branch is known.
pub(super) fn name_of(node: &Node) -> Option<Arc<str>> {
    node.get("id").or_else(|| node.get("name")).and_then(Node::text).cloned()
}

/// How many states a state is, with those inside it.
pub(super) fn count(state: &Node) -> u32 {
    let inside = blocks(state);
    inside.iter().map(|(_, holder)| holder.get("states").map_or(1, count_list)).fold(1, u32::saturating_add)
}

pub(super) fn count_list(states: &Node) -> u32 {
    items(Some(states)).iter().map(count).fold(0, u32::saturating_add)
}

impl Reader<'_> {
    /// Notes all names, so that a transition into another list can be told from one to nowhere.
    pub(super) fn survey(&mut self, states: &Node, address: &str) {
        for state in items(Some(states)) {
            let Some(name) = name_of(state) else { continue };
            let own = format!("{address}{}", address_part(&name));
            self.addresses.entry(name).or_default().push(own.as_str().into());
            for (part, holder) in blocks(state) {
                if let Some(inner) = holder.get("states") {
                    self.survey(inner, &format!("{own}/{part}/"));
                }
            }
        }
    }
}
