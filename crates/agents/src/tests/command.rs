//! Programs that really run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;

use super::*;
use crate::command::ProcessTable;
use crate::command::Reaped;
use crate::command::reap_orphans;

fn command(argv: &[&str]) -> Command {
    Command {
        argv: argv.iter().map(ToString::to_string).collect(),
        environment: BTreeMap::new(),
        inherit: Vec::new(),
        cwd: None,
        output_limit: 1 << 20,
        grace: Millis(60_000),
    }
}

fn shell(script: &str) -> Command {
    command(&["sh", "-c", script])
}

#[tokio::test]
async fn where_nothing_can_run_it_a_program_fails_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran");
    let options = crate::Options { directory: folder.path().to_owned(), ..crate::Options::default() };
    let actions = options.without_programs().build(Arc::new(Nothing)).unwrap();
    actions.registry.insert(agent(Kind::Command(shell(&format!("touch {}", file.display())))), folder.path());
    let failed = actions.perform(call("{}")).await.unwrap_err();
    let error = &failed.error;
    assert_eq!(
        (&*error.kind, error.code.as_deref()),
        ("validation", Some("ACTION_NOT_AVAILABLE")),
        "{error:?}"
    );
    assert!(
        error.message.contains("`worker` is a program") && error.message.contains("`http` agent"),
        "{error:?}"
    );
    assert!(!file.exists());
}

async fn run(command: Command, request: &str) -> Result<Value, CallError> {
    perform(agent(Kind::Command(command)), request).await
}

/// Whether the process still does anything: one that ended and that nobody waits for does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, fields)| !matches!(fields.trim_start().chars().next(), Some('Z' | 'X')))
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

/// The process ids that a script wrote to a file, once there are as many.
fn pids(file: &Path, count: usize) -> Option<Vec<i32>> {
    let text = fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))?;
    let pids: Vec<_> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    (pids.len() == count).then_some(pids)
}

#[tokio::test]
async fn a_program_is_given_the_request_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = shell("env | sed 's/=.*//' | sort | tr '\\n' ' ' >&2; cat; exit 1");
    program.inherit = vec!["PATH".into(), "NOT_SET".into()];
    program.environment.insert("TOKEN".into(), template("${env:SECRET}"));
    program.environment.insert("SERVICE".into(), template("{{ input.service }}"));
    let actions = actions(agent(Kind::Command(program)), folder.path());
    let asked = call(
        r#"{"task": "look", "variables": {"service": "checkout"}, "input": {"n": 12345678901234567890}}"#,
    );
    let error = actions.perform(asked).await.unwrap_err();
    let (_, environment) = error.error.message.split_once("stderr: ").unwrap();
    let names: Vec<_> = environment
        .split_whitespace()
        .filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name))
        .collect();
    assert_eq!(
        names,
        [
            "PATH",
            "SERVICE",
            "STEPWELL_ATTEMPT",
            "STEPWELL_CALL",
            "STEPWELL_IDEMPOTENCY_KEY",
            "STEPWELL_RUN_ID",
            "STEPWELL_STEP_ID",
            "TOKEN"
        ]
    );

    let output = run(command(&["cat"]), r#"{"task": "look", "variables": {"a": 1}, "input": {"b": 2}}"#)
        .await
        .unwrap();
    let step = call("{}").step;
    let expected = format!(
        r#"{{"agent": "worker", "task": "look", "variables": {{"a": 1}}, "input": {{"b": 2, "a": 1}}, "runId": "run-1",
            "stepId": "{step}", "state": "check", "attempt": 2, "idempotencyKey": "run-1/step/1"}}"#
    );
    assert_eq!(output, json(&expected));
}

#[tokio::test]
async fn relative_programs_and_working_directories_begin_at_the_agents_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("tool");
    fs::write(&tool, "#!/bin/sh\npwd\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    let place = folder.path().canonicalize().unwrap();
    for (cwd, program, expected) in
        [(None, "./tool", place.clone()), (Some("inner"), "../tool", place.join("inner"))]
    {
        let program = Command { cwd: cwd.map(Into::into), ..command(&[program]) };
        let actions = actions(agent(Kind::Command(program)), folder.path());
        let output = actions.perform(call("{}")).await.unwrap();
        assert_eq!(output.get("response").and_then(Value::as_str), expected.to_str());
    }
}

