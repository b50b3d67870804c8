//! Issues as text, with the lines of the source that they speak of.

use std::fmt::Write as _;

use crate::Issue;
use crate::Severity;

/// Issues as a person reads them in a terminal: the code, the place, the line with a caret under the place, the hint.
pub fn render_issues(source: &str, file: &str, issues: &[Issue], color: bool) -> String {
    let paint = Paint { color };
    let lines: Vec<&str> = source.strip_prefix('\u{feff}').unwrap_or(source).lines().collect();
    let mut out = String::new();
    for (index, issue) in issues.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        one(&mut out, &lines, file, issue, &paint);
    }
    out
}

/// Longer lines are shown around the place.
const WIDTH: usize = 120;

fn one(out: &mut String, lines: &[&str], file: &str, issue: &Issue, paint: &Paint) {
    let severity = match issue.severity {
        Severity::Error => paint.red(&format!("error[{}]", issue.code)),
        Severity::Warning => paint.yellow(&format!("warning[{}]", issue.code)),
    };
    let gutter = " ".repeat(issue.line.to_string().len());
    let bar = paint.blue("|");
    let _ = writeln!(out, "{severity}: {}", issue.message);
    let _ = writeln!(out, "{gutter}{} {file}:{}:{}", paint.blue("-->"), issue.line, issue.column);
    if let Some(line) = lines.get((issue.line as usize).saturating_sub(1)) {
        let (quote, caret) = window(line, issue.column as usize);
        let _ = writeln!(out, "{gutter} {bar}");
        let _ = writeln!(out, "{} {bar} {quote}", paint.blue(&issue.line.to_string()));
        let _ = writeln!(out, "{gutter} {bar} {}{}", " ".repeat(caret), paint.red("^"));
    }
    for (label, text) in [("expected", &issue.expected), ("found", &issue.actual), ("hint", &issue.hint)] {
        if let Some(text) = text {
            let _ = writeln!(out, "{gutter} {} {}: {text}", paint.blue("="), paint.bold(label));
        }
    }
}

/// The part of a line that is shown, and how many cells in front of the caret. Tabs and control characters are one cell.
fn window(line: &str, column: usize) -> (String, usize) {
    let at = column.saturating_sub(1);
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let from = if chars.len() <= WIDTH { 0 } else { at.saturating_sub(WIDTH / 2).min(chars.len() - WIDTH) };
    let shown: String = chars.iter().skip(from).take(WIDTH).collect();
    (shown.trim_end().to_owned(), at.saturating_sub(from).min(WIDTH))
}

struct Paint {
    color: bool,
}

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn red(&self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    fn blue(&self, text: &str) -> String {
        self.wrap("1;34", text)
    }

    fn bold(&self, text: &str) -> String {
        self.wrap("1", text)
    }
}
