//! `stepwell runs`, `approvals`, `approve`, `reject` and `signal`: what the API answers, as text or as it is.

use std::time::Duration;

use axum::http::Method;
use expression::Object;
use expression::Value;

use crate::args::Approvals;
use crate::args::Decide;
use crate::args::Global;
use crate::args::Runs;
use crate::args::Signal;
use crate::client::Client;
use crate::client::LONGEST_WAIT;
use crate::follow::Follower;
use crate::input;
use crate::output;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;

pub(crate) fn run(args: &Runs, global: &Global, output: Output) -> Result<Exit, Failure> {
    Client::block_on(global, async |client| match args {
        Runs::Ls { workflow, status, limit, cursor } => {
            let mut path = format!("/workflow-runs?limit={limit}");
            for (name, value) in [("workflowId", workflow), ("status", status), ("cursor", cursor)] {
                if let Some(value) = value {
                    path.push('&');
                    path.push_str(name);
                    path.push('=');
                    path.push_str(&Client::segment(value));
                }
            }
            list_runs(&client.get(&path).await?, output)
        }
        Runs::Get { run, wait } => {
            let document = match wait {
                Some(wait) => await_end(client, run, wait).await?,
                None => client.get(&format!("/workflow-runs/{}", Client::segment(run))).await?,
            };
            show_run(&document, output)?;
            Ok(if wait.is_none() { Exit::Done } else { Exit::of_status(text(&document, "status")) })
        }
        Runs::Timeline { run, follow } => timeline(client, run, *follow, output).await,
        Runs::Cancel { run, reason } => {
            let mut body = by(None);
            insert(&mut body, "reason", reason.as_deref());
            control(client, run, "cancel", &body, output).await
        }
        Runs::Pause { run } => control(client, run, "pause", &by(None), output).await,
        Runs::Resume { run } => control(client, run, "resume", &by(None), output).await,
        Runs::Redrive { run } => control(client, run, "redrive", &by(None), output).await,
    })
}

/// Waits for a run's end; asks again where the server holds a request for a shorter time.
async fn await_end(client: &Client, run: &str, wait: &str) -> Result<Value, Failure> {
    let place = format!("/workflow-runs/{}?wait=", Client::segment(run));
    let Ok(model::Millis(millis)) = model::parse_duration(wait) else {
        // The server says what is wrong with it.
        return client.get(&format!("{place}{}", Client::segment(wait))).await;
    };
    let end = tokio::time::Instant::now() + Duration::from_millis(millis);
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now()).min(LONGEST_WAIT);
        let path = format!("{place}{}ms", left.as_millis());
        let (status, document) = client.call(Method::GET, &path, None, None).await?;
        if status != 202 || left.is_zero() {
            return Ok(document);
        }
    }
}

pub(crate) fn approvals(args: &Approvals, global: &Global, output: Output) -> Result<Exit, Failure> {
    let Approvals::Ls { run } = args;
    Client::block_on(global, async |client| {
        let path = match run {
            Some(run) => format!("/workflow-runs/{}/approvals?limit=1000", Client::segment(run)),
            None => "/workflow-approvals?limit=1000".to_owned(),
        };
        let document = client.get(&path).await?;
        if output.json {
            output.json(&document)?;
            return Ok(Exit::Done);
        }
        let rows = items(&document)
            .iter()
            .map(|row| {
                ["runId", "state", "status", "deadline", "message"]
                    .map(|key| output::short(text(row, key), 100))
                    .to_vec()
            })
            .collect::<Vec<_>>();
        if rows.is_empty() {
            output.note("nothing waits for a decision");
        } else {
            output.text(output::table(
                &["RUN", "STATE", "STATUS", "DEADLINE", "QUESTION"],
                &rows,
                |column, cell| match column {
                    2 => output.out.yellow(cell),
                    _ => cell.to_owned(),
                },
            ));
        }
        Ok(Exit::Done)
    })
}

