//! A running program with its process group: waited for, stopped, and never left behind.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;

use super::process_table::Entry;
use super::process_table::group_runs;

/// A program and all processes of its group. Dropping it ends them: by a termination signal, then by killing them after
/// the grace.
pub(super) struct Group(Option<Running>);

struct Running {
    process: Process,
    output: Output,
    grace: Duration,
    /// Whether nothing of the group runs any more.
    over: bool,
    _entry: Option<Entry>,
}

/// The program itself.
pub(super) struct Process {
    child: Child,
    /// Its process id, which is the group's.
    leader: Pid,
    /// Says that some child of this process has ended.
    deaths: tokio::signal::unix::Signal,
}

/// What it writes to.
pub(super) struct Output {
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

impl Group {
    /// Takes over a program that leads its own process group, and gives what it reads from.
    pub(super) fn new(
        mut child: Child,
        grace: Duration,
        entry: Option<Entry>,
    ) -> io::Result<(Self, pipe::Sender)> {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = id.ok_or_else(|| io::Error::other("the program has no process id"))?;
        if let Some(entry) = &entry {
            entry.started(leader.as_raw_nonzero().get());
        }
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ready = || {
            let deaths = tokio::signal::unix::signal(SignalKind::child())?;
            let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
                return Err(io::Error::other("the program has no pipes"));
            };
            let stdin = pipe::Sender::from_owned_fd(stdin.into_owned_fd()?)?;
            let stdout = pipe::Receiver::from_owned_fd(stdout.into_owned_fd()?)?;
            let stderr = pipe::Receiver::from_owned_fd(stderr.into_owned_fd()?)?;
            Ok((deaths, stdin, Output { stdout, stderr }))
        };
        match ready() {
            Ok((deaths, stdin, output)) => {
                let process = Process { child, leader, deaths };
                Ok((Self(Some(Running { process, output, grace, over: false, _entry: entry })), stdin))
            }
            Err(error) => {
                kill(leader);
                Err(error)
            }
        }
    }

    /// The program and what it writes to, for as long as it is not stopped.
    pub(super) fn parts(&mut self) -> io::Result<(&mut Process, &mut Output)> {
        let running = self.0.as_mut().ok_or_else(stopped)?;
        Ok((&mut running.process, &mut running.output))
    }

    /// After the program has ended: kills what is left of the group. What it wrote can still be read.
    pub(super) async fn finish(&mut self) -> io::Result<ExitStatus> {
        let running = self.0.as_mut().ok_or_else(stopped)?;
        kill(running.process.leader);
        let status = running.process.child.wait().await?;
        running.over = true;
        Ok(status)
    }

    /// Ends the whole group, gently at first. When this returns, nothing of it runs; when it is dropped before, the
    /// group is ended all the same.
    pub(super) async fn stop(mut self) {
        if let Some(running) = self.0.take() {
            // A task of its own, because whoever waits may stop waiting: that must not cut the grace short.
            let _ = tokio::spawn(running.stop()).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(running) = self.0.take().filter(|running| !running.over) else { return };
        match tokio::runtime::Handle::try_current() {
            // A runtime that shuts down drops the task, and that kills.
            Ok(runtime) => drop(runtime.spawn(running.stop())),
            Err(_) => drop(running),
        }
    }
}

impl Process {
    /// Until the program has ended; others of its group may still run.
    ///
    /// Looks without taking the program's status: until somebody takes it, its process id, which is the group's,
    /// belongs to no other process.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            match rustix::process::waitid(WaitId::Pid(self.leader), look) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {
                    self.deaths.recv().await;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks the group to end; returns when it has, or when the grace is over and it was killed.
    async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        const PAUSE: Duration = Duration::from_millis(10);
        let until = Instant::now() + grace;
        let _ = rustix::process::kill_process_group(self.leader, Signal::TERM);
        if tokio::time::timeout_at(until, self.ended()).await.is_err() {
            kill(self.leader);
            return self.child.wait().await;
        }
        let status = self.child.wait().await;
        // The program has gone; what it started may still be about to end.
        while group_runs(self.leader) {
            if Instant::now() >= until {
                kill(self.leader);
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        status
    }
}

impl Running {
    async fn stop(mut self) {
        // Somebody must go on reading: a program that says that it is about to end would be killed by the closed pipe.
        let Output { stdout, stderr } = &mut self.output;
        let ended = tokio::select! {
            status = self.process.stop(self.grace) => status,
            () = async { tokio::join!(discard(stdout), discard(stderr)); std::future::pending().await } => return,
        };
        self.over = ended.is_ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            kill(self.process.leader);
        }
    }
}

fn kill(group: Pid) {
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

async fn discard(pipe: &mut pipe::Receiver) {
    let mut chunk = [0; 4096];
    while pipe.read(&mut chunk).await.is_ok_and(|count| count > 0) {}
}

fn stopped() -> io::Error {
    io::Error::other("the program was stopped already")
}
