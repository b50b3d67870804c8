//! Which programs run, remembered in a folder, so that the next engine can end what outlived a killed one.
//!
//! Before a program is started, a file named after its mark is written; the mark is in the program's environment
//! (`STEPWELL_CALL`), and with it in that of all its children. After the start the file gets the program's process id
//! and start time. When the program has ended the file goes. So there is no moment at which a program runs and no file
//! says so, and no process that only happens to have the same id is ever taken for it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::error::Code;

/// The variable that marks the processes of one call.
pub(crate) const MARK_VARIABLE: &str = "STEPWELL_CALL";
/// How long what outlived an engine has to end by itself; its runs wait for that.
const GRACE: Duration = Duration::from_secs(2);

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: the folder {} remembers running programs and cannot be used", Code::ProcessTableUnusable.as_str(), .folder.display())]
pub struct ProcessTableError {
    /// The folder.
    pub folder: PathBuf,
    /// What the operating system says.
    #[source]
    pub source: io::Error,
}

/// The programs that one engine runs, each a file in a folder.
pub(crate) struct ProcessTable {
    folder: PathBuf,
    /// What this process's marks begin with: no other process since the machine started has the same.
    prefix: String,
    /// The session this process belongs to, and its programs with it: 0 in a container that was entered from outside,
    /// because then the session's leader has no process id there.
    session: i32,
}

/// Numbers the marks of this process, whatever table they are in: a mark finds processes, so no two may be the same.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl ProcessTable {
    /// Uses this folder, which is made if it is not there, and first ends what an engine before left in it. Only one
    /// engine may use it at a time; that is for whoever holds the engine's lock to see to.
    pub(crate) fn open(folder: impl Into<PathBuf>) -> Result<Self, ProcessTableError> {
        let folder = folder.into();
        let Reaped { ended, left } = reap_orphans(&folder, GRACE)?;
        if !ended.is_empty() {
            tracing::warn!(process_groups = ?ended, "programs that outlived a killed engine were ended");
        }
        if !left.is_empty() {
            tracing::error!(process_groups = ?left, "programs that outlived a killed engine cannot be ended");
        }
        fs::create_dir_all(&folder).map_err(|source| ProcessTableError { folder: folder.clone(), source })?;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let (started, session) = Process::own().map_or((0, 0), |own| (own.started, own.session));
        Ok(Self { folder, prefix: format!("{pid}-{started}"), session })
    }

    /// Remembers that a program is about to be started.
    pub(crate) fn begin(&self) -> io::Result<Entry> {
        let mark = format!("{}-{}", self.prefix, NEXT.fetch_add(1, Ordering::Relaxed));
        let file = self.folder.join(&mark);
        fs::write(&file, format!("{}\n", self.session))?;
        Ok(Entry { file, mark })
    }
}

/// One program's file. Dropping it says that the program has ended.
pub(crate) struct Entry {
    file: PathBuf,
    pub(crate) mark: String,
}

impl Entry {
    /// Adds what is known once the program runs. Without it, the mark still finds it.
    pub(crate) fn started(&self, pid: i32) {
        let started = Process::read(pid).map_or(0, |process| process.started);
        // Appended: were it written anew, there would be a moment at which a program runs and the file says nothing.
        let noted = fs::OpenOptions::new()
            .append(true)
            .open(&self.file)
            .and_then(|mut file| file.write_all(format!("{pid} {started}\n").as_bytes()));
        if let Err(error) = noted {
            tracing::warn!(file = %self.file.display(), %error, "a running program's process id could not be noted");
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(file = %self.file.display(), %error, "an ended program could not be forgotten");
        }
    }
}

/// What [`reap_orphans`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaped {
    /// The process groups that had outlived their engine and were ended.
    pub(crate) ended: Vec<i32>,
    /// Those that did not end, not even when killed (a process that waits for a dead disk, or of another user).
    pub(crate) left: Vec<i32>,
}

/// Ends the programs in this folder that outlived their engine, with all that is left of their process groups: asks them
/// to end, kills what still runs after `grace`, and waits until nothing does.
///
/// A process that left its group's session (a daemon, by `setsid`) is not touched. Where there is no `/proc` nothing can
/// be told apart safely: then nothing is ended, and the log says which process ids to look at.
pub(crate) fn reap_orphans(folder: &Path, grace: Duration) -> Result<Reaped, ProcessTableError> {
    let unusable = |source| ProcessTableError { folder: folder.to_owned(), source };
    let files = match fs::read_dir(folder) {
        Ok(files) => files.collect::<Result<Vec<_>, _>>().map_err(unusable)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reaped::default()),
        Err(error) => return Err(unusable(error)),
    };
    let orphans: Vec<_> = files.iter().filter_map(|file| Orphan::read(&file.path())).collect();
    if orphans.is_empty() {
        return Ok(Reaped::default());
    }
    let mut reaped = Reaped::default();
    if Path::new("/proc/self/stat").exists() {
        let seen = end_all(&orphans, grace);
        let left = groups_of(&orphans);
        reaped.ended = seen.difference(&left).copied().collect();
        reaped.left = left.into_iter().collect();
    } else {
        let pids: Vec<_> = orphans.iter().filter_map(|orphan| orphan.process).map(|(pid, _)| pid).collect();
        tracing::warn!(
            ?pids,
            "programs of a killed engine may still run; this system does not tell which they are"
        );
    }
    if reaped.left.is_empty() {
        for file in files {
            fs::remove_file(file.path()).map_err(unusable)?;
        }
    }
    Ok(reaped)
}

