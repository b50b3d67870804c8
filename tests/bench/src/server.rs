//! The server that is measured, and what its process and its files say.

use std::error::Error;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::JoinHandle;

/// A `stepwell serve`, ended when dropped.
pub(crate) struct Server {
    child: Child,
    database: PathBuf,
    log: Option<JoinHandle<String>>,
    /// `host:port`.
    pub(crate) address: String,
}

/// What a server left behind.
pub(crate) struct Closed {
    /// How often it asked the disk to have written, as its store counted; `None` if it did not say.
    pub(crate) fsyncs: Option<f64>,
    /// The size of its database, its log copied into it.
    pub(crate) bytes: f64,
}

impl Server {
    /// Starts one for the project in `folder`, with its database there.
    pub(crate) fn start(stepwell: &Path, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let database = folder.join("bench.db");
        let mut child = Command::new(stepwell)
            .args(["serve", "--listen", "127.0.0.1:0", "--project"])
            .arg(folder)
            .arg("--db")
            .arg(&database)
            .env("STEPWELL_LOG", "warn,stepwell_sqlite=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", stepwell.display()))?;
        let mut stderr = child.stderr.take().ok_or("the server has no stderr")?;
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the server has no stdout")?).read_line(&mut line)?;
        let mut server = Self { child, database, log: Some(log), address: String::new() };
        match line.trim().strip_prefix("http://") {
            Some(address) => address.clone_into(&mut server.address),
            None => return Err(format!("the server did not begin: {}", server.end()?).into()),
        }
        Ok(server)
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64, Box<dyn Error>> {
        cpu_seconds(&format!("/proc/{}/stat", self.child.id()))
    }

    /// The most memory it ever had.
    pub(crate) fn peak_megabytes(&self) -> Result<f64, Box<dyn Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(peak.ok_or("no VmHWM")?.trim().parse::<f64>()? / 1024.0)
    }

    /// Lets it end in order, so that its log is copied into its database.
    pub(crate) fn stop(mut self) -> Result<Closed, Box<dyn Error>> {
        let log = self.end()?;
        let closed = log.lines().rev().find(|line| line.contains("the store is closed"));
        let count = |name: &str| -> Option<f64> {
            let (_, rest) = closed?.split_once(&format!("{name}="))?;
            rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
        };
        #[allow(clippy::cast_precision_loss)]
        let bytes = self.database.metadata()?.len() as f64;
        Ok(Closed { fsyncs: count("fsyncs"), bytes })
    }

    fn end(&mut self) -> Result<String, Box<dyn Error>> {
        // The standard library only knows how to kill.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        let log = self.log.take().map(JoinHandle::join);
        Ok(log.and_then(Result::ok).unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time that this process has used.
pub(crate) fn own_cpu_seconds() -> Result<f64, Box<dyn Error>> {
    cpu_seconds("/proc/self/stat")
}

/// User and system time; the kernel counts in hundredths.
fn cpu_seconds(stat: &str) -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string(stat)?;
    // The name, in parentheses, may hold anything.
    let fields = text.rsplit_once(')').ok_or("no stat")?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}
