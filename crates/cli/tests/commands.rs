//! The real binary: what it prints where, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // What is not as expected ends the test.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::Value;

const GATE: &str = "\
id: gate
version: '1.0'
inputSchema: {type: object, required: [n], properties: {n: {type: integer}}}
states:
  - {name: double, type: transform, expression: ctx.n * 2, resultPath: doubled, next: ask}
  - {name: ask, type: human_approval, message: 'Go on with {{ doubled }}?', next: done}
  - {name: done, type: inject, data: {done: '{{ doubled }}'}}
";

const TEST: &str = "\
workflow: gate.workflow.yaml
tests:
  - name: approved
    input: {n: 2}
    approvals: {ask: {decision: approve}}
    expect: {status: COMPLETED, path: [double, ask, done], output: {done: 4}}
  - name: nobody answers
    input: {n: 2}
    expect: {status: TIMED_OUT}
";

/// A folder with a project in it.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        project.write("workflows/gate.workflow.yaml", GATE);
        project.write("workflows/gate.test.yaml", TEST);
        project
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepwell"));
        for variable in [
            "STEPWELL_DB",
            "STEPWELL_ENDPOINT",
            "STEPWELL_STACK",
            "STEPWELL_API_URL",
            "STEPWELL_OUTPUT",
            "STEPWELL_USER",
        ] {
            command.env_remove(variable);
        }
        command.args(args).current_dir(self.path()).env("USER", "tester").stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().unwrap())
    }

    /// A server on a free port, and its address.
    fn serve(&self) -> Served {
        let mut child =
            self.command(&["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Served { child, address: address.trim().to_owned() }
    }
}

struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "a server that is told to stop ends well");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Arguments, exit code, what stands on stdout, what stands on stderr.
type Case = (&'static [&'static str], i32, &'static [&'static str], &'static [&'static str]);

