//! Smaller flows: what is tried to make a failing one readable.

use std::io;
use std::io::Write;

use serde_json::Value;

use super::Flow;
use super::mend::mend;
use super::tree::Body;
use super::tree::Definition;
use super::tree::Kind;
use super::tree::Node;
use super::tree::Work;

/// The length of its text, and the sum of its numbers: every candidate has less.
pub(super) fn measure(flow: &Flow) -> (usize, u64) {
    let value = serde_json::to_value(flow).unwrap_or_default();
    let mut length = Length(0);
    let _ = serde_json::to_writer(&mut length, &value);
    (length.0, numbers(&value))
}

struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn numbers(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap_or_default(),
        Value::Array(items) => items.iter().map(numbers).fold(0, u64::saturating_add),
        Value::Object(object) => object.values().map(numbers).fold(0, u64::saturating_add),
        _ => 0,
    }
}

/// All smaller flows that one cut leads to.
pub(super) fn candidates(flow: &Flow) -> Vec<Flow> {
    let mut found = Vec::new();
    if !flow.cues.is_empty() {
        found.push(Flow { cues: Vec::new(), ..flow.clone() });
    }
    for states in lists(&flow.main.states) {
        found.push(Flow { main: Definition { states, ..flow.main.clone() }, ..flow.clone() });
    }
    for (index, child) in flow.children.iter().enumerate() {
        for states in lists(&child.states) {
            let mut flow = flow.clone();
            if let Some(child) = flow.children.get_mut(index) {
                child.states = states;
            }
            found.push(flow);
        }
    }
    for cues in without_runs(&flow.cues) {
        found.push(Flow { cues, ..flow.clone() });
    }
    for index in 0..flow.cues.len() {
        let mut flow = flow.clone();
        if let Some(cue) = flow.cues.get_mut(index) {
            cue.after /= 2;
        }
        flow.cues.sort_by_key(|cue| cue.after);
        found.push(flow);
    }
    for index in 0..=flow.children.len() {
        for option in 0..5 {
            let mut flow = flow.clone();
            let definition = match flow.children.get_mut(index) {
                Some(child) => child,
                None => &mut flow.main,
            };
            match option {
                0 => definition.timeout = None,
                1 => definition.input_schema = false,
                2 => definition.object_output = false,
                3 => definition.cron = false,
                _ => definition.reversed = false,
            }
            found.push(flow);
        }
    }
    let size = measure(flow);
    found.into_iter().filter_map(mend).filter(|candidate| measure(candidate) < size).collect()
}

/// A list without a half, a quarter, … and each single one of its items.
fn without_runs<T: Clone>(list: &[T]) -> Vec<Vec<T>> {
    let mut found = Vec::new();
    let mut run = list.len().div_ceil(2);
    while run > 0 {
        for from in (0..list.len()).step_by(run) {
            let left = list.iter().take(from).chain(list.iter().skip(from + run)).cloned();
            found.push(left.collect());
        }
        run /= 2;
    }
    found
}

/// The same list of states with something less: whole runs, a composite unwrapped into what is in it, then inside each.
fn lists(list: &[Node]) -> Vec<Vec<Node>> {
    let mut found = without_runs(list);
    for (index, node) in list.iter().enumerate() {
        let replaced = |nodes: Vec<Node>| {
            let before = list.iter().take(index).cloned();
            let after = list.iter().skip(index + 1).cloned();
            before.chain(nodes).chain(after).collect::<Vec<_>>()
        };
        for (_, inner) in node.lists() {
            found.push(replaced(inner.clone()));
        }
        for smaller in within(node) {
            found.push(replaced(vec![smaller]));
        }
    }
    found
}

