//! A running program with its process group: waited for, stopped, and never left behind.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use tokio::process::Child;
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;

use super::process_table::Entry;

/// A program and all processes of its group. Dropping it ends them: by a termination signal, then by killing them after
/// the grace.
pub(super) struct Group(Option<Running>);

struct Running {
    child: Child,
    leader: Pid,
    /// Says that some child of this process has ended.
    deaths: tokio::signal::unix::Signal,
    grace: Duration,
    /// Whether nothing of the group runs any more.
    over: bool,
    _entry: Option<Entry>,
}

impl Group {
    /// Takes over a program that leads its own process group.
    pub(super) fn new(child: Child, grace: Duration, entry: Option<Entry>) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = id.ok_or_else(|| io::Error::other("the program has no process id"))?;
        if let Some(entry) = &entry {
            entry.started(leader.as_raw_nonzero().get());
        }
        let deaths = tokio::signal::unix::signal(SignalKind::child())?;
        Ok(Self(Some(Running { child, leader, deaths, grace, over: false, _entry: entry })))
    }

    /// Until the program has ended; others of its group may still run.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Some(running) => running.ended().await,
            None => Ok(()),
        }
    }

    /// After the program has ended: kills what is left of the group.
    pub(super) async fn finish(mut self) -> io::Result<ExitStatus> {
        match self.0.take() {
            Some(running) => running.finish().await,
            None => Err(io::Error::other("the program was stopped already")),
        }
    }

    /// Ends the whole group, gently at first. When this returns, nothing of it runs.
    pub(super) async fn stop(mut self) {
        if let Some(running) = self.0.take() {
            running.stop().await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(running) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            // A runtime that shuts down drops the task, and that kills.
            Ok(runtime) => drop(runtime.spawn(running.stop())),
            Err(_) => drop(running),
        }
    }
}

impl Running {
    /// Looks without taking the program's status: until somebody takes it, its process id, which is the group's,
    /// belongs to no other process.
    async fn ended(&mut self) -> io::Result<()> {
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

    async fn finish(mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = self.child.wait().await;
        self.over = status.is_ok();
        status
    }

    async fn stop(mut self) {
        const PAUSE: Duration = Duration::from_millis(10);
        let until = Instant::now() + self.grace;
        let _ = rustix::process::kill_process_group(self.leader, Signal::TERM);
        if tokio::time::timeout_at(until, self.ended()).await.is_ok() && self.child.wait().await.is_ok() {
            // The program has gone; what it started may still be about to end.
            while rustix::process::test_kill_process_group(self.leader).is_ok() {
                if Instant::now() >= until {
                    self.kill();
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.over = true;
            return;
        }
        self.kill();
        self.over = self.child.wait().await.is_ok();
    }

    fn kill(&self) {
        let _ = rustix::process::kill_process_group(self.leader, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.kill();
        }
    }
}
