//! What came of tests.

use std::path::PathBuf;

use serde::Serialize;

/// What came of one test.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The test's file.
    pub file: PathBuf,
    /// The test's name.
    pub name: String,
    /// Its line in the file.
    pub line: u32,
    /// What was not as expected; nothing when the test passed.
    pub failures: Vec<Failure>,
    /// What happened in the run, a line each.
    pub timeline: Vec<String>,
    /// How long it took, in milliseconds of real time.
    pub millis: u64,
}

impl Report {
    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// One thing that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What was looked at: `status`, `path`, `context steps.a.b`.
    pub what: String,
    /// What the test expects, a line for each part.
    pub expected: Vec<String>,
    /// What came, a line for each part.
    pub actual: Vec<String>,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Failure {
    pub(crate) fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), expected: vec![expected.into()], actual: vec![actual.into()], note: None }
    }

    pub(crate) fn lines(what: impl Into<String>, expected: Vec<String>, actual: Vec<String>) -> Self {
        Self { what: what.into(), expected, actual, note: None }
    }

    /// Something the test did not foresee.
    pub(crate) fn problem(message: impl Into<String>) -> Self {
        Self { what: message.into(), expected: Vec::new(), actual: Vec::new(), note: None }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Expected (`-`) and actual (`+`) as a diff; lines on both sides begin with a space.
    pub fn diff(&self) -> Vec<(char, &str)> {
        diff(&self.expected, &self.actual)
    }
}

/// The longest common lines stay, the others are taken out or put in.
fn diff<'l>(expected: &'l [String], actual: &'l [String]) -> Vec<(char, &'l str)> {
    // Beyond this a table of all pairs would cost more than it shows.
    const MAX_CELLS: usize = 4_000_000;
    let all = |sign: char, lines: &'l [String]| lines.iter().map(move |line| (sign, line.as_str()));
    if expected.len().saturating_mul(actual.len()) > MAX_CELLS {
        return all('-', expected).chain(all('+', actual)).collect();
    }
    // lengths[i][j]: the longest common part of what follows expected i and actual j.
    let mut lengths = vec![vec![0_u32; actual.len() + 1]; expected.len() + 1];
    for (i, left) in expected.iter().enumerate().rev() {
        for (j, right) in actual.iter().enumerate().rev() {
            let length = if left == right {
                at(&lengths, i + 1, j + 1) + 1
            } else {
                at(&lengths, i + 1, j).max(at(&lengths, i, j + 1))
            };
            if let Some(cell) = lengths.get_mut(i).and_then(|row| row.get_mut(j)) {
                *cell = length;
            }
        }
    }
    let mut lines = Vec::with_capacity(expected.len() + actual.len());
    let (mut i, mut j) = (0, 0);
    loop {
        match (expected.get(i), actual.get(j)) {
            (Some(left), Some(right)) if left == right => {
                lines.push((' ', left.as_str()));
                i += 1;
                j += 1;
            }
            (Some(left), right) if right.is_none() || at(&lengths, i + 1, j) >= at(&lengths, i, j + 1) => {
                lines.push(('-', left.as_str()));
                i += 1;
            }
            (_, Some(right)) => {
                lines.push(('+', right.as_str()));
                j += 1;
            }
            _ => return lines,
        }
    }
}

fn at(lengths: &[Vec<u32>], i: usize, j: usize) -> u32 {
    lengths.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn a_diff_keeps_what_is_common() {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let shown = |expected: &str, actual: &str| {
            let (expected, actual) = (lines(expected), lines(actual));
            let lines: Vec<String> =
                diff(&expected, &actual).into_iter().map(|(sign, line)| format!("{sign}{line}")).collect();
            lines.concat()
        };
        assert_eq!(shown("abc", "abc"), " a b c");
        assert_eq!(shown("abcd", "axcd"), " a-b+x c d");
        assert_eq!(shown("", "ab"), "+a+b");
        assert_eq!(shown("ab", ""), "-a-b");
    }
}