/// The same state with something less in it.
fn within(node: &Node) -> Vec<Node> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Node)| {
        let mut changed = node.clone();
        change(&mut changed);
        found.push(changed);
    };
    with(&|node| node.condition = None);
    with(&|node| node.result_path = None);
    with(&|node| node.output = Vec::new());
    with(&|node| node.timeout = None);
    with(&|node| node.end = false);
    with(&|node| halve(&mut node.timeout));
    found.extend(less(&node.kind).into_iter().map(|kind| Node { kind, ..node.clone() }));
    for index in 0..node.lists().len() {
        let inner = node.lists().get(index).map(|(_, list)| lists(list)).unwrap_or_default();
        for smaller in inner {
            let mut changed = node.clone();
            if let Some((_, list)) = changed.lists_mut().get_mut(index) {
                **list = smaller;
            }
            found.push(changed);
        }
    }
    found
}

fn halve(number: &mut Option<u64>) {
    if let Some(number) = number {
        *number = (*number / 2).max(1);
    }
}

/// The same kind without one of its parts or options.
fn less(kind: &Kind) -> Vec<Kind> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Kind)| {
        let mut changed = kind.clone();
        change(&mut changed);
        found.push(changed);
    };
    match kind {
        Kind::Agent { work, .. } => {
            with(&|kind| {
                if let Kind::Agent { long, .. } = kind {
                    *long = false;
                }
            });
            for work in less_work(work) {
                with(&|kind| {
                    if let Kind::Agent { work: old, .. } = kind {
                        old.clone_from(&work);
                    }
                });
            }
        }
        Kind::Approval { .. } => {
            for option in 0..8 {
                with(&|kind| {
                    if let Kind::Approval {
                        approvers,
                        quorum,
                        separation,
                        deadline,
                        summary,
                        on_reject,
                        on_timeout,
                        message,
                    } = kind
                    {
                        match option {
                            0 => *on_reject = None,
                            1 => *on_timeout = None,
                            2 => *quorum = None,
                            3 => *separation = false,
                            4 => *summary = None,
                            5 => approvers.clear(),
                            6 => *deadline = None,
                            _ => "?".clone_into(message),
                        }
                    }
                });
            }
        }
        Kind::Switch { arms, .. } => {
            for index in 0..arms.len() {
                with(&|kind| {
                    if let Kind::Switch { arms, .. } = kind {
                        arms.remove(index);
                    }
                });
            }
            with(&|kind| {
                if let Kind::Switch { default, .. } = kind {
                    *default = None;
                }
            });
            with(&|kind| {
                if let Kind::Switch { data_path, .. } = kind {
                    *data_path = None;
                }
            });
        }
        Kind::Parallel { branches, .. } => {
            for index in 0..branches.len() {
                with(&|kind| {
                    if let Kind::Parallel { branches, .. } = kind {
                        branches.remove(index);
                    }
                });
                with(&|kind| {
                    if let Kind::Parallel { branches, .. } = kind
                        && let Some(branch) = branches.get_mut(index)
                    {
                        branch.output.clear();
                    }
                });
                for work in branches
                    .get(index)
                    .and_then(|branch| branch.body.work())
                    .map(less_work)
                    .unwrap_or_default()
                {
                    with(&|kind| {
                        if let Kind::Parallel { branches, .. } = kind
                            && let Some(branch) = branches.get_mut(index)
                        {
                            branch.body = Body::Agent(work.clone());
                        }
                    });
                }
            }
            for option in 0..3 {
                with(&|kind| {
                    if let Kind::Parallel { join, wait, array, .. } = kind {
                        match option {
                            0 => *join = super::tree::Join::All,
                            1 => *wait = false,
                            _ => *array = false,
                        }
                    }
                });
            }
        }
        Kind::Foreach { body, .. } => {
            for option in 0..6 {
                with(&|kind| {
                    if let Kind::Foreach { item_name, concurrency, wait, array, output, .. } = kind {
                        match option {
                            0 => *item_name = None,
                            1 => *concurrency = None,
                            2 => *wait = false,
                            3 => *array = false,
                            4 => output.clear(),
                            _ => *concurrency = Some(1),
                        }
                    }
                });
            }
            for work in body.work().map(less_work).unwrap_or_default() {
                with(&|kind| {
                    if let Kind::Foreach { body, .. } = kind {
                        *body = Body::Agent(work.clone());
                    }
                });
            }
        }
        Kind::While { .. } => {
            for option in 0..4 {
                with(&|kind| {
                    if let Kind::While { rounds, also, limit, .. } = kind {
                        match option {
                            0 => *rounds = 1,
                            1 => *also = None,
                            2 => *limit = None,
                            _ => *rounds /= 2,
                        }
                    }
                });
            }
        }
        Kind::Again { .. } => with(&|kind| {
            if let Kind::Again { times, .. } = kind {
                *times = 1;
            }
        }),
        Kind::Inject { .. } => with(&|kind| *kind = Kind::Inject { data: serde_json::json!({}) }),
        Kind::Transform { .. } => {
            with(&|kind| *kind = Kind::Transform { program: "1".to_owned(), input: None });
            with(&|kind| {
                if let Kind::Transform { input, .. } = kind {
                    *input = None;
                }
            });
        }
        Kind::Wait { .. } | Kind::Until { .. } => {
            with(&|kind| *kind = Kind::Wait { duration: "1s".to_owned() });
        }
        Kind::Signal { .. } => {
            for option in 0..2 {
                with(&|kind| {
                    if let Kind::Signal { timeout, on_timeout, .. } = kind {
                        match option {
                            0 => *on_timeout = None,
                            _ => halve(timeout),
                        }
                    }
                });
            }
        }
        Kind::Try { catches, .. } => {
            for index in 0..catches.len() {
                with(&|kind| {
                    if let Kind::Try { catches, .. } = kind {
                        catches.remove(index);
                    }
                });
                with(&|kind| {
                    if let Kind::Try { catches, .. } = kind
                        && let Some(clause) = catches.get_mut(index)
                    {
                        clause.bind = None;
                    }
                });
                with(&|kind| {
                    if let Kind::Try { catches, .. } = kind
                        && let Some(clause) = catches.get_mut(index)
                    {
                        clause.errors.clear();
                    }
                });
            }
            with(&|kind| {
                if let Kind::Try { finally, .. } = kind {
                    *finally = None;
                }
            });
        }
        Kind::Workflow { .. } => {
            with(&|kind| {
                if let Kind::Workflow { input, .. } = kind {
                    *input = Some(serde_json::json!({}));
                }
            });
        }
        Kind::Fail { .. } => with(&|kind| {
            if let Kind::Fail { message, .. } = kind {
                *message = None;
            }
        }),
        Kind::Succeed { .. } => with(&|kind| *kind = Kind::Succeed { output: Vec::new() }),
        Kind::Log { .. } => {}
    }
    found
}

fn less_work(work: &Work) -> Vec<Work> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Work)| {
        let mut changed = work.clone();
        change(&mut changed);
        found.push(changed);
    };
    with(&|work| "give 1".clone_into(&mut work.task));
    if let Some((_, rest)) = work.task.split_once(';') {
        with(&|work| rest.trim_start().clone_into(&mut work.task));
    }
    with(&|work| work.input = None);
    with(&|work| work.variables = None);
    with(&|work| work.timeout = None);
    with(&|work| halve(&mut work.timeout));
    with(&|work| work.once = false);
    for index in 0..work.retry.len() {
        with(&|work| {
            work.retry.remove(index);
        });
        for option in 0..6 {
            with(&|work| {
                if let Some(rule) = work.retry.get_mut(index) {
                    match option {
                        0 => rule.exponential = false,
                        1 => rule.max_backoff = None,
                        2 => rule.jitter = None,
                        3 => rule.on.clear(),
                        4 => rule.attempts = (rule.attempts - 1).max(1),
                        _ => rule.backoff = 1_000,
                    }
                }
            });
        }
    }
    found
}
