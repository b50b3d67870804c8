//! The two agents: a service in this process and a program that writes to a file. Both keep every call.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// A call as an agent saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Timestamp,
    pub(crate) step: String,
    pub(crate) key: String,
}

/// Every call.
pub(crate) struct Calls {
    /// Of the service.
    pub(crate) address: SocketAddr,
    /// What the program writes to.
    pub(crate) file: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    /// Connections that may still bring a call.
    open: AtomicUsize,
}

impl Calls {
    pub(crate) fn listen(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&theirs);
                shared.open.fetch_add(1, SeqCst);
                std::thread::spawn(move || {
                    // A client that was killed in the middle of a request has not called.
                    let _ = answer(connection, &shared);
                    shared.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { address, file: folder.join("calls.txt"), shared }
    }

    /// Until nothing that the dead server sent is still on its way.
    pub(crate) fn wait_until_idle(&self) {
        let mut idle = 0;
        while idle < 4 {
            sleep(Duration::from_millis(5));
            idle = if self.shared.open.load(SeqCst) == 0 { idle + 1 } else { 0 };
        }
    }

    pub(crate) fn all(&self) -> Vec<Call> {
        let mut calls = self.shared.calls.lock().unwrap().clone();
        let text = std::fs::read_to_string(&self.file).unwrap();
        calls.extend(text.lines().map(|line| {
            let [at, step, key] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let at = Timestamp::from_nanosecond(at.parse().unwrap()).unwrap();
            Call { at, step: step.to_owned(), key: key.to_owned() }
        }));
        calls
    }
}

fn answer(mut connection: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    loop {
        let (mut length, mut key, mut line) = (0, String::new(), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "idempotency-key" => value.trim().clone_into(&mut key),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let step = body["stepId"].as_str().unwrap().to_owned();
        assert_eq!(body["idempotencyKey"], key, "the body and the header agree");
        #[allow(clippy::disallowed_methods)] // It is compared with the times that the server records.
        let at = Timestamp::now();
        let pause = {
            let mut calls = shared.calls.lock().unwrap();
            // So that many calls are under way when the server dies; asked again, it is quick.
            let first = calls.iter().all(|call| call.step != step);
            let pause = if first { 4 * u64::from_str_radix(&step[..2], 16).unwrap() } else { 5 };
            calls.push(Call { at, step, key });
            Duration::from_millis(pause)
        };
        shared.open.fetch_sub(1, SeqCst);
        sleep(pause);
        shared.open.fetch_add(1, SeqCst);
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{\"n\": 1}";
        connection.write_all(answer.as_bytes())?;
    }
}
