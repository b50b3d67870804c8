//! What an expression reads, known before it runs.

use std::collections::HashSet;

/// A name that is read and not assigned, with the constant keys read behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The name: `ctx` in `ctx.a.b`.
    pub name: String,
    /// The keys: `a`, `b` in `ctx.a["b"]`.
    pub keys: Vec<String>,
    /// Whether it may be missing: it is asked for with `get`, `hasattr`, `getattr` or `in`, here or elsewhere in
    /// the same source.
    pub optional: bool,
    /// Where the name stands, in bytes from the start of the source.
    pub offset: usize,
    /// The line of the name, from 1.
    pub line: u32,
    /// The column of the name in characters, from 1.
    pub column: u32,
    /// What was probably meant, if it looks like a slip: `steps["check-pods"]`.
    pub hint: Option<String>,
}

/// What is asked for somewhere may be missing everywhere: the question usually guards the other reads.
pub(crate) fn settle(references: &mut [Reference]) {
    let asked: HashSet<(String, Vec<String>)> = references
        .iter()
        .filter(|reference| reference.optional)
        .map(|reference| (reference.name.clone(), reference.keys.clone()))
        .collect();
    if asked.is_empty() {
        return;
    }
    for reference in references.iter_mut().filter(|reference| !reference.optional) {
        // The tree bounds how many keys there are; the question may be about any of them.
        let mut read = (reference.name.clone(), reference.keys.clone());
        while !read.1.is_empty() && !reference.optional {
            reference.optional = asked.contains(&read);
            read.1.pop();
        }
    }
}

/// Lines and columns of offsets that mostly grow, without counting from the start each time.
#[derive(Debug)]
pub(crate) struct Positions<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    column: u32,
}

impl<'a> Positions<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1, column: 1 }
    }

    /// Line and column (in characters), both from 1.
    pub(crate) fn at(&mut self, offset: usize) -> (u32, u32) {
        if offset < self.offset {
            *self = Self::new(self.text);
        }
        for character in self.text.get(self.offset..offset).unwrap_or_default().chars() {
            if character == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            } else {
                self.column += 1;
            }
        }
        self.offset = offset;
        (self.line, self.column)
    }
}
