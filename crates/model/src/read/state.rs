//! Lists of states, and of each state what all have in common. What is special to a type is in `action` and `composite`.

use std::collections::HashMap;
use std::sync::Arc;

use super::Reader;
use super::Unreadable;
use super::survey;
use super::text::UseKind;
use super::to_value;
use crate::Block;
use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::State;
use crate::StateId;
use crate::check;
use crate::fields;
use crate::fields::Type;
use crate::yaml::Data;
use crate::yaml::Node;

/// Composite states in each other.
const MAX_NESTING: usize = 16;

/// A list of states, seen from one of them.
pub(super) struct Surroundings<'s> {
    /// The states that transitions can reach.
    pub(super) names: &'s HashMap<Arc<str>, StateId>,
    /// `review/branches/pods/`; empty at the top.
    pub(super) prefix: &'s str,
    pub(super) is_last: bool,
    /// Of the whole workflow, so that `cron` may stand there.
    pub(super) is_start: bool,
}

/// One state while it is read.
pub(super) struct Reading<'s> {
    pub(super) node: &'s Node,
    pub(super) id: StateId,
    pub(super) name: Arc<str>,
    pub(super) around: &'s Surroundings<'s>,
    /// By node: the first id and the address of each block in it.
    pub(super) blocks: HashMap<u32, (u32, String)>,
}

