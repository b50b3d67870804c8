//! Programs: argv without a shell, JSON on stdin, JSON or text on stdout.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use engine::error_type;
use expression::Value;
use model::agent::Command;
use model::agent::Kind;
use runtime::ports::Call;
use runtime::ports::CallError;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use crate::actions::Actions;
use crate::error::Code;
use crate::error::agent_error;
use crate::error::answered;
use crate::error::failure;
use crate::error::own_error;
use crate::error::tail;
use crate::error::validation;
use crate::registry::Entry;
use crate::request::envelope;
use crate::secret::Redactor;
use crate::template::Templates;

mod group;
mod process_table;

pub(crate) use process_table::ProcessTable;
pub use process_table::ProcessTableError;
#[cfg(test)]
pub(crate) use process_table::Reaped;
#[cfg(test)]
pub(crate) use process_table::reap_orphans;

use group::Group;

/// So much of the end of stderr is kept for an error's message.
const STDERR_KEPT: usize = 8 << 10;
/// So much of it is shown.
const STDERR_SHOWN: usize = 2 << 10;
/// Bytes taken from a pipe at once: as many as it holds.
const CHUNK: usize = 64 << 10;

/// Runs the agent's program and answers with its stdout, without the line ends behind it.
pub(crate) async fn perform(
    actions: &Actions,
    agent: &Entry,
    request: &Value,
    input: &Value,
    call: &Call,
    redactor: &mut Redactor,
) -> Result<String, CallError> {
    let name = &*agent.agent.name;
    let Kind::Command(command) = &agent.agent.kind else { return Ok(String::new()) };
    let templates = Templates::new(name, request, input, &actions.secrets);
    let environment = environment(actions, agent, command, &templates, call, redactor).await?;
    let stdin = envelope(name, request, input, call).to_string().into_bytes();
    let program = Program { name, command, directory: directory(agent, command) };

    let started = program.start(&environment, actions.processes.as_deref(), actions);
    let (group, reader) = started.map_err(|error| {
        let argv = command.argv.first().map(String::as_str).unwrap_or_default();
        let message = format!(
            "agent `{name}` could not be started: `{argv}` in {}: {error}",
            program.directory.display()
        );
        agent_error(Code::CommandNotStarted, message)
    })?;
    let end = converse(group, reader, &stdin, command.output_limit, call.timeout).await;
    program.answer(end, redactor)
}

struct Program<'a> {
    name: &'a str,
    command: &'a Command,
    directory: PathBuf,
}

/// How a conversation with a program went.
enum End {
    Exited { status: ExitStatus, stdout: Vec<u8>, stderr: Tail },
    TimedOut { after: Duration, stderr: Tail },
    TooMuch { stderr: Tail },
    Failed(io::Error),
}

