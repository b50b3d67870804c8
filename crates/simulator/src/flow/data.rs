//! What a state of a random flow can read: names that are there, and expressions over them.

use super::random::Dice;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An integer.
    Int,
    /// A boolean.
    Bool,
    /// A text.
    Text,
    /// A list of integers.
    Ints,
    /// Some list.
    List,
    /// Anything.
    Any,
}

/// A value that can be read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// As an expression.
    pub(super) expression: String,
    /// The same where it may not be there, and is then None.
    gentle: String,
    /// As a path.
    pub(super) path: String,
    /// What it is.
    pub(super) shape: Shape,
    /// It is certainly there; else it may be None.
    pub(super) sure: bool,
    /// Counts what came to be known.
    serial: usize,
}

/// What can be read at one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    known: Vec<Known>,
    next: usize,
}

impl Data {
    /// The input of every run.
    pub(super) fn of_input() -> Self {
        let mut data = Self::default();
        for (key, shape) in [
            ("n", Shape::Int),
            ("flag", Shape::Bool),
            ("text", Shape::Text),
            ("items", Shape::Ints),
            ("words", Shape::List),
        ] {
            data.root(key, shape);
        }
        data
    }

    /// A root key.
    pub(super) fn root(&mut self, key: &str, shape: Shape) {
        self.add(key.to_owned(), key.to_owned(), format!("$.{key}"), shape);
    }

    /// A state's output, or one of its keys.
    pub(super) fn step(&mut self, state: &str, key: Option<&str>, shape: Shape) {
        let is_name = state.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let place = if is_name { format!("steps.{state}") } else { format!("steps[\"{state}\"]") };
        match key {
            None => self.add(place.clone(), place.clone(), format!("$.{place}"), shape),
            Some(key) => {
                let gentle = format!("({place} or {{}}).get(\"{key}\")");
                self.add(format!("{place}.{key}"), gentle, format!("$.{place}.{key}"), shape);
            }
        }
    }

    /// What a `catch` sees.
    pub(super) fn error(&mut self) {
        let kind = "_error.type".to_owned();
        self.add(kind.clone(), kind, "$._error.type".to_owned(), Shape::Text);
        let message = "_errorMessage".to_owned();
        self.add(message.clone(), message, "$._error.message".to_owned(), Shape::Text);
    }

    fn add(&mut self, expression: String, gentle: String, path: String, shape: Shape) {
        self.known.retain(|known| known.path != path);
        self.known.push(Known { expression, gentle, path, shape, sure: true, serial: self.next });
        self.next += 1;
    }

    /// Where what is known from now on begins.
    pub(super) fn mark(&self) -> usize {
        self.next
    }

    /// What came to be known since may not have happened.
    pub(super) fn doubt(&mut self, since: usize) {
        for known in self.known.iter_mut().filter(|known| known.serial >= since) {
            known.sure = false;
        }
    }

    /// The newest are read most: then loops and branches show.
    fn pick(&self, dice: &mut Dice<'_>, fits: impl Fn(&Known) -> bool) -> Option<&Known> {
        let fitting: Vec<&Known> = self.known.iter().filter(|known| fits(known)).collect();
        let back = dice.below(fitting.len()).min(dice.below(fitting.len()));
        fitting.iter().rev().nth(back).copied()
    }

    /// A path to something of this shape that is there.
    pub(super) fn path(&self, dice: &mut Dice<'_>, shape: Shape) -> String {
        let found = self.pick(dice, |known| known.sure && (shape == Shape::Any || known.shape == shape));
        found.map_or_else(|| "$.n".to_owned(), |known| known.path.clone())
    }

    /// A path to a list.
    pub(super) fn list(&self, dice: &mut Dice<'_>) -> String {
        let found = self.pick(dice, |known| known.sure && matches!(known.shape, Shape::Ints | Shape::List));
        found.map_or_else(|| "$.items".to_owned(), |known| known.path.clone())
    }

    /// An integer.
    pub(super) fn int(&self, dice: &mut Dice<'_>) -> String {
        match dice.below(8) {
            0 => format!("len({})", self.text(dice)),
            1 => format!("len({})", self.ints(dice)),
            2 => self.size(dice),
            _ => {
                let found = self.pick(dice, |known| known.shape == Shape::Int);
                match found {
                    Some(known) if known.sure => known.expression.clone(),
                    Some(known) => format!("({} or 0)", known.gentle),
                    None => "7".to_owned(),
                }
            }
        }
    }

    /// The size of anything, as text.
    fn size(&self, dice: &mut Dice<'_>) -> String {
        if dice.chance(30) {
            return "len(json.encode(input))".to_owned();
        }
        let found = self.pick(dice, |known| known.sure);
        format!("len(json.encode({}))", found.map_or("n", |known| &known.expression))
    }

    /// A text.
    pub(super) fn text(&self, dice: &mut Dice<'_>) -> String {
        match self.pick(dice, |known| known.shape == Shape::Text) {
            Some(known) if known.sure => known.expression.clone(),
            Some(known) => format!("({} or \"-\")", known.gentle),
            None => "\"text\"".to_owned(),
        }
    }

    /// A list of integers.
    pub(super) fn ints(&self, dice: &mut Dice<'_>) -> String {
        match self.pick(dice, |known| known.shape == Shape::Ints) {
            Some(known) if known.sure => known.expression.clone(),
            Some(known) => format!("({} or [])", known.gentle),
            None => "[1, 2]".to_owned(),
        }
    }

    /// A condition; now and then one that fails.
    pub(super) fn condition(&self, dice: &mut Dice<'_>) -> String {
        match dice.below(80) {
            0 => "steps.nowhere.x > 1".to_owned(),
            1..=4 => format!("{} > 2", self.int(dice)),
            5..=9 => format!("len({}) < 3", self.ints(dice)),
            10..=13 => {
                let found = self.pick(dice, |known| known.shape == Shape::Bool);
                let flag = found.map_or("True", |known| &known.gentle);
                if dice.chance(30) { format!("not {flag}") } else { flag.to_owned() }
            }
            14..=17 => {
                let found = self.pick(dice, |known| !known.sure);
                format!("{} != None", found.map_or("n", |known| &known.gentle))
            }
            18..=21 => format!("{} in [\"a\", \"one\", \"straße\"]", self.text(dice)),
            22..=30 => format!("{} % 2 == {}", self.int(dice), dice.below(2)),
            _ => format!("{} % 5 < {}", self.int(dice), dice.between(1, 4)),
        }
    }

    /// A value for data: JSON with templates in it.
    pub(super) fn value(&self, dice: &mut Dice<'_>) -> (serde_json::Value, Shape) {
        match dice.below(9) {
            0 => (serde_json::json!(dice.below(9)), Shape::Int),
            1 => (serde_json::json!(["x", {"deep": [dice.below(3)]}, null]), Shape::List),
            2 => (serde_json::json!(format!("say {{{{ {} }}}}", self.text(dice))), Shape::Text),
            3 => (serde_json::json!(format!("{{{{ {} }}}}", self.ints(dice))), Shape::Ints),
            4 => (serde_json::json!(dice.chance(50)), Shape::Bool),
            5 => (serde_json::json!([1, format!("{{{{ {} }}}}", self.int(dice)), 3]), Shape::Ints),
            _ => (serde_json::json!(format!("{{{{ {} }}}}", self.int(dice))), Shape::Int),
        }
    }
}