pub(crate) fn decide(args: &Decide, approve: bool, global: &Global, output: Output) -> Result<Exit, Failure> {
    let mut body = Value::object();
    insert(&mut body, "approver", Some(&input::user(args.approver.as_deref())));
    insert(&mut body, "comment", args.comment.as_deref());
    if !args.team.is_empty()
        && let Some(object) = body.object_mut()
    {
        object.insert("teams", Value::from(args.team.clone()));
    }
    if let Some(form) = &args.form
        && let Some(object) = body.object_mut()
    {
        object.insert("form", input::object(form, "--form")?);
    }
    Client::block_on(global, async |client| {
        let run = Client::segment(&args.run);
        let asked = client.get(&format!("/workflow-runs/{run}/approvals?limit=1000")).await?;
        let approval = choose(items(&asked), args)?;
        let verb = if approve { "approve" } else { "reject" };
        let path = format!("/workflow-runs/{run}/approvals/{}/{verb}", Client::segment(&approval));
        let decided = client.post(&path, &body).await?;
        if output.json {
            output.json(&decided)?;
        } else {
            let what = match (decided.get("changed").and_then(Value::as_bool), decided.get("decision")) {
                (Some(false), _) => "you had decided so before; nothing changed",
                (_, Some(_)) => "decided",
                (_, None) => "noted; more decisions are needed",
            };
            output.text(format_args!(
                "{} {what} (run {})",
                verb_done(approve),
                output.out.status(text(&decided, "status"))
            ));
        }
        goes_on(client, output);
        Ok(Exit::Done)
    })
}

fn verb_done(approve: bool) -> &'static str {
    if approve { "approved:" } else { "rejected:" }
}

