//! `stepwell graph`: a workflow as a Mermaid flowchart, nested states as boxes, errors as dotted lines.

use std::fmt::Write as _;

use model::Block;
use model::Condition;
use model::JoinMode;
use model::Kind;
use model::OnReject;
use model::OnTimeout;
use model::State;
use model::StateId;
use model::Workflow;

use crate::args::Graph;
use crate::output;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::project;

pub(crate) fn run(args: &Graph, output: Output) -> Result<Exit, Failure> {
    let source = project::read(&args.file)?;
    let file = args.file.to_string_lossy();
    let parsed = model::parse(&source, &model::Options { file: &file, ..model::Options::default() });
    let Some(workflow) = parsed.workflow else {
        output.note(model::render_issues(&source, &file, &parsed.issues, output.err.0));
        return Err(Failure::new("DEFINITION_INVALID", format!("`{file}` is no valid workflow")));
    };
    let chart = Chart::draw(&workflow);
    if output.json {
        output.json(&output::object([
            ("format", "mermaid".into()),
            ("workflow", (&*workflow.id).into()),
            ("graph", chart.into()),
        ]))?;
    } else {
        output.text(chart.trim_end());
    }
    Ok(Exit::Done)
}

struct Chart<'w> {
    workflow: &'w Workflow,
    text: String,
    depth: usize,
    /// Ends that are led to; drawn last.
    ends: Vec<&'static str>,
    /// Drawn after all nodes: Mermaid puts a node into the box where it is first named.
    edges: Vec<String>,
}

impl<'w> Chart<'w> {
    fn draw(workflow: &'w Workflow) -> String {
        let mut chart = Self {
            workflow,
            text: String::from("flowchart TD\n"),
            depth: 1,
            ends: Vec::new(),
            edges: Vec::new(),
        };
        chart.line("start((start))");
        chart.edges.push(format!("start --> {}", node(workflow.root.start)));
        chart.block(&workflow.root, true);
        for end in std::mem::take(&mut chart.ends) {
            chart.line(&format!("{end}(({end}))"));
        }
        for edge in std::mem::take(&mut chart.edges) {
            chart.line(&edge);
        }
        chart.text
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{}{text}", "  ".repeat(self.depth));
    }

