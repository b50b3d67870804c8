//! A random flow: everything the language can say, in proportions in which most runs go far before they end.

use super::Flow;
use super::cues;
use super::data::Data;
use super::data::Shape;
use super::mend::mend;
use super::tree::Arm;
use super::tree::Body;
use super::tree::Branch;
use super::tree::Catch;
use super::tree::Clause;
use super::tree::Definition;
use super::tree::Join;
use super::tree::Kind;
use super::tree::Node;
use super::tree::Retry;
use super::tree::Route;
use super::tree::Work;

/// Lists in lists.
const DEEPEST: u32 = 4;
/// Error types that agents and `fail` states raise.
const ERRORS: [&str; 4] = ["flaky", "broken", "agent_error", "denied"];

/// Random choices, all from one generator.
pub(super) struct Dice<'r>(pub(super) &'r mut fastrand::Rng);

impl Dice<'_> {
    /// True in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(0..100) < percent
    }

    /// From 0 to one less; 0 for nothing.
    pub(super) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.usize(0..end) }
    }

    /// Both included.
    pub(super) fn between(&mut self, from: u32, to: u32) -> u32 {
        self.0.u32(from..=to)
    }

    /// Milliseconds, below this and mostly much below.
    pub(super) fn time(&mut self, end: u64) -> u64 {
        let most = self.0.u64(1..=end.max(1));
        self.0.u64(0..=most)
    }

    /// The same with one end in so many of a hundred cases, else with the other.
    pub(super) fn time_or(&mut self, percent: u32, end: u64, other: u64) -> u64 {
        let end = if self.chance(percent) { end } else { other };
        self.time(end)
    }

    /// One of these.
    pub(super) fn pick<T: Copy + Default>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len());
        items.get(index).copied().unwrap_or_default()
    }
}

/// A flow of about `size` states.
pub(super) fn flow(rng: &mut fastrand::Rng, size: u32) -> Flow {
    let mut dice = Dice(rng);
    let size = if dice.chance(6) { size * 3 } else { dice.between(size.div_ceil(3), size.max(1)) };
    let count = dice.pick(&[0, 0, 1, 1, 2]);
    let mut children: Vec<Definition> = Vec::new();
    for index in 0..count {
        let id = dice.pick(&["child", "the child", "größe.kind", "a/b child"]);
        let states = dice.between(1, 4);
        let ids = children.iter().map(|child| child.id.clone()).collect();
        children.push(definition(&mut dice, format!("{id} {index}"), states, ids, true));
    }
    let ids = children.iter().map(|child| child.id.clone()).collect();
    let main = definition(&mut dice, "main".to_owned(), size, ids, false);
    let input = serde_json::json!({
        "n": dice.below(9),
        "flag": dice.chance(60),
        "text": dice.pick(&["a", "one", "straße", "say \"hi\" {{ n }}", ""]),
        "items": (0..dice.pick(&[0_u32, 1, 2, 3, 3, 4, 5])).collect::<Vec<_>>(),
        "words": ["a", "one", {"deep": [1]}],
    });
    let drawn = Flow { main, children, input, cues: Vec::new() };
    // What the generator leaves is whole but for what nothing leads to.
    let mut flow = mend(drawn.clone()).unwrap_or(drawn);
    flow.cues = cues::cues(&mut dice, &flow);
    mend(flow.clone()).unwrap_or(flow)
}

fn definition(
    dice: &mut Dice<'_>,
    id: String,
    size: u32,
    children: Vec<String>,
    is_child: bool,
) -> Definition {
    let (timeout, input_schema) = (dice.chance(8), dice.chance(30));
    let (object_output, cron, reversed) = (dice.chance(4), dice.chance(5), dice.chance(12));
    let seconds = u64::from(if dice.chance(25) { dice.between(1, 60) } else { dice.between(600, 90_000) });
    let mut maker = Maker {
        dice: Dice(&mut *dice.0),
        data: Data::of_input(),
        children,
        is_child,
        budget: size,
        names: 0,
        others: Vec::new(),
        loops: 0,
        nested: false,
    };
    let mut states = Vec::new();
    let mut block = Vec::new();
    while maker.budget > 0 {
        states.extend(maker.list(0, 40, &mut block));
    }
    for node in &mut states {
        node.end = false;
    }
    Definition {
        id,
        timeout: timeout.then_some(seconds),
        input_schema,
        object_output,
        cron,
        reversed,
        states,
    }
}