/// Every process group that was seen.
fn end_all(orphans: &[Orphan], grace: Duration) -> BTreeSet<i32> {
    const PAUSE: Duration = Duration::from_millis(10);
    /// A killed process that has not ended by then waits for something that does not come.
    const KILLED_GRACE: Duration = Duration::from_secs(5);
    let mut seen = BTreeSet::new();
    for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, KILLED_GRACE)] {
        let mut asked = BTreeSet::new();
        let mut waited = Duration::ZERO;
        loop {
            let groups = groups_of(orphans);
            if groups.is_empty() {
                return seen;
            }
            for group in &groups {
                seen.insert(*group);
                // Members may still be forked after the first signal; killing twice does no harm, asking twice might.
                if (asked.insert(*group) || signal == Signal::KILL)
                    && let Some(pid) = Pid::from_raw(*group)
                {
                    let _ = rustix::process::kill_process_group(pid, signal);
                }
            }
            if waited >= patience {
                break;
            }
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }
    seen
}

/// What a file says of a program.
struct Orphan {
    /// Unless the disk was full: then the mark alone tells.
    session: Option<i32>,
    /// The mark as it stands in the environment, its end included.
    mark: Vec<u8>,
    /// Process id and start time, unless the engine died between the start and noting them.
    process: Option<(i32, u64)>,
}

impl Orphan {
    fn read(file: &Path) -> Option<Self> {
        let mark = file.file_name()?.to_str()?;
        let text = fs::read_to_string(file).ok()?;
        let mut lines = text.lines();
        let session = lines.next().and_then(|line| line.parse().ok());
        let process = lines.next().and_then(|line| line.split_once(' '));
        let process = process.and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?)));
        let mut variable = String::new();
        // Writing to a String cannot fail.
        let _ = write!(variable, "{MARK_VARIABLE}={mark}");
        Some(Self { session, mark: variable.into_bytes(), process })
    }

    fn owns(&self, process: &Process, environment: &[u8]) -> bool {
        let noted = self.process == Some((process.pid, process.started)) && process.started > 0;
        noted
            || self.session.is_none_or(|session| process.session == session)
                && environment.split(|byte| *byte == 0).any(|variable| variable == self.mark)
    }
}

/// The process groups in which a process of these orphans runs.
fn groups_of(orphans: &[Orphan]) -> BTreeSet<i32> {
    let own_group = Process::own().map_or(0, |own| own.group);
    let mut groups = BTreeSet::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?)) {
        // A dead process that nobody waits for runs nothing.
        if process.ended
            || process.group <= 1
            || process.group == own_group
            || groups.contains(&process.group)
        {
            continue;
        }
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        if orphans.iter().any(|orphan| orphan.owns(&process, &environment)) {
            groups.insert(process.group);
        }
    }
    groups
}

/// Whether a process of this group still runs. The dead that nobody has waited for do not count: where process 1 is no
/// `init`, as in many containers, they stay for good.
pub(crate) fn group_runs(group: Pid) -> bool {
    if rustix::process::test_kill_process_group(group).is_err() {
        return false;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.as_raw_nonzero().get();
    let mut seen = false;
    for process in
        processes.flatten().filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?))
    {
        if process.group == group && !process.ended {
            return true;
        }
        seen = true;
    }
    // A system whose /proc is not Linux's tells nothing.
    !seen
}

/// What `/proc/PID/stat` says of a process.
struct Process {
    pid: i32,
    ended: bool,
    group: i32,
    session: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Process {
    /// This process. Its group and session are read here and not asked of the system, whose answer may be 0 in a
    /// container, which rustix takes for impossible.
    fn own() -> Option<Self> {
        Self::read(rustix::process::getpid().as_raw_nonzero().get())
    }

    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything, parentheses too.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
        Some(Self {
            pid,
            ended: fields.first().is_some_and(|state| matches!(*state, "Z" | "X")),
            group: number(2)?.try_into().ok()?,
            session: number(3)?.try_into().ok()?,
            started: number(19)?.try_into().ok()?,
        })
    }
}