    fn open(&mut self, id: &str, label: &str) {
        self.line(&format!("subgraph {id}[\"{label}\"]"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("end");
    }

    fn end(&mut self, name: &'static str) -> &'static str {
        if !self.ends.contains(&name) {
            self.ends.push(name);
        }
        name
    }

    /// The states of a list. Only the end of the outermost one is the run's.
    fn block(&mut self, block: &Block, outermost: bool) {
        for state in block.states.iter().filter_map(|id| self.workflow.state(*id)) {
            self.state(state, outermost);
        }
    }

    /// A list of states in a box of its own.
    fn boxed(&mut self, id: &str, label: &str, block: &Block) {
        self.open(id, label);
        self.block(block, false);
        self.close();
    }

    fn state(&mut self, state: &State, outermost: bool) {
        let id = node(state.id);
        let name = escape(&state.name);
        let label = |what: &str| {
            if what.is_empty() { name.clone() } else { format!("{name}<br/><small>{what}</small>") }
        };
        match &state.kind {
            Kind::Operation(operation) => {
                let what = match &operation.action {
                    model::Action::Agent(agent) => format!("agent {}", escape(agent)),
                    model::Action::Http => "http.call".to_owned(),
                    model::Action::Lambda => "lambda.invoke".to_owned(),
                    model::Action::Log => "log".to_owned(),
                };
                self.line(&format!("{id}[\"{}\"]", label(&what)));
            }
            Kind::Approval(approval) => {
                self.line(&format!("{id}{{{{\"{}\"}}}}", label("approval")));
                match approval.on_reject {
                    OnReject::Fail => self.error_edge(&id, "rejected", "failed"),
                    OnReject::Cancel => self.error_edge(&id, "rejected", "cancelled"),
                    OnReject::Goto(target) => self.edge(&id, "rejected", target),
                }
                match approval.on_timeout {
                    OnTimeout::Fail => self.error_edge(&id, "timeout", "timed_out"),
                    OnTimeout::Goto(target) => self.edge(&id, "timeout", target),
                    OnTimeout::Approve | OnTimeout::Reject => {}
                }
            }
            Kind::Switch(switch) => {
                self.line(&format!("{id}{{\"{name}\"}}"));
                for (condition, target) in &switch.cases {
                    let text = match condition {
                        Condition::Constant(value) => value.to_string(),
                        Condition::Expression(expression) => expression.source().to_owned(),
                    };
                    self.edge(&id, &output::short(text.trim(), 60), *target);
                }
                match switch.default {
                    Some(target) => self.edge(&id, "otherwise", target),
                    None => self.error_edge(&id, "no match", "failed"),
                }
            }
            Kind::Parallel(parallel) => {
                let join = match parallel.join.mode {
                    JoinMode::All => "all".to_owned(),
                    JoinMode::Count(1) => "any".to_owned(),
                    JoinMode::Count(count) => format!("{count} of {}", parallel.branches.len()),
                };
                self.open(&id, &format!("{name} · parallel, {join}"));
                for (index, branch) in parallel.branches.iter().enumerate() {
                    self.boxed(&format!("{id}b{index}"), &escape(&branch.name), &branch.block);
                }
                self.close();
            }
            Kind::Foreach(foreach) => {
                let label = format!(
                    "{name} · foreach {} in {}",
                    escape(&foreach.item_name),
                    escape(&foreach.items.to_string())
                );
                self.boxed(&id, &label, &foreach.block);
            }
            Kind::While(repeat) => {
                let text = match &repeat.condition {
                    Condition::Constant(value) => value.to_string(),
                    Condition::Expression(expression) => expression.source().trim().to_owned(),
                };
                self.boxed(
                    &id,
                    &format!("{name} · while {}", escape(&output::short(&text, 60))),
                    &repeat.block,
                );
            }
            Kind::Try(attempt) => {
                self.open(&id, &format!("{name} · try"));
                let body = format!("{id}t");
                self.boxed(&body, "try", &attempt.body);
                let finally = attempt.finally.as_ref().map(|block| {
                    let finally = format!("{id}f");
                    self.boxed(&finally, "finally", block);
                    self.edges.push(format!("{body} --> {finally}"));
                    finally
                });
                for (index, clause) in attempt.catch.iter().enumerate() {
                    let errors = clause
                        .errors
                        .as_ref()
                        .map_or_else(|| "any error".to_owned(), |errors| errors.join(", "));
                    let catch = format!("{id}c{index}");
                    self.boxed(&catch, &format!("catch {}", escape(&errors)), &clause.block);
                    self.edges.push(format!("{body} -. \"{}\" .-> {catch}", escape(&errors)));
                    if let Some(finally) = &finally {
                        self.edges.push(format!("{catch} --> {finally}"));
                    }
                }
                self.close();
            }
            Kind::Inject(_) => self.line(&format!("{id}[/\"{}\"/]", label("inject"))),
            Kind::Transform(_) => self.line(&format!("{id}[/\"{}\"/]", label("transform"))),
            Kind::Wait(_) => self.line(&format!("{id}([\"{}\"])", label("wait"))),
            Kind::Cron => self.line(&format!("{id}([\"{}\"])", label("cron"))),
            Kind::Signal(signal) => {
                self.line(&format!("{id}>\"{}\"]", label("signal")));
                if let Some(target) = signal.on_timeout {
                    self.edge(&id, "timeout", target);
                } else if signal.timeout.is_some() {
                    self.error_edge(&id, "timeout", "timed_out");
                }
            }
            Kind::Workflow(_) => self.line(&format!("{id}[[\"{}\"]]", label("workflow"))),
            Kind::Fail(_) => self.line(&format!("{id}[\\\"{}\"/]", label("fail"))),
            Kind::Succeed(_) => self.line(&format!("{id}([\"{}\"])", label("succeed"))),
        }
        match (&state.kind, state.next) {
            (Kind::Switch(_), _) => {}
            (Kind::Fail(_), _) => self.error_edge(&id, "", "failed"),
            (Kind::Approval(_), Some(next)) => self.edge(&id, "approved", next),
            (_, Some(next)) => self.edge(&id, "", next),
            (_, None) if outermost => {
                let end = self.end("done");
                self.edges.push(format!("{id} --> {end}"));
            }
            (_, None) => {}
        }
    }

    fn edge(&mut self, from: &str, label: &str, to: StateId) {
        let to = node(to);
        self.edges.push(if label.is_empty() {
            format!("{from} --> {to}")
        } else {
            format!("{from} -- \"{}\" --> {to}", escape(label))
        });
    }

    fn error_edge(&mut self, from: &str, label: &str, end: &'static str) {
        let end = self.end(end);
        self.edges.push(if label.is_empty() {
            format!("{from} -.-> {end}")
        } else {
            format!("{from} -. \"{label}\" .-> {end}")
        });
    }
}

fn node(id: StateId) -> String {
    format!("s{}", id.0)
}

/// Text inside a quoted Mermaid label.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => safe.push_str("#quot;"),
            '<' => safe.push_str("#lt;"),
            '>' => safe.push_str("#gt;"),
            '#' => safe.push_str("#35;"),
            '\n' | '\r' | '\t' => safe.push(' '),
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}
