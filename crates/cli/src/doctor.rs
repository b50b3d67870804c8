//! `stepwell doctor`: one line for each thing that can be wrong, and what to do about it.

use std::path::Path;
use std::time::Duration;

use expression::Value;
use model::agent::Kind;

use crate::args::Doctor;
use crate::args::Global;
use crate::client;
use crate::client::Client;
use crate::client::Server;
use crate::home;
use crate::output;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;
use crate::output::plain;
use crate::project::Agents;
use crate::validate::plural;

/// Less free space than this is worth a warning, less than a tenth of it a failure.
const ENOUGH_SPACE: u64 = 1 << 30;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

struct Finding {
    verdict: Verdict,
    what: &'static str,
    message: String,
    advice: Option<String>,
}

fn ok(what: &'static str, message: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Ok, what, message: message.into(), advice: None }
}

fn warn(what: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Warn, what, message: message.into(), advice: Some(advice.into()) }
}

fn fail(what: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Fail, what, message: message.into(), advice: Some(advice.into()) }
}

pub(crate) fn run(args: &Doctor, global: &Global, output: Output) -> Result<Exit, Failure> {
    let database = match &global.db {
        Some(database) => database.clone(),
        None => args.project.join(home::DEFAULT_DATABASE),
    };
    let mut findings = Vec::new();
    client::runtime()?.block_on(async {
        server(global, &database, &mut findings).await;
    });
    findings.push(space(&database));
    findings.push(clock(&database));
    definitions(&args.project, &mut findings);
    show(&findings, output)?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Exit::Refused } else { Exit::Done })
}

fn show(findings: &[Finding], output: Output) -> Result<(), Failure> {
    if output.json {
        let checks: Value = findings
            .iter()
            .map(|finding| {
                output::object([
                    ("check", finding.what.into()),
                    ("verdict", finding.verdict.name().into()),
                    ("message", finding.message.as_str().into()),
                    ("advice", finding.advice.clone().into()),
                ])
            })
            .collect();
        let healthy = findings.iter().all(|finding| finding.verdict != Verdict::Fail);
        return output.json(&output::object([("healthy", healthy.into()), ("checks", checks)]));
    }
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => output.out.green("ok  "),
            Verdict::Warn => output.out.yellow("warn"),
            Verdict::Fail => output.out.red("fail"),
        };
        output.text(format_args!("{verdict} {:<10} {}", finding.what, plain(&finding.message)));
        if let Some(advice) = &finding.advice {
            output.text(format_args!("     {:<10} {} {}", "", output.out.bold("→"), plain(advice)));
        }
    }
    Ok(())
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The database, who holds it, and whether that one answers.
async fn server(global: &Global, database: &Path, findings: &mut Vec<Finding>) {
    match Server::named(global).await {
        Ok(None) => {}
        Ok(Some(server)) => return findings.push(reached(&server).await),
        Err(failure) => {
            return findings.push(fail("server", failure.message, failure.hint.unwrap_or_default()));
        }
    }
    if !database.exists() {
        let advice = "`stepwell sync` or `stepwell serve` makes it; --db or STEPWELL_DB names another";
        findings.push(warn("database", format!("there is none at {}", database.display()), advice));
        return;
    }
    match sqlite::holder(database) {
        Ok(Some(holder)) => {
            findings
                .push(ok("database", format!("{} is held by process {}", database.display(), holder.pid)));
            match holder.address.as_deref().map(Server::at) {
                Some(Ok(server)) => findings.push(reached(&server).await),
                _ => findings.push(warn(
                    "server",
                    format!("process {} serves nothing", holder.pid),
                    "wait until it is done, or stop it",
                )),
            }
        }
        Ok(None) => {
            findings.push(ok("lock", "nobody holds the database"));
            findings.push(opened(database).await);
            findings.push(ok("server", "none runs; `stepwell serve` starts one"));
        }
        Err(error) => {
            findings.push(fail("lock", error.message, format!("see docs/errors/{}.md", error.code)));
        }
    }
}

async fn reached(server: &Server) -> Finding {
    if server.is_alive().await {
        return ok("server", format!("answers at {}", server.url()));
    }
    fail(
        "server",
        format!("none answers at {}", server.url()),
        "start it with `stepwell serve`, or correct the address",
    )
}