impl Program<'_> {
    fn start(
        &self,
        environment: &[(OsString, OsString)],
        processes: Option<&ProcessTable>,
        actions: &Actions,
    ) -> io::Result<(Group, pipe::Sender)> {
        let (program, arguments) =
            self.command.argv.split_first().ok_or_else(|| io::Error::other("`argv` is empty"))?;
        let entry = processes.map(ProcessTable::begin).transpose()?;
        let mut command = tokio::process::Command::new(self.locate(program, environment, actions)?);
        command
            .arg0(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .envs(entry.as_ref().map(|entry| (process_table::MARK_VARIABLE, &entry.mark)))
            .current_dir(&self.directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Group::new(command.spawn()?, Duration::from_millis(self.command.grace.0), entry)
    }

    /// A name without a slash is searched in the `PATH` the program is given, else in the engine's; any other is
    /// relative to the program's working directory.
    fn locate(
        &self,
        program: &str,
        environment: &[(OsString, OsString)],
        actions: &Actions,
    ) -> io::Result<PathBuf> {
        if program.contains('/') {
            return std::path::absolute(self.directory.join(program));
        }
        let path = OsStr::new("PATH");
        let given = environment.iter().find(|(name, _)| name == path).map(|(_, value)| value);
        let folders = given.or_else(|| actions.secrets.environment().get(path));
        let folders = folders.map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), OsString::as_os_str);
        std::env::split_paths(folders)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(program))
            .find(|file| is_executable(file))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is in no folder of PATH"))
    }

    fn answer(&self, end: End, redactor: &Redactor) -> Result<String, CallError> {
        let name = self.name;
        match end {
            End::Exited { status, stdout, stderr } => {
                let stdout = String::from_utf8(stdout);
                if status.success() {
                    let text = stdout.map_err(|error| {
                        let at = error.utf8_error().valid_up_to();
                        let message =
                            format!("agent `{name}` wrote bytes to stdout that are not UTF-8, at byte {at}");
                        agent_error(Code::CommandOutputNotText, message)
                    })?;
                    return Ok(text.trim_end_matches(['\n', '\r']).to_owned());
                }
                let said = stderr.said(redactor);
                let Some(exit) = status.code() else {
                    let signal = status.signal().unwrap_or_default();
                    let message = format!("agent `{name}` was killed by signal {signal}{said}");
                    return Err(agent_error(Code::CommandKilled, message));
                };
                let own = stdout.ok().and_then(|text| own_error(&Value::parse_json(&text).ok()?));
                let (kind, message) = match own {
                    Some((kind, message)) => (kind, message),
                    None => (None, format!("agent `{name}` ended with exit code {exit}{said}")),
                };
                let kind = kind.as_deref().unwrap_or(error_type::AGENT_ERROR);
                Err(answered(Code::CommandFailed, kind, message))
            }
            End::TimedOut { after, stderr } => {
                let message = format!(
                    "agent `{name}` did not end within {} and was stopped{}",
                    seconds(after),
                    stderr.said(redactor)
                );
                Err(failure(Code::CommandTimeout, error_type::TIMEOUT, message))
            }
            End::TooMuch { stderr } => {
                let message = format!(
                    "agent `{name}` wrote more than {} bytes to stdout and was stopped; its `outputLimit` says how much \
                     it may write{}",
                    self.command.output_limit,
                    stderr.said(redactor)
                );
                Err(agent_error(Code::CommandOutputTooLarge, message))
            }
            End::Failed(error) => Err(agent_error(
                Code::CommandKilled,
                format!("agent `{name}` could not be waited for: {error}"),
            )),
        }
    }
}

/// Writes the request and reads what comes, all at once, until the program has ended, says too much or takes too long.
/// When this returns, nothing of the program's group runs.
async fn converse(
    mut group: Group,
    stdin: pipe::Sender,
    request: &[u8],
    limit: u64,
    timeout: Duration,
) -> End {
    let (mut stdout, mut stderr) = (Vec::new(), Tail::default());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let talk = talk(&mut group, stdin, request, &mut stdout, limit, &mut stderr);
    let talked = match tokio::time::timeout(timeout, talk).await {
        Ok(Ok(talked)) => talked,
        Ok(Err(error)) => {
            group.stop().await;
            return End::Failed(error);
        }
        Err(_) => {
            group.stop().await;
            return End::TimedOut { after: timeout, stderr };
        }
    };
    if let Talk::TooMuch = talked {
        group.stop().await;
        return End::TooMuch { stderr };
    }
    let status = match group.finish().await {
        Ok(status) => status,
        Err(error) => return End::Failed(error),
    };
    // What the program wrote is in the pipes by now. Somebody else may hold them open: that is not waited for.
    if let Ok((_, output)) = group.parts() {
        drain(&output.stderr, STDERR_KEPT * 128, |bytes| stderr.push(bytes));
        let room = limit.saturating_add(1).saturating_sub(stdout.len());
        drain(&output.stdout, room, |bytes| stdout.extend_from_slice(bytes));
    }
    if stdout.len() > limit { End::TooMuch { stderr } } else { End::Exited { status, stdout, stderr } }
}

enum Talk {
    /// The program has ended; its pipes may hold more.
    Ended,
    /// There is more on stdout than allowed.
    TooMuch,
}

