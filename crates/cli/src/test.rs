//! `stepwell test`: runs `*.test.yaml` and says what was not as expected.

use expression::Value;
use serde::Serialize;
use testing::Report;

use crate::args::Test;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::output::plain;
use crate::project;
use crate::project::FileKind;
use crate::validate::plural;

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    passed: usize,
    failed: usize,
    tests: &'a [Report],
    files: Vec<Value>,
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
    let reports = testing::run(&files, jobs, &testing::in_memory);
    let failed = reports.iter().filter(|report| !report.passed()).count();
    let passed = reports.len() - failed;
    if output.json {
        let files = broken.iter().map(|(path, issues)| broken_file(path, issues)).collect();
        output.json(&Document { passed, failed, tests: &reports, files })?;
    } else {
        for report in &reports {
            if !report.passed() || args.verbose {
                print(report, args.verbose, output);
            }
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
    if reports.is_empty() && broken.is_empty() {
        return Err(Failure::new("NO_FILES", "no test has that in its file or name"));
    }
    Ok(if failed == 0 && broken.is_empty() { Exit::Done } else { Exit::Refused })
}

fn broken_file(path: &std::path::Path, issues: &[model::Issue]) -> Value {
    let issues = serde_json::to_value(issues).map(Value::from).unwrap_or_default();
    crate::output::object([("file", path.to_string_lossy().into_owned().into()), ("issues", issues)])
}

fn print(report: &Report, verbose: bool, output: Output) {
    let paint = output.out;
    let verdict = if report.passed() { paint.green("ok    ") } else { paint.red("FAILED") };
    output.text(format_args!(
        "{verdict} {}:{} {}",
        report.file.display(),
        report.line,
        paint.bold(&report.name)
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