/// Opens the database as a server would: schema, damage, permissions.
async fn opened(database: &Path) -> Finding {
    match home::open_or_server(database) {
        Ok(client) => {
            let runs = client.get("/workflow-runs?limit=1").await;
            let finding = match (runs, &client) {
                (Err(failure), _) => {
                    fail("database", failure.message, format!("see docs/errors/{}.md", failure.code))
                }
                (Ok(_), Client::Here(_) | Client::Server(_)) => {
                    let size = std::fs::metadata(database).map_or(0, |data| data.len());
                    ok("database", format!("{} opens, {} KiB", database.display(), size / 1024))
                }
            };
            client.close().await;
            finding
        }
        Err(failure) => {
            let advice = failure.hint.unwrap_or_else(|| format!("see docs/errors/{}.md", failure.code));
            fail("database", failure.message, advice)
        }
    }
}

/// The nearest folder above a path that exists.
fn existing(path: &Path) -> &Path {
    let mut folder = path;
    while !folder.exists() {
        match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => folder = parent,
            _ => return Path::new("."),
        }
    }
    folder
}

fn space(database: &Path) -> Finding {
    let folder = existing(database);
    match rustix::fs::statvfs(folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let said = format!("{} MiB free at {}", free >> 20, folder.display());
            if free < ENOUGH_SPACE / 10 {
                fail("disk", said, "make room: a full disk stops every run")
            } else if free < ENOUGH_SPACE {
                warn("disk", said, "make room before it is full")
            } else {
                ok("disk", said)
            }
        }
        Err(error) => warn("disk", format!("free space is unknown: {error}"), "look at it yourself"),
    }
}

/// A clock that went back: the database was written "in the future".
fn clock(database: &Path) -> Finding {
    use runtime::ports::Clock;
    let now = runtime::SystemClock.now();
    if now < jiff::Timestamp::UNIX_EPOCH + Duration::from_hours(50 * 365 * 24) {
        return fail(
            "clock",
            format!("it is {now:.0}, says the machine"),
            "set the machine's time, best with NTP",
        );
    }
    let modified = std::fs::metadata(database).and_then(|data| data.modified()).ok();
    let modified = modified.and_then(|time| jiff::Timestamp::try_from(time).ok());
    match modified {
        Some(modified) if modified > now + Duration::from_mins(1) => fail(
            "clock",
            format!("it is {now:.0}, but the database was written at {modified:.0}"),
            "set the machine's time; until it has caught up, timers are late",
        ),
        _ => ok("clock", format!("{now:.0}")),
    }
}

/// Workflows and agents of the project, and the programs its agents run.
fn definitions(folder: &Path, findings: &mut Vec<Finding>) {
    let workflows = folder.join("workflows");
    if !workflows.is_dir() {
        findings.push(ok("project", format!("{} has no workflows/", folder.display())));
        return;
    }
    let agents = Some(folder.join("agents")).filter(|agents| agents.is_dir());
    let agents = match agents.as_deref().map(Agents::load).transpose() {
        Ok(agents) => agents.unwrap_or_default(),
        Err(failure) => {
            findings.push(fail("agents", failure.message, "make the folder readable"));
            return;
        }
    };
    for file in agents.files.iter().filter(|file| file.name.is_none()) {
        findings.push(fail(
            "agents",
            format!("{} is refused", file.path.display()),
            format!("stepwell validate {}", file.path.display()),
        ));
    }
    match crate::validate::errors(&[workflows]) {
        Ok((files, 0)) => findings.push(ok("workflows", format!("{} valid", plural(files, "file")))),
        Ok((_, errors)) => {
            findings.push(fail("workflows", plural(errors, "error"), "stepwell validate workflows"));
        }
        Err(failure) => findings.push(warn("workflows", failure.message, failure.hint.unwrap_or_default())),
    }
    let mut missing = 0;
    for (name, agent) in &agents.agents {
        if let Kind::Command(command) = &agent.kind
            && let Some(program) = command.argv.first()
            && !exists(program, &folder.join("agents"))
        {
            missing += 1;
            findings.push(fail(
                "agents",
                format!("{name}: there is no program `{program}`"),
                "install it, or correct `command`",
            ));
        }
    }
    if missing == 0 && !agents.agents.is_empty() {
        findings.push(ok("agents", format!("{} ready", plural(agents.agents.len(), "agent"))));
    }
}

/// Whether a program can be found: by its path, or in `PATH`.
fn exists(program: &str, folder: &Path) -> bool {
    if program.contains('/') {
        return folder.join(program).is_file();
    }
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|path| path.join(program).is_file()))
}
