//! `stepwell validate`: every issue of every file, at its place.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use model::Issue;
use model::Severity;
use serde::Serialize;

use crate::args::Validate;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::project;
use crate::project::Agents;
use crate::project::FileKind;

/// What `--output json` prints.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    files: Vec<FileReport<'a>>,
}

#[derive(Serialize)]
struct FileReport<'a> {
    file: String,
    kind: &'static str,
    valid: bool,
    issues: &'a [Issue],
}

struct Checked {
    path: PathBuf,
    kind: FileKind,
    source: String,
    issues: Vec<Issue>,
}

pub(crate) fn run(args: &Validate, output: Output) -> Result<Exit, Failure> {
    let files = project::find(&args.paths, &[FileKind::Workflow, FileKind::Agent, FileKind::Test])?;
    if files.is_empty() {
        return Err(Failure::new("NO_FILES", "there is no file to validate")
            .hint("workflow files are named *.workflow.yaml, *.workflow.yml or *.workflow.json"));
    }
    let checked = check(&files)?;
    let refused = |issue: &Issue| issue.is_error() || args.strict;
    let valid = !checked.iter().flat_map(|file| &file.issues).any(refused);
    if output.json {
        let files = checked
            .iter()
            .map(|file| FileReport {
                file: file.path.display().to_string(),
                kind: file.kind.name(),
                valid: !file.issues.iter().any(refused),
                issues: &file.issues,
            })
            .collect();
        output.json(&Report { valid, files })?;
    } else {
        print(&checked, output);
    }
    Ok(if valid { Exit::Done } else { Exit::Refused })
}

fn print(checked: &[Checked], output: Output) {
    for file in checked.iter().filter(|file| !file.issues.is_empty()) {
        output.text(model::render_issues(
            &file.source,
            &file.path.to_string_lossy(),
            &file.issues,
            output.out.0,
        ));
    }
    let count = |severity| {
        checked.iter().flat_map(|file| &file.issues).filter(|issue| issue.severity == severity).count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let files = plural(checked.len(), "file");
    let summary = match (errors, warnings) {
        (0, 0) => output.out.green(&format!("{files} valid")),
        (0, _) => output.out.yellow(&format!("{files} valid, {}", plural(warnings, "warning"))),
        _ => {
            output.out.red(&format!("{files}: {}, {}", plural(errors, "error"), plural(warnings, "warning")))
        }
    };
    output.text(summary);
}

pub(crate) fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn check(files: &[PathBuf]) -> Result<Vec<Checked>, Failure> {
    let mut sources = Vec::with_capacity(files.len());
    for path in files {
        // A file that is named is taken for a workflow unless its name says otherwise.
        sources.push((path, FileKind::of(path).unwrap_or(FileKind::Workflow), project::read(path)?));
    }
    // Sub-workflows are looked for among all that were given, when a folder was.
    let ids: BTreeSet<String> = sources
        .iter()
        .filter(|(_, kind, _)| *kind == FileKind::Workflow)
        .filter_map(|(path, _, source)| project::workflow_id(source, path))
        .collect();
    let mut folders: BTreeMap<PathBuf, Agents> = BTreeMap::new();
    let mut checked = Vec::with_capacity(sources.len());
    for (path, kind, source) in sources {
        let issues = match kind {
            FileKind::Workflow => workflow(path, &source, (files.len() > 1).then_some(&ids), &mut folders)?,
            FileKind::Agent => model::agent::parse(&source, &path.to_string_lossy()).1,
            FileKind::Test => testing::File::parse(&source, path).err().unwrap_or_default(),
        };
        checked.push(Checked { path: path.clone(), kind, source, issues });
    }
    Ok(checked)
}

fn workflow(
    path: &Path,
    source: &str,
    ids: Option<&BTreeSet<String>>,
    folders: &mut BTreeMap<PathBuf, Agents>,
) -> Result<Vec<Issue>, Failure> {
    let folder = project::agents_folder(path);
    if let Some(folder) = &folder
        && !folders.contains_key(folder)
    {
        folders.insert(folder.clone(), Agents::load(folder)?);
    }
    let agents = folder.as_ref().and_then(|folder| folders.get(folder));
    let file = path.to_string_lossy();
    let options = model::Options {
        file: &file,
        agents: agents.map(|agents| agents as &dyn model::AgentCatalog),
        workflows: ids,
    };
    Ok(model::parse(source, &options).issues)
}

/// How many files there are in these paths, and how many errors in them.
pub(crate) fn errors(paths: &[PathBuf]) -> Result<(usize, usize), Failure> {
    let checked = check(&project::find(paths, &[FileKind::Workflow])?)?;
    let errors = checked.iter().flat_map(|file| &file.issues).filter(|issue| issue.is_error()).count();
    Ok((checked.len(), errors))
}
