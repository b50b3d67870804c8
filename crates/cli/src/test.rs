//! `stepwell test`: runs `*.test.yaml` and says what was not as expected.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use expression::Value;
use runtime::memory;
use runtime::memory::VirtualClock;
use serde::Serialize;
use testing::AtOnce;
use testing::Home;
use testing::Report;

use crate::args::HomeKind;
use crate::args::Test;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::output::plain;
use crate::project;
use crate::project::FileKind;
use crate::table;
use crate::validate::plural;

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    passed: usize,
    failed: usize,
    tests: Vec<Entry<'a>>,
    files: Vec<Value>,
}

#[derive(Serialize)]
struct Entry<'a> {
    home: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// What came of all tests in one home.
pub(crate) struct Outcome {
    pub(crate) home: HomeKind,
    pub(crate) reports: Vec<Report>,
    pub(crate) took: Duration,
}

pub(crate) fn run(args: &Test, output: Output) -> Result<Exit, Failure> {
    let paths = project::find(&args.paths, &[FileKind::Test])?;
    if paths.is_empty() {
        return Err(
            Failure::new("NO_FILES", "there is no test to run").hint("tests are files named *.test.yaml")
        );
    }
    let mut files = Vec::new();
    let mut broken = Vec::new();
    for path in &paths {
        let source = project::read(path)?;
        match testing::File::parse(&source, path) {
            Ok(mut file) => {
                if let Some(filter) = &args.filter {
                    let whole = path.to_string_lossy().contains(filter.as_str());
                    file.cases.retain(|case| whole || case.name.contains(filter.as_str()));
                }
                files.push(file);
            }
            Err(issues) => {
                if !output.json {
                    output.text(model::render_issues(
                        &source,
                        &path.to_string_lossy(),
                        &issues,
                        output.out.0,
                    ));
                }
                broken.push((path, issues));
            }
        }
    }
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let outcomes =
        args.homes.iter().map(|home| perform(*home, &files, jobs)).collect::<Result<Vec<_>, _>>()?;
    let reports =
        || outcomes.iter().flat_map(|outcome| outcome.reports.iter().map(move |report| (outcome, report)));
    let failed = reports().filter(|(_, report)| !report.passed()).count();
    let passed = reports().count() - failed;
    if output.json {
        let files = broken.iter().map(|(path, issues)| broken_file(path, issues)).collect();
        let tests = reports().map(|(outcome, report)| Entry { home: outcome.home.name(), report }).collect();
        output.json(&Document { passed, failed, tests, files })?;
    } else {
        for (outcome, report) in reports() {
            if !report.passed() || args.verbose {
                let home = if args.homes.len() > 1 { outcome.home.name() } else { "" };
                print(report, home, args.verbose, output);
            }
        }
        if args.table {
            output.text(table::render(&outcomes, output.out));
        }
        let summary = format!("{passed} passed, {failed} failed");
        let summary = if broken.is_empty() {
            summary
        } else {
            format!("{summary}, {} unreadable", plural(broken.len(), "file"))
        };
        output.text(if failed == 0 && broken.is_empty() {
            output.out.green(&summary)
        } else {
            output.out.red(&summary)
        });
    }
    if reports().count() == 0 && broken.is_empty() {
        return Err(Failure::new("NO_FILES", "no test has that in its file or name"));
    }
    Ok(if failed == 0 && broken.is_empty() { Exit::Done } else { Exit::Refused })
}

#[allow(clippy::disallowed_methods)] // How long the tests took is real time, and nothing depends on it.
fn perform(home: HomeKind, files: &[testing::File], jobs: usize) -> Result<Outcome, Failure> {
    let begun = std::time::Instant::now();
    let reports = match home {
        HomeKind::Memory => testing::run(files, jobs, &testing::in_memory),
        HomeKind::Sqlite => {
            let folder = tempfile::tempdir().map_err(|error| {
                Failure::new("STORE_PATH", format!("cannot make a folder for the tests' databases: {error}"))
            })?;
            let count = AtomicUsize::new(0);
            testing::run(files, jobs, &move |clock| {
                let number = count.fetch_add(1, Ordering::Relaxed);
                in_sqlite(&folder.path().join(format!("{number}.db")), clock)
            })
        }
    };
    Ok(Outcome { home, reports, took: begun.elapsed() })
}

fn in_sqlite(database: &Path, clock: Arc<VirtualClock>) -> Result<Home, String> {
    let store = sqlite::Store::open(database, &sqlite::Options::default());
    let store = Arc::new(AtOnce::new(Arc::new(store.map_err(|error| error.to_string())?)));
    let doorbell = Arc::new(memory::Doorbell::new(clock));
    Ok(Home { journal: store.clone(), catalog: store, doorbell, shared: false })
}

impl HomeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
        }
    }
}

fn broken_file(path: &std::path::Path, issues: &[model::Issue]) -> Value {
    let issues = serde_json::to_value(issues).map(Value::from).unwrap_or_default();
    crate::output::object([("file", path.to_string_lossy().into_owned().into()), ("issues", issues)])
}

fn print(report: &Report, home: &str, verbose: bool, output: Output) {
    let paint = output.out;
    let verdict = if report.passed() { paint.green("ok    ") } else { paint.red("FAILED") };
    output.text(format_args!(
        "{verdict} {}:{} {}{}",
        report.file.display(),
        report.line,
        paint.bold(&report.name),
        if home.is_empty() { String::new() } else { format!(" in {home}") }
    ));
    for failure in &report.failures {
        output.text(format_args!("    {}", failure.what));
        for (sign, line) in failure.diff() {
            let line = format!("{sign} {}", plain(line));
            output.text(format_args!(
                "      {}",
                match sign {
                    '-' => paint.red(&line),
                    '+' => paint.green(&line),
                    _ => paint.dim(&line),
                }
            ));
        }
        for line in failure.note.iter().flat_map(|note| note.lines()) {
            output.text(format_args!("      {}", paint.dim(&plain(line))));
        }
    }
    if !report.timeline.is_empty() && (verbose || !report.passed()) {
        output.text(format_args!(
            "    {}",
            paint.dim("timeline (- expected, + came)").replace(" (- expected, + came)", "")
        ));
        for line in &report.timeline {
            output.text(format_args!("      {}", paint.dim(&plain(line))));
        }
    }
}