/// Makes the states of one definition.
struct Maker<'r> {
    dice: Dice<'r>,
    data: Data,
    children: Vec<String>,
    is_child: bool,
    budget: u32,
    names: u32,
    /// Names given out in all blocks.
    others: Vec<String>,
    loops: u32,
    /// Inside some block: its end is not the run's.
    nested: bool,
}

impl Maker<'_> {
    /// A list of states; `block` has the names that its block has already.
    fn list(&mut self, depth: u32, most: u32, block: &mut Vec<String>) -> Vec<Node> {
        let mut list = Vec::new();
        let count = self.dice.between(1, most.max(1));
        for _ in 0..count {
            list.push(self.node(depth, block));
            if self.budget == 0 {
                break;
            }
        }
        list
    }

    /// A list of its own: a new block.
    fn block(&mut self, depth: u32) -> Vec<Node> {
        let outer = std::mem::replace(&mut self.nested, true);
        let list = self.list(depth + 1, 3, &mut Vec::new());
        self.nested = outer;
        list
    }

    /// A way through the surrounding list, perhaps empty.
    fn way(&mut self, depth: u32, block: &mut Vec<String>) -> Vec<Node> {
        let known = self.data.mark();
        let mut way = if self.dice.chance(20) { Vec::new() } else { self.list(depth + 1, 2, block) };
        self.data.doubt(known);
        if self.dice.chance(12)
            && let Some(last) = way.last_mut()
        {
            last.end = true;
        }
        way
    }

    /// A list whose states may not all happen.
    fn doubtful(&mut self, depth: u32) -> Vec<Node> {
        let known = self.data.mark();
        let list = self.block(depth);
        self.data.doubt(known);
        list
    }

    fn name(&mut self, block: &mut Vec<String>) -> String {
        if self.dice.chance(4) {
            let index = self.dice.below(self.others.len());
            if let Some(other) = self.others.get(index).filter(|other| !block.contains(other)).cloned() {
                block.push(other.clone());
                return other;
            }
        }
        self.names += 1;
        let number = self.names;
        let name = match self.dice.below(24) {
            0 => format!("größe.{number}"),
            1 => format!("step {number}"),
            2 => format!("a/b{number}"),
            3 => format!("{number}#[0]%"),
            _ => format!("s{number}"),
        };
        block.push(name.clone());
        self.others.push(name.clone());
        name
    }

    fn node(&mut self, depth: u32, block: &mut Vec<String>) -> Node {
        self.budget = self.budget.saturating_sub(1);
        let mut before = block.clone();
        let name = self.name(block);
        let condition = self.dice.chance(9).then(|| self.data.condition(&mut self.dice));
        let known = self.data.mark();
        let (kind, shape) = self.kind(&name, depth, block, &mut before);
        let mut node = Node::new(name.clone(), kind);
        let is_switch = matches!(node.kind, Kind::Switch { .. } | Kind::Again { .. });
        if !matches!(node.kind, Kind::Again { .. } | Kind::Fail { .. } | Kind::Succeed { .. }) {
            node.condition.clone_from(&condition);
        }
        let is_composite = matches!(
            node.kind,
            Kind::Parallel { .. }
                | Kind::Foreach { .. }
                | Kind::While { .. }
                | Kind::Try { .. }
                | Kind::Workflow { .. }
        );
        if is_composite && self.dice.chance(14) {
            node.timeout = Some(self.limit());
        }
        if let Some(shape) = shape {
            self.data.step(&name, None, shape);
        }
        if let (Kind::Fail { .. } | Kind::Succeed { .. }, true) = (&node.kind, self.dice.chance(85)) {
            node.condition = Some(self.data.condition(&mut self.dice));
        }
        if let Some(shape) = shape.filter(|_| !is_switch && !matches!(node.kind, Kind::Inject { .. })) {
            self.writes(&mut node, shape);
        }
        if node.condition.is_some() {
            self.data.doubt(known);
        }
        node
    }

    /// Where its result goes besides `steps`.
    fn writes(&mut self, node: &mut Node, shape: Shape) {
        if self.dice.chance(30) {
            let key = self.dice.pick(&["r1", "r2", "r3", "r4"]);
            match self.dice.below(20) {
                0 if self.dice.chance(10) => node.result_path = Some(format!("$.deep.{key}[0].x")),
                0 => node.result_path = Some(format!("$.deep[\"straße 1\"].{key}")),
                1 => node.result_path = Some(format!("$.made.{key}")),
                2 => node.result_path = Some(format!("steps.{key}")),
                3 if self.dice.chance(30) => node.result_path = Some("ctx".to_owned()),
                _ => {
                    node.result_path = Some(key.to_owned());
                    self.data.root(key, shape);
                }
            }
        }
        if self.dice.chance(8) {
            let value = match self.dice.below(3) {
                0 => "$".to_owned(),
                1 => self.data.path(&mut self.dice, Shape::Any).replacen("$.", "ctx.", 1),
                _ => format!("{{{{ {} }}}}", self.data.int(&mut self.dice)),
            };
            node.output.push(("mapped".to_owned(), value));
            self.data.root("mapped", Shape::Any);
        }
    }

    /// A limit in seconds: sometimes too short.
    fn limit(&mut self) -> u64 {
        u64::from(if self.dice.chance(40) {
            self.dice.between(1, 12)
        } else {
            self.dice.between(600, 90_000)
        })
    }

    fn kind(
        &mut self,
        name: &str,
        depth: u32,
        block: &mut Vec<String>,
        before: &mut Vec<String>,
    ) -> (Kind, Option<Shape>) {
        let room = depth < DEEPEST && (self.budget > 0 || self.dice.chance(20));
        let dice = self.dice.below(if room { 100 } else { 52 });
        match dice {
            0..=17 => {
                let (work, shape) = self.work();
                if shape == Shape::Any {
                    self.data.step(name, Some("seen"), Shape::Int);
                }
                (Kind::Agent { work, long: self.dice.chance(25) }, Some(shape))
            }
            18 => (
                Kind::Log { message: format!("at {{{{ {} }}}}", self.data.int(&mut self.dice)) },
                Some(Shape::Any),
            ),
            19..=25 => self.inject(),
            26..=32 => self.transform(),
            33..=38 => (self.wait(), None),
            39 => (self.fail(), None),
            40..=42 => (self.succeed(), None),
            43..=46 | 52..=58 => self.approval(name, depth, block),
            47..=49 | 94..=95 => self.signal(depth, block),
            50..=51 => {
                before.retain(|other| other != name);
                let index = self.dice.below(before.len());
                match before.get(index) {
                    Some(to) => {
                        let times = self.dice.between(1, 3);
                        (Kind::Again { to: to.clone(), times }, None)
                    }
                    None => self.inject(),
                }
            }
            59..=67 => self.switch(depth, block),
            68..=75 => self.parallel(depth),
            76..=82 => self.foreach(name, depth),
            83..=86 if self.loops < 2 => self.while_loop(depth),
            83..=93 => self.try_catch(depth),
            _ => self.workflow(),
        }
    }

    fn work(&mut self) -> (Work, Shape) {
        let (task, shape, lasts, fails) = self.task();
        let mut timeout = None;
        if task.contains("never") {
            timeout = Some(u64::from(self.dice.between(1, 30)));
        } else if self.dice.chance(25) {
            timeout = Some(if self.dice.chance(12) {
                (lasts / 2).max(1)
            } else {
                lasts + u64::from(self.dice.between(1, 60))
            });
        }
        let mut retry = Vec::new();
        if self.dice.chance(if fails { 90 } else { 15 }) {
            retry.push(self.retry());
            if self.dice.chance(25) {
                let on = self.dice.pick(&ERRORS);
                if let Some(first) = retry.first_mut() {
                    first.on = vec![on.to_owned(), "timeout".to_owned()];
                }
                retry.push(self.retry());
            }
        }
        let agent = self.dice.pick(&["worker", "worker", "helper", "an agent.größe"]).to_owned();
        let input = self.dice.chance(35).then(|| self.input());
        let variables = self.dice.chance(10).then(|| self.input());
        (Work { agent, task, input, variables, timeout, retry, once: self.dice.chance(8) }, shape)
    }

    fn input(&mut self) -> serde_json::Value {
        let path = self.data.path(&mut self.dice, Shape::Any);
        let (value, _) = self.data.value(&mut self.dice);
        match self.dice.below(5) {
            0 => serde_json::json!(path),
            1 => serde_json::json!({"n": format!("{{{{ {} }}}}", self.data.int(&mut self.dice))}),
            _ => serde_json::json!({"a": path, "b": value}),
        }
    }

    /// A task, what it answers, how long it takes, whether it fails at first.
    fn task(&mut self) -> (String, Shape, u64, bool) {
        let mut clauses = Vec::new();
        let mut lasts = 0;
        if self.dice.chance(60) {
            let time = self.dice.pick(&["10ms", "300ms", "1s", "2s", "3s", "7s", "20s", "90s", "20m", "2h"]);
            lasts = model::parse_duration(time).map_or(0, |model::Millis(millis)| millis / 1_000);
            clauses.push(format!("take {time}"));
        }
        let mut fails = false;
        if self.dice.chance(17) {
            fails = true;
            let times = self.dice.pick(&["1", "1", "1", "1", "2", "2", "2", "3", "3", "always"]);
            let kind = if self.dice.chance(6) { "validation" } else { self.dice.pick(&ERRORS) };
            let how = if self.dice.chance(15) { " indefinite" } else { "" };
            clauses.push(format!("fail {times} {kind}{how}"));
            if self.dice.chance(10) {
                clauses.push("after 9s".to_owned());
            }
        }
        if self.dice.chance(2) {
            clauses.push("never".to_owned());
        }
        let shape = match self.dice.below(8) {
            0 | 1 => {
                clauses.push(format!("give {{{{ {} }}}}", self.data.int(&mut self.dice)));
                Shape::Int
            }
            2 => {
                clauses.push(format!("give [1, {{{{ {} }}}}, 3]", self.data.int(&mut self.dice)));
                Shape::Ints
            }
            3 => {
                clauses.push(format!("give seen {{{{ {} }}}}", self.data.text(&mut self.dice)));
                Shape::Text
            }
            4 => {
                clauses.push("give null".to_owned());
                Shape::Bool
            }
            _ => Shape::Any,
        };
        (clauses.join("; "), shape, lasts, fails)
    }

    fn retry(&mut self) -> Retry {
        let backoff = self.dice.pick(&[100, 500, 1_000, 2_000, 10_000, 60_000]);
        Retry {
            attempts: self.dice.pick(&[1, 2, 3, 3, 3, 4, 5]),
            backoff,
            exponential: self.dice.chance(40),
            max_backoff: self.dice.chance(25).then_some(backoff * 3),
            jitter: self.dice.chance(25).then(|| self.dice.between(1, 100)),
            on: if self.dice.chance(25) {
                vec![self.dice.pick(&["flaky", "broken", "agent_error", "timeout", "interrupted"]).to_owned()]
            } else {
                Vec::new()
            },
        }
    }

    fn inject(&mut self) -> (Kind, Option<Shape>) {
        let mut data = serde_json::Map::new();
        let mut written = Vec::new();
        for (key, percent) in [(self.dice.pick(&["a", "b", "c", "d"]), 100), ("list", 25)] {
            if self.dice.chance(percent) {
                let (value, shape) = self.data.value(&mut self.dice);
                data.insert(key.to_owned(), value);
                written.push((key, shape));
            }
        }
        // None of them sees the others.
        for (key, shape) in written {
            self.data.root(key, shape);
        }
        (Kind::Inject { data: data.into() }, Some(Shape::Any))
    }

    fn transform(&mut self) -> (Kind, Option<Shape>) {
        let (dice, data) = (&mut self.dice, &self.data);
        let mut input = None;
        let (program, shape) = match dice.below(30) {
            0 => ("1 // 0".to_owned(), Shape::Int),
            1 => (format!("fail(\"no: \" + str({}))", data.int(dice)), Shape::Any),
            2..=6 => (format!("[x + 1 for x in {}]", data.ints(dice)), Shape::Ints),
            7..=9 => {
                let ints = data.ints(dice);
                (format!("total = 0\nfor x in {ints}:\n    total = total + x\ntotal % 1000"), Shape::Int)
            }
            10..=12 => {
                let (int, text) = (data.int(dice), data.text(dice));
                (format!("{{\"n\": {int}, \"text\": {text}, \"ok\": True}}"), Shape::Any)
            }
            13..=14 => (format!("sorted({})", data.ints(dice)), Shape::Ints),
            15..=16 => {
                input = Some(data.list(dice));
                ("[len(input), len(json.encode(input))]".to_owned(), Shape::Ints)
            }
            17..=18 => (format!("def f(x):\n    return x % 3\nf({})", data.int(dice)), Shape::Int),
            19..=20 => (format!("{} in [1, 2]", data.int(dice)), Shape::Bool),
            21..=22 => (format!("list(range({} % 4))", data.int(dice)), Shape::Ints),
            _ => (format!("({} * 2 + 1) % 1000", data.int(dice)), Shape::Int),
        };
        (Kind::Transform { program, input }, Some(shape))
    }

    fn wait(&mut self) -> Kind {
        let duration = match self.dice.below(12) {
            0 => format!("{{{{ {} % 60 }}}}", self.data.int(&mut self.dice)),
            1 => "{{ str(n % 60) }}s".to_owned(),
            2 => {
                let time =
                    self.dice.pick(&["12:00", "09:01", "2026-01-31T09:00:30Z", "2020-01-01T00:00:00Z"]);
                return Kind::Until { time: time.to_owned() };
            }
            3 => self.dice.pick(&["3h", "PT30M", "2d"]).to_owned(),
            _ => self.dice.pick(&["1s", "2s", "5s", "10s", "30s", "500ms", "0s", "2m", "10m"]).to_owned(),
        };
        Kind::Wait { duration }
    }

    fn fail(&mut self) -> Kind {
        let error = if self.dice.chance(10) {
            "{{ text }}-error".to_owned()
        } else {
            self.dice.pick(&["broken", "denied", "flaky", "timeout"]).to_owned()
        };
        let message =
            self.dice.chance(50).then(|| format!("saw {{{{ {} }}}}", self.data.int(&mut self.dice)));
        Kind::Fail { error, message }
    }

    fn succeed(&mut self) -> Kind {
        let output = if self.dice.chance(60) {
            vec![
                ("n".to_owned(), format!("{{{{ {} }}}}", self.data.int(&mut self.dice))),
                ("any".to_owned(), self.data.path(&mut self.dice, Shape::Any)),
            ]
        } else {
            Vec::new()
        };
        Kind::Succeed { output }
    }

    fn approval(&mut self, name: &str, depth: u32, block: &mut Vec<String>) -> (Kind, Option<Shape>) {
        let route = |maker: &mut Self, words: &[&str], block: &mut Vec<String>| {
            if maker.dice.chance(45) && depth < DEEPEST {
                Route::States(maker.way(depth, block))
            } else {
                Route::Word(maker.dice.pick(words).to_owned())
            }
        };
        let on_reject = self.dice.chance(60).then(|| route(self, &["fail", "cancel"], block));
        let on_timeout =
            self.dice.chance(65).then(|| route(self, &["fail", "approve", "approve", "reject"], block));
        let quorum = self.dice.chance(30).then(|| self.dice.pick(&[2, 2, 3]));
        let approvers = if self.dice.chance(40) {
            let count = self.dice.between(quorum.unwrap_or(1), 3) as usize;
            let team = if self.dice.chance(30) { Some("team:platform".to_owned()) } else { None };
            cues::PEOPLE.iter().take(count).map(|&who| who.to_owned()).chain(team).collect()
        } else {
            Vec::new()
        };
        let kind = Kind::Approval {
            message: format!("go on with {{{{ {} }}}}?", self.data.int(&mut self.dice)),
            approvers,
            quorum,
            separation: self.dice.chance(25),
            deadline: match self.dice.below(10) {
                0 => Some(u64::from(self.dice.between(1, 30))),
                1..=4 => Some(u64::from(self.dice.between(900, 200_000))),
                _ => None,
            },
            summary: self.dice.chance(20).then(|| self.data.path(&mut self.dice, Shape::Any)),
            on_reject,
            on_timeout,
        };
        self.data.step(name, Some("approved"), Shape::Bool);
        (kind, Some(Shape::Any))
    }

    fn signal(&mut self, depth: u32, block: &mut Vec<String>) -> (Kind, Option<Shape>) {
        let signal = self.dice.pick(&["go", "go", "ready", "straße 5"]).to_owned();
        // Only the run itself gets signals, and in a loop each wait takes a new one.
        let may_last = !self.is_child && self.loops == 0;
        let timeout = (!may_last || self.dice.chance(70)).then(|| {
            u64::from(if self.dice.chance(40) {
                self.dice.between(1, 60)
            } else {
                self.dice.between(120, 40_000)
            })
        });
        let on_timeout =
            (timeout.is_some() && depth < DEEPEST && self.dice.chance(65)).then(|| self.way(depth, block));
        (Kind::Signal { signal, timeout, on_timeout }, Some(Shape::Any))
    }

    fn switch(&mut self, depth: u32, block: &mut Vec<String>) -> (Kind, Option<Shape>) {
        let count = self.dice.between(1, 3);
        let data_path = self.dice.chance(15).then(|| self.data.path(&mut self.dice, Shape::Int));
        let mut arms = Vec::new();
        for _ in 0..count {
            let condition = if self.dice.chance(8) {
                Clause::Constant(self.dice.chance(50))
            } else if data_path.is_some() && self.dice.chance(70) {
                Clause::Expression("len(str(_value)) % 2 == 0".to_owned())
            } else {
                Clause::Expression(self.data.condition(&mut self.dice))
            };
            arms.push(Arm { condition, states: self.way(depth, block) });
        }
        let default = self.dice.chance(88).then(|| self.way(depth, block));
        (Kind::Switch { data_path, arms, default }, None)
    }

    /// What a branch or iteration does: it has a copy of the context, so what it writes is not known outside.
    fn body(&mut self, depth: u32) -> (Body, Vec<(String, String)>) {
        let outside = self.data.clone();
        let (body, output) = if self.dice.chance(22) {
            (Body::Agent(self.work().0), Vec::new())
        } else {
            let states = self.block(depth);
            let output = if self.dice.chance(15) {
                vec![
                    ("n".to_owned(), format!("{{{{ {} }}}}", self.data.int(&mut self.dice))),
                    ("any".to_owned(), self.data.path(&mut self.dice, Shape::Any)),
                ]
            } else {
                Vec::new()
            };
            (Body::States(states), output)
        };
        self.data = outside;
        (body, output)
    }

    fn parallel(&mut self, depth: u32) -> (Kind, Option<Shape>) {
        let count = self.dice.pick(&[1, 2, 2, 2, 3, 3, 4]);
        let mut branches = Vec::new();
        for index in 0..count {
            let name = self.dice.pick(&["left", "b", "b", "zwölf", "a b.c/d"]);
            let (body, output) = self.body(depth);
            branches.push(Branch { name: format!("{name}{index}"), body, output });
        }
        let join = match self.dice.below(10) {
            0..=5 => Join::All,
            6..=7 => Join::Any,
            _ => Join::Count(self.dice.between(1, count)),
        };
        let array = self.dice.chance(25);
        let kind = Kind::Parallel { branches, join, wait: self.dice.chance(35), array };
        (kind, Some(if array { Shape::List } else { Shape::Any }))
    }

    fn foreach(&mut self, name: &str, depth: u32) -> (Kind, Option<Shape>) {
        let items = self.data.list(&mut self.dice);
        let item_name = self.dice.chance(20).then(|| "it".to_owned());
        let outside = self.data.clone();
        self.data.root("_index", Shape::Int);
        self.data.root(item_name.as_deref().unwrap_or("item"), Shape::Any);
        let (body, output) = self.body(depth);
        self.data = outside;
        let array = self.dice.chance(30);
        let kind = Kind::Foreach {
            items,
            item_name,
            concurrency: self.dice.chance(55).then(|| self.dice.between(1, 4)),
            wait: self.dice.chance(35),
            array,
            body,
            output,
        };
        if !array {
            self.data.step(name, Some("results"), Shape::List);
            self.data.step(name, Some("count"), Shape::Int);
        }
        (kind, Some(if array { Shape::List } else { Shape::Any }))
    }

    fn while_loop(&mut self, depth: u32) -> (Kind, Option<Shape>) {
        self.loops += 1;
        let rounds = self.dice.between(0, 4);
        let also = self.dice.chance(15).then(|| self.data.condition(&mut self.dice));
        let body = self.doubtful(depth);
        self.loops -= 1;
        let limit = match self.dice.below(10) {
            0 => Some(rounds.saturating_sub(1).max(1)),
            1..=4 => Some(rounds + self.dice.between(1, 5)),
            _ => None,
        };
        (Kind::While { rounds, also, limit, body }, Some(Shape::Any))
    }

    fn try_catch(&mut self, depth: u32) -> (Kind, Option<Shape>) {
        let mut body = self.doubtful(depth);
        if self.dice.chance(35) {
            // Something to catch.
            let mut node = Node::new("breaks", self.fail());
            node.condition = self.dice.chance(50).then(|| self.data.condition(&mut self.dice));
            body.push(node);
        }
        let mut catches = Vec::new();
        let count = self.dice.pick(&[0, 1, 1, 1, 2]);
        for index in 0..count {
            let errors = if index + 1 == count && self.dice.chance(65) {
                Vec::new()
            } else {
                let kind =
                    self.dice.pick(&["broken", "denied", "flaky", "agent_error", "expression", "rejected"]);
                vec![kind.to_owned(), "timeout".to_owned()]
            };
            let outside = self.data.clone();
            self.data.error();
            let bind = self.dice.chance(40).then(|| "oops".to_owned());
            let states = self.doubtful(depth);
            self.data = outside;
            catches.push(Catch { errors, bind, states });
        }
        let finally = (catches.is_empty() || self.dice.chance(40)).then(|| self.doubtful(depth));
        (Kind::Try { body, catches, finally }, Some(Shape::Any))
    }

    fn workflow(&mut self) -> (Kind, Option<Shape>) {
        let index = self.dice.below(self.children.len());
        let Some(workflow) = self.children.get(index).cloned() else { return self.inject() };
        let input = self.dice.chance(85).then(|| {
            serde_json::json!({
                "n": format!("{{{{ {} }}}}", self.data.int(&mut self.dice)),
                "flag": self.dice.chance(50),
                "text": format!("{{{{ {} }}}}", self.data.text(&mut self.dice)),
                "items": format!("{{{{ {} }}}}", self.data.ints(&mut self.dice)),
                "words": ["a"],
            })
        });
        (Kind::Workflow { workflow, input }, Some(Shape::Any))
    }
}