#[test]
fn files_are_checked_drawn_evaluated_and_tested() {
    let project = Project::new();
    project.write("broken.workflow.yaml", "id: broken\nstates:\n  - {name: a, type: inject, datta: {}}\n");
    project.write("workflows/wrong.test.yaml", "workflow: gate.workflow.yaml\ntests:\n  - name: wrong\n    input: {n: 1}\n    expect: {status: COMPLETED}\n");
    project.write("context.json", r#"{"a": {"b": [1, 2, 3]}}"#);
    let cases: &[Case] = &[
        (&["validate", "workflows"], 0, &["3 files valid"], &[]),
        (
            &["validate", "broken.workflow.yaml"],
            1,
            &["error[UNKNOWN_FIELD]", "broken.workflow.yaml:3:", "data"],
            &[],
        ),
        (
            &["validate", "brokn.workflow.yaml"],
            1,
            &[],
            &["FILE_UNREADABLE", "did you mean `broken.workflow.yaml`?"],
        ),
        (
            &["graph", "workflows/gate.workflow.yaml"],
            0,
            &["flowchart TD", "ask<br/>", "approved", "timed_out"],
            &[],
        ),
        (&["expr", "ctx.a.b[1] + 1", "--context", "@context.json"], 0, &["3\n"], &[]),
        (
            &["expr", "x: {{ ctx.a.b }}", "--template", "--context", "@context.json"],
            0,
            &["\"x: [1,2,3]\""],
            &[],
        ),
        (&["expr", "status = 'x'"], 1, &[], &["error[EXPRESSION_SYNTAX]", "| status = 'x'"]),
        (&["expr", "ctx.c", "--context", "@context.json"], 1, &[], &["error[EXPRESSION_FAILED]"]),
        (&["expr", "1", "--context", "{"], 1, &[], &["INPUT_NOT_JSON"]),
        (&["test", "workflows/gate.test.yaml"], 0, &["2 passed, 0 failed"], &[]),
        (
            &["test", "workflows/wrong.test.yaml"],
            1,
            &["FAILED", "- COMPLETED", "+ TIMED_OUT", "asks for approval", "0 passed, 1 failed"],
            &[],
        ),
        (&["test", ".", "--filter", "nobody"], 0, &["1 passed, 0 failed"], &[]),
        (&["runs", "ls"], 1, &[], &["error[DATABASE_NOT_FOUND]", "--db"]),
        (&["serve", "--listen", "0.0.0.0:0"], 1, &[], &["error[NOT_LOOPBACK]"]),
        (&["runs", "ls", "--endpoint", "https://127.0.0.1:1"], 1, &[], &["error[SERVER_UNREACHABLE]"]),
        (&["valdate"], 2, &[], &["validate"]),
        (&["completions", "bash"], 0, &["_stepwell"], &[]),
    ];
    for (args, code, out, err) in cases {
        let ran = project.run(args);
        assert_eq!(ran.code, *code, "{args:?}: {ran:#?}");
        for part in *out {
            assert!(ran.out.contains(part), "{args:?}: no {part:?} on stdout: {ran:#?}");
        }
        for part in *err {
            assert!(ran.err.contains(part), "{args:?}: no {part:?} on stderr: {ran:#?}");
        }
        if *code != 0 && out.is_empty() {
            assert_eq!(ran.out, "", "{args:?}: an error is no data");
        }
        assert!(
            !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'),
            "{args:?}: colours without a terminal"
        );
    }
    let report = project.run(&["validate", "broken.workflow.yaml", "-o", "json"]).json();
    let issues = report["files"][0]["issues"].as_array().unwrap();
    assert!(issues.iter().any(|issue| issue["code"] == "UNKNOWN_FIELD" && issue["line"] == 3), "{issues:?}");
    let report = project.run(&["test", "workflows/wrong.test.yaml", "-o", "json"]).json();
    assert_eq!(
        (&report["failed"], &report["tests"][0]["failures"][0]["what"]),
        (&1.into(), &"status".into())
    );
    let failure = project.run(&["runs", "ls", "-o", "json"]);
    let failure: Value = serde_json::from_str(&failure.err).unwrap();
    assert_eq!(failure["code"], "DATABASE_NOT_FOUND");
}

#[test]
fn a_file_runs_in_a_store_of_its_own() {
    let project = Project::new();
    let file = "workflows/gate.workflow.yaml";
    let ran = project.run(&["run", file, "--input", r#"{"n": 21}"#, "--yes"]);
    assert_eq!(
        (ran.code, serde_json::from_str::<Value>(&ran.out).unwrap()),
        (0, serde_json::json!({"done": 42})),
        "{ran:#?}"
    );
    assert!(ran.err.contains("Go on with 42?") && ran.err.contains("approved by user:tester"), "{ran:#?}");
    assert!(!project.path().join(".stepwell").exists(), "nothing is left behind");

    let refused = project.run(&["run", file, "--input", r#"{"n": "many"}"#]);
    assert!(
        refused.code == 1
            && refused.err.contains("error[INPUT_SCHEMA_VIOLATION]")
            && refused.err.contains("/n:"),
        "{refused:#?}"
    );
    let asked = project.run(&["run", file, "--input", r#"{"n": 1}"#]);
    assert!(asked.code == 1 && asked.err.contains("error[APPROVAL_UNANSWERABLE]"), "{asked:#?}");

    project.write(
        "fails.workflow.yaml",
        "id: fails\nstates:\n  - {name: stop, type: fail, error: no_disk, message: there is no disk}\n",
    );
    let failed = project.run(&["run", "fails.workflow.yaml", "-o", "json"]);
    assert_eq!((failed.code, failed.json()["error"]["type"].as_str()), (3, Some("no_disk")), "{failed:#?}");
}

#[test]
fn verbs_go_through_the_server_that_holds_the_database_or_open_it() {
    let project = Project::new();
    let check = project.run(&["sync", "--check"]);
    assert!(check.code == 1 && check.out.contains("created    workflow gate 1.0"), "{check:#?}");
    assert_eq!(project.run(&["sync"]).code, 0);
    assert_eq!(project.run(&["sync", "--check"]).code, 0, "what is registered does not change");

    let server = project.serve();
    assert!(server.address.starts_with("http://127.0.0.1:"), "{}", server.address);
    let health = project.run(&["doctor", "-o", "json"]);
    assert_eq!((health.code, &health.json()["healthy"]), (0, &true.into()), "{health:#?}");
    let locked = project.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        locked.code == 1
            && locked.err.contains("error[STORE_LOCKED]")
            && locked.err.contains(&server.address),
        "{locked:#?}"
    );

    // Through the server: a run that waits for the one below.
    let database = ".stepwell/stepwell.db";
    let file = "workflows/gate.workflow.yaml";
    let waits = project.run(&[
        "run",
        file,
        "--db",
        database,
        "--input",
        r#"{"n": 5}"#,
        "--wait",
        "200ms",
        "-o",
        "json",
    ]);
    assert_eq!(waits.code, 6, "{waits:#?}");
    let run = waits.json()["runId"].as_str().unwrap().to_owned();
    let asked = project.run(&["approvals", "ls", "-o", "json"]).json();
    assert_eq!(
        (&asked["items"][0]["state"], &asked["items"][0]["message"]),
        (&"ask".into(), &"Go on with 10?".into())
    );
    let approved = project.run(&["approve", &run, "--comment", "fine"]);
    assert_eq!(approved.code, 0, "{approved:#?}");
    let ended = project.run(&["runs", "get", &run, "--wait", "10s", "-o", "json"]);
    assert_eq!((ended.code, &ended.json()["output"]["done"]), (0, &10.into()), "{ended:#?}");
    let again = project.run(&["reject", &run, "ask"]);
    assert!(again.code == 1 && again.err.contains("error[APPROVAL_SETTLED]"), "{again:#?}");
    let over = project.run(&["runs", "pause", &run]);
    assert!(over.code == 1 && over.err.contains("error[RUN_OVER]"), "{over:#?}");
    let context = project.run(&["expr", "ctx.doubled + steps.double", "--run", &run]);
    assert_eq!((context.code, context.out.trim()), (0, "20"), "{context:#?}");

    // A second one outlives the server, and is controlled without one.
    let waits = project.run(&[
        "run",
        file,
        "--db",
        database,
        "--input",
        r#"{"n": 6}"#,
        "--wait",
        "200ms",
        "-o",
        "json",
    ]);
    let second = waits.json()["runId"].as_str().unwrap().to_owned();
    server.stop();
    let list = project.run(&["runs", "ls", "--status", "waiting_approval", "-o", "json"]).json();
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["items"][0]["runId"]),
        (1, &second.clone().into())
    );
    let cancelled = project.run(&["runs", "cancel", &second, "--reason", "enough"]);
    assert!(cancelled.code == 0 && cancelled.out.contains("CANCELLED"), "{cancelled:#?}");
    let timeline = project.run(&["runs", "timeline", &second]);
    assert!(timeline.out.contains("to be cancelled by user:tester: enough"), "{timeline:#?}");

    // A file that is gone takes no new runs; one that changed needs a new version.
    project.write("workflows/gate.workflow.yaml", &GATE.replace("* 2", "* 3"));
    let taken = project.run(&["sync"]);
    assert!(taken.code == 1 && taken.err.contains("VERSION_TAKEN"), "{taken:#?}");
    assert!(project.run(&["sync", "--new-version"]).out.contains("created    workflow gate 1.0+2"));
    std::fs::remove_file(project.path().join("workflows/gate.workflow.yaml")).unwrap();
    assert!(project.run(&["sync"]).out.contains("disabled   workflow gate"));
}

const ENDS: &str = "\
id: ends
version: '1.0'
timeoutSeconds: {{timeout}}
states:
  - {name: wait, type: wait, duration: 1s, next: last}
  - {{last}}
";

/// Guards against streams that go on, or are cut off, after some ends of a run.
#[test]
fn a_followed_timeline_ends_with_every_end_of_a_run() {
    let project = Project::new();
    let fine = "{name: last, type: inject, data: {fine: true}}";
    let waits = "{name: last, type: wait, duration: 1h}";
    let ends = [
        ("COMPLETED", "1h", fine),
        ("FAILED", "1h", "{name: last, type: fail, error: broken, message: it broke}"),
        ("TIMED_OUT", "2", waits),
        ("CANCELLED", "1h", waits),
    ];
    let server = project.serve();
    for (status, timeout, last) in ends {
        let id = status.to_lowercase();
        let text = ENDS.replace("id: ends", &format!("id: {id}"));
        let text = text.replace("{{timeout}}", timeout).replace("{{last}}", last);
        project.write(&format!("{id}.workflow.yaml"), &text);
        let file = format!("{id}.workflow.yaml");
        let database = ".stepwell/stepwell.db";
        let started = project.run(&["run", &file, "--db", database, "--wait", "1ms", "-o", "json"]);
        let run = started.json()["runId"].as_str().unwrap().to_owned();
        let mut follow = project.command(&["runs", "timeline", &run, "--follow"]);
        let mut following = follow.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        let mut seen = Vec::new();
        // It tells of what happens while it happens: by now the run waits, and is to be cancelled.
        while !seen.iter().any(|line: &String| line.contains("waits until")) {
            seen.push(lines.next().unwrap_or_else(|| panic!("{status}: {seen:#?}")).unwrap());
        }
        if status == "CANCELLED" {
            assert_eq!(project.run(&["runs", "cancel", &run]).code, 0);
        }
        // Reads up to the end of the stream: without one the test would not end either.
        seen.extend(lines.map(Result::unwrap));
        assert!(following.wait().unwrap().success(), "{status}: {seen:#?}");
        assert!(seen.last().unwrap().contains(status), "{status}: {seen:#?}");
        // One that is over has the same timeline, and ends at once.
        let again = project.run(&["runs", "timeline", &run, "--follow"]);
        assert_eq!((again.code, again.out.lines().count()), (0, seen.len()), "{again:#?}");
    }
    server.stop();
}

#[test]
fn tests_run_in_each_home_and_say_what_did_not_happen() {
    let project = Project::new();
    let both = project.run(&["test", "workflows", "--homes", "memory,sqlite", "--table"]);
    assert!(both.code == 0 && both.out.contains("4 passed, 0 failed"), "{both:#?}");
    let rows: Vec<Vec<&str>> = both.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["memory", "sqlite"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][4]), ("workflows", "2/2", "2/2"));

    let history = |lines: &str| {
        let text = format!(
            "workflow: gate.workflow.yaml\ntests:\n  - {{name: asked, input: {{n: 2}}, expect: {{history: [{lines}]}}}}\n"
        );
        project.write("workflows/gate.test.yaml", &text);
        project.run(&["test", "workflows"])
    };
    assert_eq!(history("..., {event: waitTimedOut, state: ask, at: 1h}, ...").code, 0);
    let late = history("..., {event: waitTimedOut, state: ask, at: 2h}, ...");
    assert!(late.code == 1 && late.out.contains("the nearest: it is at 3600s"), "{late:#?}");
    let claimed = history("never: stateEntered ask");
    assert!(claimed.code == 1 && claimed.out.contains("must never happen there"), "{claimed:#?}");
    for (line, hint) in [
        ("{event: stateEnterd}", "did you mean `stateEntered`?"),
        ("{event: stepFailed, atempt: 1}", "did you mean `attempt`?"),
        ("{never: runStarted, at: 1s}", "there is no field `at` here"),
        ("{state: ask}", "`event` is missing"),
    ] {
        let refused = history(line);
        assert!(refused.code == 1 && refused.out.contains(hint), "{line}: {refused:#?}");
    }
}

/// Stands before a server as API Gateway stands before a stack: its paths begin with a stage, and CloudFormation says where
/// it is. It remembers what was asked.
struct Gateway {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (seen, own) = (asked.clone(), address.clone());
        let server = server.strip_prefix("http://").unwrap().to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head = Self::head(&mut stream);
                seen.lock().unwrap().push(head.clone());
                let mut answer = Vec::new();
                if head.starts_with("GET /?Action=DescribeStacks") {
                    let found = head.contains("StackName=dev&");
                    let body = if found {
                        format!(
                            "<Outputs><member><OutputKey>ApiUrl</OutputKey><OutputValue>http://{own}/stage</OutputValue></member></Outputs>"
                        )
                    } else {
                        "<Error><Message>no such stack</Message></Error>".to_owned()
                    };
                    let status = if found { "200 OK" } else { "400 Bad Request" };
                    write!(answer, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                        .unwrap();
                } else if let Some((method, rest)) = head.split_once(" /stage/") {
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    let mut body = vec![0; length.unwrap_or(0)];
                    stream.read_exact(&mut body).unwrap();
                    let mut upstream = TcpStream::connect(&server).unwrap();
                    let host = format!("host: {own}\r\n");
                    let rest = rest.replacen(&host, &format!("host: {server}\r\nconnection: close\r\n"), 1);
                    write!(upstream, "{method} /{rest}").unwrap();
                    upstream.write_all(&body).unwrap();
                    upstream.read_to_end(&mut answer).unwrap();
                } else {
                    let body = r#"{"message": "Missing Authentication Token"}"#;
                    write!(answer, "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                        .unwrap();
                }
                stream.write_all(&answer).unwrap();
            }
        });
        Self { address, asked }
    }

    /// Up to the empty line.
    fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }
}

