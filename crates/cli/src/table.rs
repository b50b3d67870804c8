//! How many tests passed, by folder and home.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::output::Paint;
use crate::test::Outcome;

/// Tests of one folder in one home.
#[derive(Clone, Copy, Default)]
struct Cell {
    passed: usize,
    total: usize,
    /// Of all tests, as if they had run one after another.
    millis: u64,
}

/// A row for each folder, a column for each home, and what they make together.
pub(crate) fn render(outcomes: &[Outcome], paint: Paint) -> String {
    let mut rows: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
    let mut totals = vec![Cell::default(); outcomes.len()];
    for (column, outcome) in outcomes.iter().enumerate() {
        for report in &outcome.reports {
            let folder = report.file.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
            let row = rows.entry(folder.to_string_lossy().into_owned());
            let row = row.or_insert_with(|| vec![Cell::default(); outcomes.len()]);
            for cell in [row.get_mut(column), totals.get_mut(column)].into_iter().flatten() {
                cell.total += 1;
                cell.passed += usize::from(report.passed());
                cell.millis += report.millis;
            }
        }
    }
    // What the whole took is what one waited for: tests run beside each other.
    for (total, outcome) in totals.iter_mut().zip(outcomes) {
        total.millis = millis(outcome.took);
    }
    let width = rows.keys().map(|name| name.chars().count()).max().unwrap_or_default().max("together".len());
    let mut text = format!("{:width$}", "");
    for outcome in outcomes {
        let _ = write!(text, "  {:>18}", outcome.home.name());
    }
    let all = rows.into_iter().chain([("together".to_owned(), totals)]);
    for (name, cells) in all {
        let _ = write!(text, "\n{name:width$}");
        for cell in cells {
            let passed = format!("{:>8}", format!("{}/{}", cell.passed, cell.total));
            let passed = if cell.passed == cell.total { paint.green(&passed) } else { paint.red(&passed) };
            let took = format!("{:.2} s", Duration::from_millis(cell.millis).as_secs_f64());
            let _ = write!(text, "  {passed}{}", paint.dim(&format!("{took:>10}")));
        }
    }
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
