//! States that hold other states.

use std::collections::HashMap;
use std::sync::Arc;

use super::Reader;
use super::state::Reading;
use super::survey;
use super::text::UseKind;
use crate::Aggregation;
use crate::Block;
use crate::Branch;
use crate::Catch;
use crate::Code;
use crate::Foreach;
use crate::Issue;
use crate::Join;
use crate::JoinMode;
use crate::OnFailure;
use crate::Parallel;
use crate::Try;
use crate::While;
use crate::fields;
use crate::yaml::Data;
use crate::yaml::Node;
use crate::yaml::Number;

const DEFAULT_CONCURRENCY: i64 = 10;
const MAX_CONCURRENCY: i64 = 10_000;
const DEFAULT_ITERATIONS: i64 = 1_000;
const MAX_ITERATIONS: i64 = 1_000_000_000;

const ON_FAILURE: &[(&str, OnFailure)] = &[("failFast", OnFailure::FailFast), ("wait", OnFailure::Wait)];
const AGGREGATION: &[(&str, Aggregation)] = &[("merge", Aggregation::Merge), ("array", Aggregation::Array)];

impl Reader<'_> {
    pub(super) fn parallel(&mut self, reading: &Reading<'_>) -> Option<Parallel> {
        let node = reading.node;
        let aggregation = self.word(node, "outputAggregation", AGGREGATION).unwrap_or(Aggregation::Merge);
        let Some(list) = node.get("branches") else {
            self.missing(
                node,
                "branches",
                "a `parallel`",
                "a list of branches, each with a `name` and `states`",
            );
            return None;
        };
        let Data::List(items) = &list.data else {
            self.wrong_type(list, "branches", "a list of branches");
            return None;
        };
        if items.is_empty() {
            self.bad_value(list, "a `parallel` without branches".to_owned(), "give it at least one");
            return None;
        }
        let mut branches = Vec::new();
        let mut lines: HashMap<Arc<str>, u32> = HashMap::new();
        for item in items {
            if let Some(name_node) = item.get("id").or_else(|| item.get("name"))
                && let Some(name) = name_node.text()
            {
                if let Some(line) = lines.get(name) {
                    let issue =
                        Issue::error(Code::DuplicateName, format!("a second branch with the name `{name}`"))
                            .hint(format!("the first is on line {line}; the name is the key of its output"));
                    self.report(name_node, issue);
                }
                lines.entry(name.clone()).or_insert(name_node.span.line);
            }
            branches.extend(self.branch(reading, item));
        }
        let join = self.join(node, items.len());
        (branches.len() == items.len()).then_some(Parallel { branches, join: join?, aggregation })
    }

    fn branch(&mut self, reading: &Reading<'_>, node: &Node) -> Option<Branch> {
        if !matches!(node.data, Data::Map(_)) {
            self.wrong_type(
                node,
                "a branch",
                "a mapping with a `name` and `states`, or a `name` and `agent`",
            );
            return None;
        }
        let key = if node.get("id").is_some() { "id" } else { "name" };
        if node.get(key).is_none() {
            self.missing(node, "name", "a branch", "a text, the key of its output");
        }
        let name = self.name(node, key);
        if key == "id" && node.get("name").is_some() {
            self.text(node, "name");
        }
        let block = match &name {
            Some(name) => self.block_or_agent(reading, node, name, "a branch"),
            None => None,
        };
        let outer = self.current;
        let output = match node.get("output") {
            Some(output) => Some(self.output_mapping(output)?),
            None => None,
        };
        self.current = outer;
        Some(Branch { name: name?, block: block?, output })
    }

    /// States, or `agent:` in their place.
    fn block_or_agent(
        &mut self,
        reading: &Reading<'_>,
        holder: &Node,
        name: &Arc<str>,
        what: &str,
    ) -> Option<Block> {
        let (base, prefix) = reading.blocks.get(&holder.id).cloned().unwrap_or_default();
        match (holder.get("states"), holder.get("agent")) {
            (Some(_), Some(agent)) => {
                self.bad_value(agent, format!("{what} has both `states` and `agent`"), "keep one of them");
                None
            }
            (None, Some(_)) => Some(self.implicit(holder, name, &prefix, base)),
            (Some(_), None) => {
                self.only_for_agents(holder, what);
                self.block(holder, &prefix, base, what)
            }
            (None, None) => {
                self.missing(holder, "states", what, "a list of states, or `agent: NAME`");
                None
            }
        }
    }

    /// Fields that only mean something beside `agent:`.
    fn only_for_agents(&mut self, holder: &Node, what: &str) {
        let Data::Map(entries) = &holder.data else { return };
        let only =
            ["task", "variables", "input", "retry", "atMostOnce", "timeoutSeconds", "if", "resultPath"];
        for entry in entries.iter().filter(|entry| only.contains(&&*entry.key)) {
            let issue = Issue::error(
                Code::UnknownField,
                format!("{what} with `states` has no field `{}`", entry.key),
            )
            .hint("put it into one of its states");
            self.report_key(entry, issue);
        }
    }

    fn join(&mut self, node: &Node, branches: usize) -> Option<Join> {
        let Some(join) = node.get("join") else {
            return Some(Join { mode: JoinMode::All, on_failure: OnFailure::FailFast });
        };
        if !matches!(join.data, Data::Map(_)) {
            self.wrong_type(join, "join", "a mapping: `{mode: all, onFailure: failFast}`");
            return None;
        }
        let on_failure = self.word(join, "onFailure", ON_FAILURE).unwrap_or(OnFailure::FailFast);
        let expected = "`all`, `any`, or how many branches must succeed";
        let mode = match join.get("mode").map(|mode| (mode, &mode.data)) {
            None => JoinMode::All,
            Some((mode, Data::Text(text, _))) => match &**text {
                "all" => JoinMode::All,
                "any" => JoinMode::Count(1),
                other => {
                    let near = fields::nearest(other, ["all", "any"]);
                    let mut issue = Issue::error(Code::BadJoin, format!("there is no join mode `{other}`"))
                        .expected(expected)
                        .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
                    if other.parse::<u32>().is_ok() {
                        issue = issue.hint("write the number without quotes");
                    }
                    self.report(mode, issue);
                    return None;
                }
            },
            Some((mode, Data::Number(text, number))) => match number {
                Number::Int(count) if *count >= 1 && usize::try_from(*count).is_ok_and(|n| n <= branches) => {
                    JoinMode::Count(u32::try_from(*count).unwrap_or(1))
                }
                _ => {
                    let issue = Issue::error(
                        Code::BadJoin,
                        format!("{text} of {branches} branches can never succeed"),
                    )
                    .expected(format!("a whole number from 1 to {branches}"));
                    self.report(mode, issue);
                    return None;
                }
            },
            Some((mode, _)) => {
                self.wrong_type(mode, "mode", &format!("a text or number: {expected}"));
                return None;
            }
        };
        Some(Join { mode, on_failure })
    }

    pub(super) fn foreach(&mut self, reading: &Reading<'_>) -> Option<Foreach> {
        let node = reading.node;
        let items = if node.get("itemsPath").is_some() {
            self.path_read(node, "itemsPath")
        } else {
            self.missing(node, "itemsPath", "a `foreach`", "a path to a list");
            None
        };
        let item_name = self.item_name(node);
        let max_concurrency = self
            .integer(node, "maxConcurrency", 1, MAX_CONCURRENCY, Code::BadValue)
            .unwrap_or(DEFAULT_CONCURRENCY);
        let on_failure = self.word(node, "onFailure", ON_FAILURE).unwrap_or(OnFailure::FailFast);
        let aggregation = self.word(node, "outputAggregation", AGGREGATION).unwrap_or(Aggregation::Merge);
        let depth = self.locals.len();
        self.locals.extend(["_item", "_index", "_total"].map(Arc::from));
        self.locals.extend(item_name.clone());
        let block = self.iterator(reading);
        let output = match node.get("iterator").and_then(|iterator| iterator.get("output")) {
            Some(output) => self.output_mapping(output).map(Some),
            None => Some(None),
        };
        self.locals.truncate(depth);
        Some(Foreach {
            items: items?,
            item_name: item_name?,
            max_concurrency: u32::try_from(max_concurrency).unwrap_or(1),
            block: block?,
            output: output?,
            on_failure,
            aggregation,
        })
    }

    fn item_name(&mut self, node: &Node) -> Option<Arc<str>> {
        let Some(place) = node.get("itemName") else { return Some("item".into()) };
        let name = self.as_text(place, "itemName")?;
        let is_reserved = matches!(
            &*name,
            "ctx"
                | "steps"
                | "workflow"
                | "input"
                | "now"
                | "true"
                | "false"
                | "null"
                | "True"
                | "False"
                | "None"
        );
        if is_reserved || name.starts_with('_') {
            let issue = Issue::error(Code::ReservedName, format!("an item cannot be called `{name}`"))
                .hint("the name means something else already; choose another");
            self.report(place, issue);
            return None;
        }
        let is_identifier = name.chars().next().is_some_and(char::is_alphabetic)
            && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_identifier {
            self.bad_value(
                place,
                format!("`{name}` is no name that an expression can use"),
                "use letters, digits and `_`, with a letter in front",
            );
            return None;
        }
        Some(name)
    }

    fn iterator(&mut self, reading: &Reading<'_>) -> Option<Block> {
        let node = reading.node;
        match (node.get("iterator"), node.get("agent")) {
            (Some(_), Some(agent)) => {
                self.bad_value(
                    agent,
                    "a `foreach` with both `iterator` and `agent`".to_owned(),
                    "keep one of them",
                );
                None
            }
            (Some(iterator), None) => {
                for key in ["task", "variables", "input", "retry", "atMostOnce"] {
                    if let Data::Map(entries) = &node.data
                        && let Some(entry) = entries.iter().find(|entry| &*entry.key == key)
                    {
                        let issue = Issue::error(
                            Code::UnknownField,
                            format!("a `foreach` with an `iterator` has no field `{key}`"),
                        )
                        .hint("put it into one of the iterator's states");
                        self.report_key(entry, issue);
                    }
                }
                if !matches!(iterator.data, Data::Map(_)) {
                    self.wrong_type(iterator, "iterator", "a mapping with `states`");
                    return None;
                }
                self.block_or_agent(reading, iterator, &reading.name, "an iterator")
            }
            (None, Some(_)) => self.block_or_agent(reading, node, &reading.name, "an iterator"),
            (None, None) => {
                self.missing(
                    node,
                    "iterator",
                    "a `foreach`",
                    "a mapping with `states`, or `agent: NAME` beside it",
                );
                None
            }
        }
    }

    pub(super) fn while_loop(&mut self, reading: &Reading<'_>) -> Option<While> {
        let node = reading.node;
        let condition = self.required(node, "condition", "a `while`", "an expression");
        let condition = condition.and_then(|node| self.condition(node, "condition", &UseKind::Name));
        let max_iterations = self
            .integer(node, "maxIterations", 1, MAX_ITERATIONS, Code::BadValue)
            .unwrap_or(DEFAULT_ITERATIONS);
        let block = match node.get("iterator") {
            Some(iterator) if matches!(iterator.data, Data::Map(_)) => {
                if let Data::Map(entries) = &iterator.data
                    && let Some(entry) = entries.iter().find(|entry| &*entry.key == "output")
                {
                    let issue = Issue::error(
                        Code::UnknownField,
                        "the iterator of a `while` has no field `output`",
                    )
                    .hint("its states write into the surrounding context; its output is `{count, last}`");
                    self.report_key(entry, issue);
                }
                self.block_or_agent(reading, iterator, &reading.name, "an iterator")
            }
            Some(iterator) => {
                self.wrong_type(iterator, "iterator", "a mapping with `states`");
                None
            }
            None => {
                self.missing(node, "iterator", "a `while`", "a mapping with `states`");
                None
            }
        };
        Some(While {
            condition: condition?,
            max_iterations: u64::try_from(max_iterations).unwrap_or(1),
            block: block?,
        })
    }

    pub(super) fn try_catch(&mut self, reading: &Reading<'_>) -> Option<Try> {
        let node = reading.node;
        let body = self.required(node, "try", "a `try`", "a mapping with `states`");
        let body = body.and_then(|body| self.part(reading, body, "try"));
        if node.get("catch").is_none() && node.get("finally").is_none() {
            self.missing(node, "catch", "a `try`", "a mapping with `states`, or `finally`");
        }
        let clauses = survey::one_or_each(node.get("catch"));
        let mut catch = Vec::new();
        let mut seen = Vec::new();
        let mut takes_all = false;
        for clause in &clauses {
            if takes_all {
                self.bad_value(
                    clause,
                    "this clause never runs: the one before catches everything".to_owned(),
                    "put the clause without `errors` last",
                );
            }
            takes_all |= clause.get("errors").is_none();
            catch.extend(self.catch(reading, clause, &mut seen));
        }
        let finally = match node.get("finally") {
            Some(finally) => self.part(reading, finally, "finally").map(Some),
            None => Some(None),
        };
        (catch.len() == clauses.len()).then_some(Try { body: body?, catch, finally: finally? })
    }

    fn part(&mut self, reading: &Reading<'_>, holder: &Node, what: &str) -> Option<Block> {
        if !matches!(holder.data, Data::Map(_)) {
            self.wrong_type(holder, what, "a mapping with `states`");
            return None;
        }
        let (base, prefix) = reading.blocks.get(&holder.id).cloned().unwrap_or_default();
        self.block(holder, &prefix, base, &format!("`{what}`"))
    }

    fn catch(&mut self, reading: &Reading<'_>, node: &Node, seen: &mut Vec<Arc<str>>) -> Option<Catch> {
        if !matches!(node.data, Data::Map(_)) {
            self.wrong_type(node, "catch", "a mapping with `states`, or a list of them");
            return None;
        }
        let errors = match node.get("errors") {
            Some(list) => self.error_types(list, "errors", Code::BadValue, seen).map(Some),
            None => Some(None),
        };
        let bind = match node.get("as") {
            Some(place) => {
                let name = self.as_text(place, "as")?;
                if let Some(why) = super::state::reserved_root(&name) {
                    let issue = Issue::error(
                        Code::ReservedName,
                        format!("an error cannot be called `{name}`: {why}"),
                    );
                    self.report(place, issue);
                    return None;
                }
                Some(name)
            }
            None => None,
        };
        let depth = self.locals.len();
        self.locals.extend(bind.clone());
        let block = self.part(reading, node, "catch");
        self.locals.truncate(depth);
        Some(Catch { errors: errors?, bind, block: block? })
    }
}