#[test]
fn a_stack_behind_a_gateway_is_deployed_to_and_asked() {
    let home = Project::new();
    let server = home.serve();
    let gateway = Gateway::before(&server.address);
    let project = Project::new();
    project.write("workflows/gate.workflow.yaml", &GATE.replace("id: gate", "id: away"));
    let endpoint = format!("http://{}/stage", gateway.address);
    let at = |args: &[&str]| project.run(&[args, &["--endpoint", &endpoint]].concat());

    let check = at(&["deploy", "--check"]);
    assert_eq!((check.code, check.out.as_str()), (1, "created    workflow away 1.0\n"), "{check:?}");
    // What another project has deployed is left alone, unless it is asked for.
    let pruned = at(&["deploy", "--check", "--prune"]);
    assert_eq!(
        (pruned.code, pruned.out.as_str()),
        (1, "created    workflow away 1.0\ndisabled   workflow gate 1.0\n"),
        "{pruned:?}"
    );
    let created = at(&["deploy"]);
    assert_eq!((created.code, created.out.as_str()), (0, "created    workflow away 1.0\n"), "{created:?}");
    let created = at(&["deploy", "--prune"]);
    assert_eq!(
        (created.code, created.out.as_str()),
        (0, "unchanged  workflow away 1.0\ndisabled   workflow gate 1.0\n"),
        "{created:?}"
    );
    assert_eq!(at(&["deploy", "--check", "--prune"]).code, 0, "what is deployed does not change");
    project
        .write("workflows/gate.workflow.yaml", &GATE.replace("id: gate", "id: away").replace("* 2", "* 3"));
    let refused = at(&["deploy"]);
    assert_eq!((refused.code, refused.out.as_str()), (1, "refused    workflow away \n"), "{refused:?}");
    assert!(refused.err.contains("VERSION_TAKEN") && refused.err.contains("--new-version"), "{refused:?}");
    assert!(at(&["deploy", "--new-version"]).out.contains("created    workflow away 1.0+2"));
    project.write("agents/rm.agent.yaml", "type: command\nargv: [/bin/rm]\n");
    for args in [&["deploy", "--check"][..], &["deploy"]] {
        let program = at(args);
        assert!(
            program.code == 1 && program.err.contains("error[AGENT_NOT_REMOTE]"),
            "no program over the network: {program:?}"
        );
    }
    let outside = project.run(&["runs", "ls", "--endpoint", &format!("http://{}", gateway.address)]);
    assert!(outside.code == 1 && outside.err.contains("Missing Authentication Token"), "{outside:?}");

    // Every verb about runs, signed, by the stack's name or by where its API begins.
    let signed = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = project.command(args);
        command.env("HOME", project.path()).env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
        command
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "eu-west-1");
        command.env("AWS_ENDPOINT_URL_CLOUDFORMATION", format!("http://{}", gateway.address));
        command.envs(variables.iter().copied());
        Ran::of(&command.output().unwrap())
    };
    let by_url = [("STEPWELL_API_URL", endpoint.as_str())];
    let run = signed(
        &[
            "--endpoint",
            "aws",
            "run",
            "workflows/gate.workflow.yaml",
            "-i",
            r#"{"n": 2}"#,
            "--new-version",
            "--yes",
            "-o",
            "json",
        ],
        &by_url,
    );
    assert_eq!((run.code, &run.json()["output"]["done"]), (0, &6.into()), "{run:?}");
    let id = run.json()["runId"].as_str().unwrap().to_owned();
    for args in [
        &["runs", "ls"][..],
        &["runs", "get", &id, "--wait", "1s"],
        &["runs", "timeline", &id],
        &["approvals", "ls"],
        &["doctor"],
    ] {
        let ran = signed(&[args, &["--stack", "dev"]].concat(), &[]);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    }
    let asked = gateway.asked.lock().unwrap().split_off(0);
    let authorized = |service: &str| {
        let scope = format!("/eu-west-1/{service}/aws4_request, SignedHeaders=");
        asked
            .iter()
            .filter(|head| {
                head.contains("authorization: AWS4-HMAC-SHA256 Credential=AKID/") && head.contains(&scope)
            })
            .count()
    };
    assert!(authorized("execute-api") > 8 && authorized("cloudformation") == 5, "{asked:#?}");

    let unknown = signed(&["runs", "ls", "--stack", "prod"], &[]);
    assert!(
        unknown.code == 1
            && unknown.err.contains("error[STACK_UNKNOWN]")
            && unknown.err.contains("no such stack"),
        "{unknown:?}"
    );
    let keyless = signed(&["runs", "ls", "--endpoint", "aws"], &[("AWS_ACCESS_KEY_ID", ""), by_url[0]]);
    assert!(keyless.code == 1 && keyless.err.contains("error[AWS_CREDENTIALS]"), "{keyless:?}");
    let nowhere = signed(&["runs", "ls", "--endpoint", "aws"], &[]);
    assert!(nowhere.code == 1 && nowhere.err.contains("error[ENDPOINT_INVALID]"), "{nowhere:?}");
    server.stop();
}