impl Reader<'_> {
    /// The states under `holder`, whose ids begin at `base`.
    pub(super) fn block(&mut self, holder: &Node, prefix: &str, base: u32, what: &str) -> Option<Block> {
        let Some(list) = holder.get("states") else {
            self.missing(holder, "states", what, "a list of states");
            return None;
        };
        let Data::List(items) = &list.data else {
            self.wrong_type(list, "states", "a list of states");
            return None;
        };
        if self.depth > MAX_NESTING {
            let issue = Issue::error(Code::YamlLimit, "lists of states stand in each other too deep here")
                .expected(format!("at most {MAX_NESTING} levels"))
                .hint("put the inner ones into a workflow of their own");
            self.report(list, issue);
            return None;
        }
        self.depth += 1;
        let block = self.states_of(holder, items, list, prefix, base, what);
        self.depth -= 1;
        block
    }

    fn states_of(
        &mut self,
        holder: &Node,
        items: &[Node],
        list: &Node,
        prefix: &str,
        base: u32,
        what: &str,
    ) -> Option<Block> {
        if items.is_empty() {
            self.bad_value(list, format!("{what} has no states"), "give it at least one");
            return None;
        }
        let mut ids = Vec::with_capacity(items.len());
        let mut next = base;
        for item in items {
            ids.push(StateId(next));
            next = next.saturating_add(survey::count(item));
        }
        let names = self.names_of(items, &ids);
        let first = *ids.first()?;
        let start = match holder.get("start") {
            Some(node) => self.target(node, "start", &names, prefix),
            None => Some(first),
        };
        if start.is_none() {
            self.lost.transitions.insert(first);
        }
        let end = ids.last().copied();
        for (item, id) in items.iter().zip(&ids) {
            let around = Surroundings {
                names: &names,
                prefix,
                is_last: Some(*id) == end,
                is_start: prefix.is_empty() && Some(*id) == start,
            };
            let outer = self.current;
            let state = self.state(item, *id, &around);
            self.current = outer;
            if let Some(slot) = self.states.get_mut(id.0 as usize) {
                *slot = Some(state);
            }
        }
        let block = Block { start: start.unwrap_or(first), states: ids };
        check::transitions(self, &block);
        Some(block)
    }

    fn names_of(&mut self, items: &[Node], ids: &[StateId]) -> HashMap<Arc<str>, StateId> {
        let mut names: HashMap<Arc<str>, StateId> = HashMap::new();
        let mut lines: HashMap<Arc<str>, u32> = HashMap::new();
        for (item, id) in items.iter().zip(ids) {
            let Some(node) = item.get("id").or_else(|| item.get("name")) else { continue };
            let Some(name) = node.text() else { continue };
            if let Some(line) = lines.get(name) {
                let issue =
                    Issue::error(Code::DuplicateName, format!("a second state with the name `{name}`"))
                        .hint(format!("the first is on line {line}; names are unique within their list"));
                self.report(node, issue);
                continue;
            }
            lines.insert(name.clone(), node.span.line);
            names.insert(name.clone(), *id);
        }
        names
    }

    /// A state. Of one that cannot be read the rest is still of use to the checks from above; the issues that have been
    /// reported refuse the workflow as a whole.
    fn state(&mut self, node: &Node, id: StateId, around: &Surroundings<'_>) -> State {
        let place = (node.span.line, node.span.column);
        if !matches!(node.data, Data::Map(_)) {
            self.wrong_type(node, "a state", "a mapping with `id` and `type`");
            self.lost.transitions.insert(id);
            self.lost.writes = true;
            return State::unreadable(id, "", place);
        }
        self.current = Some(id);
        self.pointers.insert(id, (self.document.pointer(node), node.span.line, node.span.column));
        let name = self.state_name(node);
        let kind = self.state_type(node);
        // What can be said without the name or the type is still said, but for what would follow from their absence.
        let next = self.onward(node, kind, around);
        let name = name.unwrap_or_else(|| format!("#{}", id.0).into());
        let Some(kind) = kind else {
            self.lost.transitions.insert(id);
            self.lost.writes = true;
            self.lost.kinds = true;
            return State::unreadable(id, &name, place);
        };
        let address: Arc<str> = format!("{}{}", around.prefix, survey::address_part(&name)).into();
        let mut first = id.0 + 1;
        let mut blocks = HashMap::new();
        for (part, holder) in survey::blocks(node) {
            blocks.insert(holder.id, (first, format!("{address}/{part}/")));
            first = first.saturating_add(holder.get("states").map_or(1, survey::count_list));
        }
        let reading = Reading { node, id, name: name.clone(), around, blocks };
        let title = if node.get("id").is_some() { self.text(node, "name") } else { None };
        if node.get("description").is_some() {
            self.text(node, "description");
        }
        let condition = node.get("if").and_then(|node| self.expression(node, "if", &UseKind::Name));
        if let (Type::Switch, Some(node_if), None) = (kind, node.get("if"), node.get("defaultNext")) {
            let issue = Issue::error(Code::MissingTransition, "a switch that is skipped goes nowhere")
                .hint("give it `defaultNext`: that is where it goes when its `if` is false");
            self.report(node_if, issue);
        }
        let timeout = match kind {
            Type::HumanApproval | Type::Signal | Type::Operation | Type::Agent => None,
            _ => self.timeout(node),
        };
        let read = self.kind(&reading, kind);
        let result_path = self.result_path(&reading, kind);
        let output = self.root_keys(&reading, kind);
        self.lost.writes |= result_path.is_err() || output.is_none();
        if next.is_err() || (read.is_none() && kind.has_targets()) {
            self.lost.transitions.insert(id);
        }
        self.lost.kinds |= read.is_none();
        let (kind, own_timeout) = read.unwrap_or((Kind::Succeed(None), None));
        State {
            name,
            title: title.map(|title| title.to_string()),
            address,
            condition,
            kind,
            result_path: result_path.unwrap_or_default(),
            output: output.unwrap_or_default(),
            next: next.unwrap_or_default(),
            timeout: timeout.or(own_timeout),
            ..State::unreadable(id, "", place)
        }
    }

    fn state_name(&mut self, node: &Node) -> Option<Arc<str>> {
        let key = if node.get("id").is_some() { "id" } else { "name" };
        if node.get(key).is_none() {
            self.missing(node, "id", "a state", "a text by which transitions and `steps` know it");
            return None;
        }
        self.name(node, key)
    }

    fn state_type(&mut self, node: &Node) -> Option<Type> {
        let Some(type_node) = node.get("type") else {
            self.missing(
                node,
                "type",
                "a state",
                "one of `operation`, `agent`, `human_approval`, `switch`, `parallel`, …",
            );
            return None;
        };
        let word = self.as_text(type_node, "type")?;
        if let Some(kind) = Type::from_word(&word) {
            return Some(kind);
        }
        if let Some((_, feature)) = fields::NOT_YET.iter().find(|(planned, _)| **planned == *word) {
            let issue =
                Issue::error(Code::NotYet, format!("`{word}` ({feature}) is planned and does not exist yet"));
            self.report(type_node, issue);
            return None;
        }
        let words = fields::TYPES
            .iter()
            .flat_map(|(_, name, also)| std::iter::once(*name).chain(also.iter().copied()));
        let near = fields::nearest(&word, words);
        let hint = match fields::ActionName::from_word(&word) {
            Some(_) => Some(format!("it is an action: write `type: operation` and `action: {word}`")),
            None => near.map(|near| format!("did you mean `{near}`?")),
        };
        let known = fields::TYPES.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ");
        let issue = Issue::error(Code::UnknownType, format!("there is no state type `{word}`"))
            .expected(known)
            .maybe_hint(hint);
        self.report(type_node, issue);
        None
    }

    /// Where it goes on.
    fn onward(
        &mut self,
        node: &Node,
        kind: Option<Type>,
        around: &Surroundings<'_>,
    ) -> Result<Option<StateId>, Unreadable> {
        let ends = self.boolean(node, "end") == Some(true);
        match (node.get("next"), node.get("end")) {
            (Some(next), Some(end)) if ends => {
                let to = next.text().map_or("a state", |text| text);
                let issue = Issue::error(
                    Code::TransitionConflict,
                    format!("the state ends here and goes on to `{to}`"),
                )
                .hint("keep `end: true` or the transition");
                self.report(end, issue);
                Err(Unreadable)
            }
            (Some(next), _)
                if matches!(kind, Some(Type::Fail | Type::Succeed)) && node.get("if").is_none() =>
            {
                let issue =
                    Issue::error(Code::TransitionConflict, "the list ends here, so nothing comes next")
                        .hint("give it an `if`: it goes on to `next` when that is false");
                self.report(next, issue);
                Err(Unreadable)
            }
            (Some(next), _) => {
                self.target(next, "next", around.names, around.prefix).map(Some).ok_or(Unreadable)
            }
            (None, _) if ends || around.is_last => Ok(None),
            (None, _) if matches!(kind, None | Some(Type::Switch)) => Ok(None),
            (None, _) if matches!(kind, Some(Type::Fail | Type::Succeed)) && node.get("if").is_none() => {
                Ok(None)
            }
            (None, _) => {
                let issue = Issue::error(
                    Code::MissingTransition,
                    "the state is not the last of its list and goes nowhere",
                )
                .expected("`next: STATE` or `end: true`");
                self.report(node, issue);
                Err(Unreadable)
            }
        }
    }

    /// The state of the same list that a field names.
    pub(super) fn target(
        &mut self,
        node: &Node,
        key: &str,
        names: &HashMap<Arc<str>, StateId>,
        prefix: &str,
    ) -> Option<StateId> {
        let name = self.as_text(node, key)?;
        if let Some(id) = names.get(&name) {
            return Some(*id);
        }
        let elsewhere = self.addresses.get(&name).and_then(|list| list.first()).cloned();
        let wants_hints = self.wants_hints();
        let near = if wants_hints { fields::nearest(&name, names.keys().map(|name| &**name)) } else { None };
        let hint = match (elsewhere, near) {
            (Some(address), _) => {
                format!("`{address}` is in another list, and a transition never leaves its list")
            }
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) if &*name == "end" && key != "start" => "write `end: true` to end".to_owned(),
            (None, None) if wants_hints => {
                let mut known: Vec<&str> = names.keys().map(|name| &**name).collect();
                known.sort_unstable();
                known.truncate(12);
                format!("there are: {}", known.join(", "))
            }
            (None, None) => "name a state of the same list".to_owned(),
        };
        let place = if prefix.is_empty() {
            "the workflow".to_owned()
        } else {
            format!("`{}`", prefix.trim_end_matches('/'))
        };
        let issue =
            Issue::error(Code::UnknownTarget, format!("`{key}`: {place} has no state `{name}`")).hint(hint);
        self.report(node, issue);
        None
    }

    /// The kind, and the timeout if the kind reads its own.
    fn kind(&mut self, reading: &Reading<'_>, kind: Type) -> Option<(Kind, Option<crate::Millis>)> {
        let node = reading.node;
        let kind = match kind {
            Type::Operation | Type::Agent | Type::HumanApproval => return self.action(reading, kind),
            Type::Switch => self.switch(reading).map(Kind::Switch)?,
            Type::Parallel => self.parallel(reading).map(Kind::Parallel)?,
            Type::Foreach => self.foreach(reading).map(Kind::Foreach)?,
            Type::While => self.while_loop(reading).map(Kind::While)?,
            Type::Try => self.try_catch(reading).map(Kind::Try)?,
            Type::Inject => self.inject(reading)?,
            Type::Transform => self.transform(node).map(Kind::Transform)?,
            Type::Wait => self.wait(node).map(Kind::Wait)?,
            Type::Signal => self.signal(reading).map(Kind::Signal)?,
            Type::Workflow => self.sub_workflow(node, node.get("input")).map(Kind::Workflow)?,
            Type::Cron => {
                if !reading.around.is_start {
                    let place = node.get("type").unwrap_or(node);
                    let issue = Issue::error(Code::MisplacedCron, "a `cron` state stands only at the workflow's start")
                        .hint("to wait for a time write `type: wait` with `until`; for one more schedule use `triggers`");
                    self.report(place, issue);
                }
                let schedule = self.schedule(node, reading.name.clone())?;
                self.schedules.push((reading.id, schedule));
                Kind::Cron
            }
            Type::Fail => self.fail(node).map(Kind::Fail)?,
            Type::Succeed => match node.get("output") {
                Some(output) => Kind::Succeed(Some(self.output_mapping(output)?)),
                None => Kind::Succeed(None),
            },
        };
        Some((kind, None))
    }

    /// Where the result is written.
    fn result_path(
        &mut self,
        reading: &Reading<'_>,
        kind: Type,
    ) -> Result<Option<expression::Path>, Unreadable> {
        let Some(node) = reading.node.get("resultPath") else {
            return Ok((kind == Type::Inject).then(expression::Path::root));
        };
        let path = self.path(node, "resultPath").ok_or(Unreadable)?;
        let first = path.segments().first();
        match first {
            Some(expression::Segment::Key(key)) => {
                let is_step = &**key == "steps" && path.segments().len() > 1;
                if !is_step && let Some(why) = reserved_root(key) {
                    let issue =
                        Issue::error(Code::ReservedName, format!("`{path}` cannot be written: {why}"))
                            .hint("write to a name of your own, or below `steps`");
                    self.report(node, issue);
                    return Err(Unreadable);
                }
            }
            Some(expression::Segment::Index(_)) => {
                let issue = Issue::error(
                    Code::PathSyntax,
                    format!("`{path}`: the context is an object, it has no index"),
                );
                self.report(node, issue);
                return Err(Unreadable);
            }
            None => {}
        }
        Ok(Some(path))
    }

    /// The root keys of `output`.
    fn root_keys(
        &mut self,
        reading: &Reading<'_>,
        kind: Type,
    ) -> Option<Vec<(Arc<str>, crate::OutputValue)>> {
        let Some(node) = reading.node.get("output") else { return Some(Vec::new()) };
        if matches!(kind, Type::Succeed) {
            return Some(Vec::new());
        }
        let Data::Map(entries) = &node.data else {
            self.wrong_type(node, "output", "a mapping from root keys to paths, as `{report: $.summary}`");
            return None;
        };
        let mut keys = Vec::new();
        let mut is_whole = true;
        for entry in entries {
            if let Some(why) = reserved_root(&entry.key) {
                let issue =
                    Issue::error(Code::ReservedName, format!("`{}` cannot be written: {why}", entry.key));
                self.report_key(entry, issue);
                is_whole = false;
                continue;
            }
            match self.output_value(&entry.value) {
                Some(value) => keys.push((entry.key.clone(), value)),
                None => is_whole = false,
            }
        }
        is_whole.then_some(keys)
    }

    /// The one state that `agent:` in the place of `states:` stands for.
    pub(super) fn implicit(&mut self, holder: &Node, name: &Arc<str>, prefix: &str, base: u32) -> Block {
        let id = StateId(base);
        let address: Arc<str> = format!("{prefix}{}", survey::address_part(name)).into();
        self.addresses.entry(name.clone()).or_default().push(address.clone());
        let outer = self.current.replace(id);
        self.pointers.insert(id, (self.document.pointer(holder), holder.span.line, holder.span.column));
        let none = HashMap::new();
        let around = Surroundings { names: &none, prefix, is_last: true, is_start: false };
        let reading =
            Reading { node: holder, id, name: name.clone(), around: &around, blocks: HashMap::new() };
        let is_state = holder.get("type").is_some();
        let own = |key: &str| if is_state { None } else { holder.get(key) };
        let condition = own("if").and_then(|node| self.expression(node, "if", &UseKind::Name));
        let read = self.action(&reading, Type::Agent);
        let result_path = if is_state { Ok(None) } else { self.result_path(&reading, Type::Agent) };
        self.current = outer;
        self.lost.writes |= result_path.is_err();
        let (kind, timeout) = read.unwrap_or((Kind::Succeed(None), None));
        let state = State {
            name: name.clone(),
            address,
            implicit: true,
            condition,
            kind,
            result_path: result_path.unwrap_or_default(),
            timeout: if is_state { None } else { timeout },
            ..State::unreadable(id, "", (holder.span.line, holder.span.column))
        };
        if let Some(slot) = self.states.get_mut(base as usize) {
            *slot = Some(state);
        }
        Block { start: id, states: vec![id] }
    }
}

impl State {
    /// A state of which nothing is known but its place.
    pub(super) fn unreadable(id: StateId, name: &str, (line, column): (u32, u32)) -> Self {
        Self {
            id,
            name: name.into(),
            title: None,
            address: name.into(),
            implicit: false,
            condition: None,
            kind: Kind::Succeed(None),
            result_path: None,
            output: Vec::new(),
            next: None,
            timeout: None,
            line,
            column,
        }
    }
}

/// Why a root key cannot be written.
pub(crate) fn reserved_root(key: &str) -> Option<&'static str> {
    match key {
        "ctx" | "steps" | "workflow" | "input" => Some("the name means something else already"),
        _ if key.starts_with('_') => Some("names with `_` in front belong to the engine"),
        _ => None,
    }
}

/// A literal input, for the check against an agent's schema.
pub(super) fn literal(node: &Node, tree: &expression::Tree) -> Option<expression::Value> {
    tree.is_literal().then(|| to_value(node))
}