async fn talk(
    group: &mut Group,
    stdin: pipe::Sender,
    request: &[u8],
    stdout: &mut Vec<u8>,
    limit: usize,
    stderr: &mut Tail,
) -> io::Result<Talk> {
    let (process, output) = group.parts()?;
    let mut stdin = Some(stdin);
    let mut rest = request;
    let (mut out_open, mut err_open) = (true, true);
    let (mut out_chunk, mut err_chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        tokio::select! {
            end = process.ended() => {
                return end.map(|()| Talk::Ended);
            }
            bytes = read(&mut output.stdout, &mut out_chunk), if out_open => {
                out_open = !bytes.is_empty();
                stdout.extend_from_slice(bytes);
                if stdout.len() > limit {
                    return Ok(Talk::TooMuch);
                }
            }
            bytes = read(&mut output.stderr, &mut err_chunk), if err_open => {
                err_open = !bytes.is_empty();
                stderr.push(bytes);
            }
            written = write(stdin.as_mut(), rest), if stdin.is_some() => {
                rest = rest.get(written..).unwrap_or_default();
                // A program need not read what it is given: a closed pipe (0 written) is no error.
                if rest.is_empty() || written == 0 {
                    stdin = None;
                }
            }
        }
    }
}

/// What can be read; nothing at the end. A pipe that fails has ended.
async fn read<'b>(from: &mut (impl AsyncRead + Unpin), chunk: &'b mut [u8]) -> &'b [u8] {
    let count = from.read(chunk).await.unwrap_or(0);
    chunk.get(..count).unwrap_or_default()
}

/// How much of it could be written; 0 when nobody reads any more.
async fn write(to: Option<&mut pipe::Sender>, bytes: &[u8]) -> usize {
    match to {
        Some(pipe) => pipe.write(bytes).await.unwrap_or(0),
        None => 0,
    }
}

/// Takes what is in a pipe without waiting for more, at most about `room` bytes.
fn drain(pipe: &impl AsFd, room: usize, mut take: impl FnMut(&[u8])) {
    let mut chunk = vec![0; CHUNK];
    let mut taken = 0;
    while taken < room {
        match rustix::io::read(pipe.as_fd(), &mut chunk[..]) {
            Ok(count) if count > 0 => {
                take(chunk.get(..count).unwrap_or_default());
                taken += count;
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

/// The end of what a program wrote to stderr.
#[derive(Default)]
struct Tail {
    kept: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > 2 * STDERR_KEPT {
            self.kept.drain(..self.kept.len() - STDERR_KEPT);
            self.cut = true;
        }
    }

    /// For the end of a message: the last lines, without secrets.
    fn said(&self, redactor: &Redactor) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        // A secret of which the start was cut off would not be recognised: a cut line is left out.
        let text = if self.cut { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &*text };
        let text = redactor.text(text);
        let text = text.trim_end();
        let shown = tail(text, STDERR_SHOWN);
        match (shown.is_empty(), shown.len() < text.len()) {
            (true, _) => String::new(),
            (false, false) => format!("; stderr: {shown}"),
            (false, true) => format!("; the end of stderr: {shown}"),
        }
    }
}

/// The program's whole environment but for the mark of its process group.
async fn environment(
    actions: &Actions,
    agent: &Entry,
    command: &Command,
    templates: &Templates<'_>,
    call: &Call,
    redactor: &mut Redactor,
) -> Result<Vec<(OsString, OsString)>, CallError> {
    let mut environment = Vec::with_capacity(command.inherit.len() + command.environment.len() + 5);
    for name in &command.inherit {
        if let Some((name, value)) = actions.secrets.environment().get_key_value(OsStr::new(name)) {
            environment.push((name.clone(), value.clone()));
        }
    }
    for (name, template) in &command.environment {
        let place = format!("environment variable {name}");
        let text = templates.text(template, &place, redactor).await?;
        if text.contains('\0') {
            let message = format!("{place} of agent `{}` holds a NUL character", agent.agent.name);
            return Err(validation(Code::AgentTemplateFailed, message));
        }
        environment.push((name.into(), text.into()));
    }
    let of_the_call = [
        ("STEPWELL_RUN_ID", call.run.as_str().to_owned()),
        ("STEPWELL_STEP_ID", call.step.as_str().to_owned()),
        ("STEPWELL_ATTEMPT", call.attempt.to_string()),
        ("STEPWELL_IDEMPOTENCY_KEY", call.idempotency_key.to_string()),
    ];
    environment.extend(of_the_call.into_iter().map(|(name, value)| (name.into(), value.into())));
    Ok(environment)
}

fn directory(agent: &Entry, command: &Command) -> PathBuf {
    let folder =
        command.cwd.as_ref().map_or_else(|| agent.directory.clone(), |cwd| agent.directory.join(cwd));
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// `1.5 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