/// The API of a home whose invocations hold an attempt for so many seconds; it lives as long as the tests.
fn serverless(max_step_seconds: u64) -> String {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        threads.block_on(async {
            let clock = Arc::new(runtime::SystemClock);
            let store = Arc::new(runtime::memory::Store::default());
            let catalog: Arc<dyn runtime::ports::Catalog> = store.clone();
            let ports = runtime::Ports {
                journal: store.clone(),
                catalog: store,
                doorbell: Arc::new(runtime::memory::Doorbell::new(clock.clone())),
                agents: Arc::new(agents::Options::new("/tmp").build(Arc::new(catalog)).unwrap()),
                clock,
                ids: Arc::new(runtime::memory::SeededIds::new(7)),
            };
            let runtime = runtime::Runtime::new(ports, runtime::Options::shared("test"));
            let api = http_api::Api::new(runtime).with_home(http_api::Home::serverless(max_step_seconds, 20));
            let listener = http_api::bind("127.0.0.1:0").await.unwrap();
            told.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            http_api::serve(listener, api, std::future::pending()).await;
        });
    });
    address.recv().unwrap()
}

#[test]
fn deploy_refuses_what_the_home_cannot_hold_and_takes_the_rest() {
    let address = serverless(890);
    let project = Project::new();
    let agent = "type: http\nurl: https://example.com\ntimeoutSeconds: ";
    project.write("agents/slow.agent.yaml", &format!("{agent}891\n"));
    project.write("agents/quick.agent.yaml", &format!("{agent}890\n"));
    project.write(
        "workflows/long.workflow.yaml",
        "id: long\nstates:\n  - {name: think, type: agent, agent: quick, timeout: 15m}\n",
    );
    let at = |args: &[&str]| project.run(&[args, &["--endpoint", &address]].concat());
    for args in [&["deploy", "--check"][..], &["deploy"]] {
        let ran = at(args);
        assert_eq!(ran.code, 1, "{ran:?}");
        let refused: Vec<_> = ran.out.lines().filter(|line| line.starts_with("refused")).collect();
        assert!(refused.len() == 2 && refused[0].contains("slow") && refused[1].contains("long"), "{ran:?}");
        assert_eq!(ran.err.matches("error[STEP_TOO_LONG]").count(), 2, "{ran:?}");
        for told in ["891 s", "`think` (line 3): 900 s", "890 s at most", "lower `timeoutSeconds`"] {
            assert!(ran.err.contains(told), "{told}: {ran:?}");
        }
        for created in ["created    agent    quick", "created    workflow gate"] {
            assert!(ran.out.contains(created), "{created}: {ran:?}");
        }
    }
    project.write("agents/slow.agent.yaml", &format!("{agent}60\n"));
    project.write(
        "workflows/long.workflow.yaml",
        "id: long\nstates:\n  - {name: think, type: agent, agent: quick, timeout: 14m}\n",
    );
    assert_eq!(at(&["deploy"]).code, 0);
}