#[tokio::test]
async fn how_a_program_ends_is_what_the_step_becomes() {
    // Script; code, type, definite; part of the message.
    let cases = [
        (
            "echo broken pipe stage >&2; exit 3",
            ("COMMAND_FAILED", "agent_error", true),
            "exit code 3; stderr: broken pipe stage",
        ),
        (
            r#"echo '{"error": {"type": "quota", "message": "none left"}}'; exit 1"#,
            ("COMMAND_FAILED", "quota", true),
            "none left",
        ),
        ("echo '{\"error\": 7}'; exit 1", ("COMMAND_FAILED", "agent_error", true), "exit code 1"),
        ("echo late >&2; kill -9 $$", ("COMMAND_KILLED", "agent_error", false), "signal 9; stderr: late"),
        (r"printf '\377\376'", ("COMMAND_OUTPUT_NOT_TEXT", "agent_error", false), "byte 0"),
    ];
    for (script, expected, part) in cases {
        let error = run(shell(script), "{}").await.unwrap_err();
        assert_eq!(summary(&error), expected, "{script}");
        assert!(error.error.message.contains(part), "{script}: {}", error.error.message);
    }
    for argv in [&["/no/such/program"][..], &["no-such-program-in-path"]] {
        let error = run(command(argv), "{}").await.unwrap_err();
        assert_eq!(summary(&error), ("COMMAND_NOT_STARTED", "agent_error", false));
        assert!(error.error.message.contains(argv[0]), "{}", error.error.message);
    }
    assert_eq!(run(shell("echo '{\"ok\": true}'"), "{}").await.unwrap(), json(r#"{"ok": true}"#));
    assert_eq!(run(shell("echo fine; echo; exit 0"), "{}").await.unwrap(), json(r#"{"response": "fine"}"#));
}

#[tokio::test]
async fn pipes_never_deadlock() {
    let large = format!(r#"{{"input": {{"text": "{}"}}}}"#, "x".repeat(8 << 20));
    // Nothing is read; nothing is read before much was written; stdout is closed early.
    let scripts = [
        ("exit 0", r#"{"response": ""}"#),
        ("yes x | head -c 900000 >&2; cat >/dev/null; echo '[1]'", "[1]"),
        ("exec <&-; echo '[2]'", "[2]"),
        ("echo '[3]'; exec >&-; cat >/dev/null", "[3]"),
    ];
    for (script, expected) in scripts {
        assert_eq!(run(shell(script), &large).await.unwrap(), json(expected), "{script}");
    }
    let echoed = run(Command { output_limit: 64 << 20, ..command(&["cat"]) }, &large).await.unwrap();
    assert_eq!(echoed.get("input"), json(&large).get("input"));
}

#[tokio::test]
async fn floods_are_cut_off() {
    let error = run(command(&["yes"]), "{}").await.unwrap_err();
    assert_eq!(summary(&error), ("COMMAND_OUTPUT_TOO_LARGE", "agent_error", false));
    let exact = shell("head -c 1048576 /dev/zero | tr '\\0' x");
    assert_eq!(run(exact, "{}").await.unwrap().get("response").unwrap().as_str().unwrap().len(), 1 << 20);
    let over = shell("head -c 1048577 /dev/zero | tr '\\0' x");
    assert_eq!(summary(&run(over, "{}").await.unwrap_err()).0, "COMMAND_OUTPUT_TOO_LARGE");
    let chatty = shell("yes filler | head -c 20000000 >&2; echo the end >&2; exit 1");
    let message = run(chatty, "{}").await.unwrap_err().error.message;
    assert!(message.ends_with("the end") && message.len() < 4096, "{message}");
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    // With programs that end when asked, and with ones that do not and are killed.
    for (trap, grace) in [("", 60_000), ("trap '' TERM;", 50)] {
        // A slow machine may not get to the point in time; then it is given more.
        for timeout in [1, 4, 16, 64].map(Duration::from_secs) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("pids");
            let script =
                format!("{trap} sleep 1000 & echo $$ $! > {}; while :; do sleep 1000; done", file.display());
            let program = Command { grace: Millis(grace), ..shell(&script) };
            let actions = actions(agent(Kind::Command(program)), folder.path());
            let error = actions.perform(Call { timeout, ..call("{}") }).await.unwrap_err();
            assert_eq!(summary(&error), ("COMMAND_TIMEOUT", "timeout", false));
            if let Some(pids) = pids(&file, 2) {
                until(|| !pids.iter().any(|pid| runs(*pid))).await;
                break;
            }
        }
    }
}

#[tokio::test]
async fn dropping_the_call_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let program = shell(&format!("sleep 1000 & echo $$ $! > {}; wait", file.display()));
    let actions = Arc::new(actions(agent(Kind::Command(program)), folder.path()));
    let task = tokio::spawn({
        let actions = actions.clone();
        async move { actions.perform(call("{}")).await }
    });
    until(|| pids(&file, 2).is_some()).await;
    let table = folder.path().join("processes");
    assert_eq!(fs::read_dir(&table).unwrap().count(), 1, "a running program is remembered");
    let pids = pids(&file, 2).unwrap();
    assert!(pids.iter().all(|pid| runs(*pid)));
    task.abort();
    until(|| !pids.iter().any(|pid| runs(*pid))).await;
    until(|| fs::read_dir(&table).unwrap().count() == 0).await;
}

#[tokio::test]
async fn a_program_may_end_in_its_own_way_even_when_nobody_waits() {
    // By a timeout of its agent's file, or because the call is dropped; in each case nobody waits for the end.
    for timeout in [None, Some(Millis(1_000))] {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo bye >&2; sleep 0.2; echo bye; touch ended; exit' TERM; touch started; while :; do sleep 0.05; done";
        let worker = Agent { timeout, ..agent(Kind::Command(shell(script))) };
        let actions = Arc::new(actions(worker, folder.path()));
        let task = tokio::spawn({
            let actions = actions.clone();
            async move { actions.perform(call("{}")).await }
        });
        until(|| folder.path().join("started").exists() || task.is_finished()).await;
        match timeout {
            None => task.abort(),
            Some(_) => assert_eq!(summary(&task.await.unwrap().unwrap_err()).0, "COMMAND_TIMEOUT"),
        }
        if folder.path().join("started").exists() {
            until(|| folder.path().join("ended").exists()).await;
        }
    }
}

#[tokio::test]
async fn a_program_that_has_ended_is_not_waited_for_by_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    // Both hold stdout open. The first is of the group and goes with it; a daemon has left it and stays.
    let script = format!("sleep 1000 & setsid sleep 1000 & echo $! > {}; echo done", file.display());
    let actions = actions(agent(Kind::Command(shell(&script))), folder.path());
    assert_eq!(actions.perform(call("{}")).await.unwrap(), json(r#"{"response": "done"}"#));
    let daemon = rustix::process::Pid::from_raw(pids(&file, 1).unwrap()[0]).unwrap();
    let _ = rustix::process::kill_process(daemon, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn a_secret_never_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    // As it is, and as JSON writes it: its quotation mark escaped.
    let mut program = shell("cat >&2; echo \"token=$TOKEN\" >&2; exit 1");
    program.environment.insert("TOKEN".into(), template("${env:SECRET}"));
    let failing = actions(agent(Kind::Command(program)), folder.path());
    let asked =
        || Call { secrets: vec![secret("/input/token")], ..call(r#"{"input": {"token": "${env:SECRET}"}}"#) };
    let message = failing.perform(asked()).await.unwrap_err().error.message;
    assert!(!message.contains("hunter2"), "{message}");
    assert!(
        message.contains(r#""token":"Bearer [secret]""#) && message.contains("token=[secret]"),
        "{message}"
    );

    let echoing = actions(agent(Kind::Command(command(&["cat"]))), folder.path());
    let output = echoing.perform(asked()).await.unwrap();
    assert_eq!(output.get("input"), Some(&json(r#"{"token": "Bearer [secret]"}"#)));
}

#[test]
fn orphans_of_a_killed_engine_are_ended_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let table = folder.path().join("processes");
    let start = |mark: Option<&str>, script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).env_clear().process_group(0).current_dir(folder.path());
        command.envs(mark.map(|mark| ("STEPWELL_CALL", mark)));
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let marks: Vec<_> = {
        let processes = ProcessTable::open(&table).unwrap();
        // As a killed engine leaves them: never dropped.
        (0..3).map(|_| std::mem::ManuallyDrop::new(processes.begin().unwrap())).collect()
    };
    // Killed before the process id was noted; one that ignores being asked; known by its process id alone.
    let mut unnoted = start(Some(&marks[0].mark), "sleep 1000 & echo $$ $! > pids; wait");
    let mut stubborn = start(Some(&marks[1].mark), "trap '' TERM; touch ready; while :; do sleep 1; done");
    let mut unmarked = start(None, "exec sleep 1000");
    marks[2].started(i32::try_from(unmarked.id()).unwrap());
    // Another program that has got the process id of one that ended long ago.
    let mut stranger = start(None, "exec sleep 1000");
    fs::write(table.join("1-1-1"), format!("1\n{} 1\n", stranger.id())).unwrap();
    while pids(&file, 2).is_none() || !folder.path().join("ready").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }

    // Somebody has to take the status of what ended; in life that is init.
    let waiting = std::thread::spawn(move || {
        [&mut unnoted, &mut stubborn, &mut unmarked].map(|child| {
            child.wait().unwrap();
            i32::try_from(child.id()).unwrap()
        })
    });
    let reaped = reap_orphans(&table, Duration::from_millis(200)).unwrap();
    let left_alone = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let mut expected = waiting.join().unwrap();
    expected.sort_unstable();
    assert_eq!((reaped.ended, reaped.left), (expected.to_vec(), Vec::new()));
    assert!(!pids(&file, 2).unwrap().iter().any(|pid| runs(*pid)));
    assert_eq!(fs::read_dir(&table).unwrap().count(), 0);
    assert!(left_alone, "a process that only has the same id");
    assert_eq!(reap_orphans(&folder.path().join("none"), Duration::ZERO).unwrap(), Reaped::default());
}
