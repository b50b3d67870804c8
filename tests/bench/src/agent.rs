//! An HTTP agent in a process of its own: answers every request at once with a small object.

use std::error::Error;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// How this program is told to be the agent.
pub(crate) const COMMAND: &str = "agent";

/// The process, ended when dropped.
pub(crate) struct Process {
    child: Child,
    /// `host:port`.
    pub(crate) address: String,
}

impl Process {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?).arg(COMMAND).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("the agent has no stdout")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does, until it is killed.
pub(crate) async fn serve() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(answer(connection));
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 42\r\n\r\n\
                        {\"status\": \"healthy\", \"error_rate\": 0.01}\n";

async fn answer(mut connection: TcpStream) {
    let _ = connection.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        // One request, whole: head, and as much body as it says.
        let length = loop {
            if let Some(length) = whole(&buffer) {
                break length;
            }
            if !matches!(connection.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        buffer.drain(..length.min(buffer.len()));
        if connection.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// The length of the first request in the buffer, once all of it is there.
fn whole(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(buffer.get(..head)?).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = head + length.unwrap_or(0);
    (buffer.len() >= whole).then_some(whole)
}