/// The approval that is meant: by its id, by the state that asks, or the only one that waits.
fn choose(asked: &[Value], args: &Decide) -> Result<String, Failure> {
    let id = |approval: &Value| text(approval, "approvalId").to_owned();
    let pending: Vec<&Value> =
        asked.iter().filter(|approval| text(approval, "status") == "PENDING").collect();
    let shown = |list: &[&Value]| {
        list.iter()
            .map(|approval| {
                format!(
                    "{} ({}{})",
                    text(approval, "state"),
                    text(approval, "approvalId"),
                    scope_suffix(approval)
                )
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(wanted) = &args.approval else {
        return match pending.as_slice() {
            [only] => Ok(id(only)),
            [] => Err(Failure::new(
                "APPROVAL_NOT_FOUND",
                format!("run {} asks nothing at the moment", args.run),
            )),
            several => {
                Err(Failure::new("APPROVAL_AMBIGUOUS", format!("run {} asks several things", args.run))
                    .hint(format!("name one of: {}", shown(several))))
            }
        };
    };
    if asked.iter().any(|approval| text(approval, "approvalId") == wanted) {
        return Ok(wanted.clone());
    }
    let of_state = |list: &[&Value]| -> Vec<String> {
        list.iter()
            .filter(|approval| text(approval, "state") == wanted)
            .map(|approval| id(approval))
            .collect()
    };
    let all: Vec<&Value> = asked.iter().collect();
    match (of_state(&pending).as_slice(), of_state(&all).as_slice()) {
        ([only], _) => Ok(only.clone()),
        // Decided already: the answer says how.
        ([], [.., last]) => Ok(last.clone()),
        ([], []) => {
            let failure =
                Failure::new("APPROVAL_NOT_FOUND", format!("run {} has no approval `{wanted}`", args.run));
            Err(if pending.is_empty() {
                failure
            } else {
                failure.hint(format!("it asks: {}", shown(&pending)))
            })
        }
        (_, _) => Err(Failure::new("APPROVAL_AMBIGUOUS", format!("`{wanted}` asks in several places"))
            .hint(format!("name one by its id: {}", shown(&pending)))),
    }
}

fn scope_suffix(approval: &Value) -> String {
    match text(approval, "scope") {
        "/" | "" => String::new(),
        scope => format!(" in {scope}"),
    }
}

pub(crate) fn signal(args: &Signal, global: &Global, output: Output) -> Result<Exit, Failure> {
    let mut body = by(None);
    insert(&mut body, "name", Some(&args.name));
    insert(&mut body, "id", args.id.as_deref());
    if let Some(payload) = &args.payload
        && let Some(object) = body.object_mut()
    {
        object.insert("payload", input::value(payload, "--payload")?);
    }
    Client::block_on(global, async |client| control(client, &args.run, "signals", &body, output).await)
}

async fn control(
    client: &Client,
    run: &str,
    verb: &str,
    body: &Value,
    output: Output,
) -> Result<Exit, Failure> {
    let path = format!("/workflow-runs/{}/{verb}", Client::segment(run));
    let (_, document) = client.call(Method::POST, &path, Some(body), None).await?;
    if output.json {
        output.json(&document)?;
    } else {
        output.text(format_args!(
            "{} {}",
            text(&document, "runId"),
            output.out.status(text(&document, "status"))
        ));
    }
    goes_on(client, output);
    Ok(Exit::Done)
}

/// What was written into a database that nobody serves waits there.
fn goes_on(client: &Client, output: Output) {
    if !client.is_server() {
        output.note("no server holds the database: it takes effect when `stepwell serve` runs");
    }
}

async fn timeline(client: &Client, run: &str, follow: bool, output: Output) -> Result<Exit, Failure> {
    let mut follower = Follower::new(run);
    loop {
        for event in follower.next(client).await? {
            if output.json {
                output.json(&event.document)?;
            } else {
                output.text(event.text(output.out));
            }
        }
        if !follow || follower.ended().is_some() {
            return Ok(Exit::Done);
        }
        follower.pause().await;
    }
}

fn list_runs(document: &Value, output: Output) -> Result<Exit, Failure> {
    if output.json {
        output.json(document)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = items(document)
        .iter()
        .map(|run| {
            let error =
                run.get("error").map_or_else(String::new, |error| output::short(text(error, "message"), 60));
            let mut row = ["runId", "workflowId", "version", "status", "startedAt"]
                .map(|key| output::plain(text(run, key)))
                .to_vec();
            row.push(
                run.get("stuck").and_then(Value::as_str).map_or(error, |stuck| format!("stuck: {stuck}")),
            );
            row
        })
        .collect();
    if rows.is_empty() {
        output.note("there are no runs");
        return Ok(Exit::Done);
    }
    output.text(output::table(
        &["RUN", "WORKFLOW", "VERSION", "STATUS", "STARTED", "ERROR"],
        &rows,
        |column, cell| match column {
            3 => output.out.status(cell),
            _ => cell.to_owned(),
        },
    ));
    if let Some(next) = document.get("next").and_then(Value::as_str) {
        output.note(format_args!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

fn show_run(run: &Value, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.json(run);
    }
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            output.text(format_args!("{name:<10} {}", output::plain(value)));
        }
    };
    line("run", text(run, "runId"));
    line("workflow", &format!("{} {}", text(run, "workflowId"), text(run, "version")));
    output.text(format_args!("{:<10} {}", "status", output.out.status(text(run, "status"))));
    line("starter", text(run, "starter"));
    line("started", text(run, "startedAt"));
    line("ended", text(run, "endedAt"));
    line("stuck", text(run, "stuck"));
    if let Some(error) = run.get("error") {
        line("error", &format!("{}: {}", text(error, "type"), text(error, "message")));
    }
    for position in run.get("current").and_then(Value::as_array).unwrap_or_default() {
        let due = match text(position, "due") {
            "" => String::new(),
            due => format!(", until {due}"),
        };
        let scope = text(position, "scope");
        let state = text(position, "state");
        line("now", &format!("{scope} {state}: {}{due}", text(position, "activity")));
        if let Some(approval) = position.get("approval") {
            line(
                "asks",
                &format!("{} (stepwell approve {} {state})", text(approval, "message"), text(run, "runId")),
            );
        }
    }
    for (name, key) in [("input", "input"), ("output", "output"), ("context", "context")] {
        if let Some(value) = run.get(key) {
            let pretty = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
            output.text(format_args!("{name:<10} {}", pretty.replace('\n', "\n           ")));
        }
    }
    Ok(())
}

/// Who acts: the one logged in, or as given.
fn by(given: Option<&str>) -> Value {
    output::object([("by", input::user(given).into())])
}

fn insert(body: &mut Value, key: &str, value: Option<&str>) {
    if let (Some(object), Some(value)) = (body.object_mut(), value) {
        object.insert(key, value);
    }
}

/// The text at a key of a document; empty where there is none.
pub(crate) fn text<'v>(document: &'v Value, key: &str) -> &'v str {
    document.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn items(document: &Value) -> &[Value] {
    document.get("items").and_then(Value::as_array).unwrap_or_default()
}

/// An object without the keys given.
pub(crate) fn without(document: &Value, keys: &[&str]) -> Value {
    let kept = document.as_object().into_iter().flatten().filter(|(key, _)| !keys.contains(&&***key));
    Value::from(kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Object>())
}
