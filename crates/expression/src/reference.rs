//! What an expression reads, known before it runs.

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
    let asked: Vec<_> = references
        .iter()
        .filter(|reference| reference.optional)
        .map(|reference| (reference.name.clone(), reference.keys.clone()))
        .collect();
    for reference in references {
        let guarded =
            asked.iter().any(|(name, keys)| *name == reference.name && reference.keys.starts_with(keys));
        reference.optional |= guarded;
    }
}
