//! Runs started over connections that are kept, each waited for.

use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::workloads::Workload;

/// What is asked of a server, again and again.
pub(crate) struct Load {
    address: String,
    request: Rc<[u8]>,
    clients: usize,
}

/// What came of it.
pub(crate) struct Done {
    /// How long each run took, the shortest first.
    pub(crate) times: Vec<Duration>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) fn new(address: &str, workload: &Workload) -> Self {
        let body = format!("{{\"workflowId\":\"{}\",\"input\":{{}}}}", workload.name);
        let request = format!(
            "POST /api/v1/workflow-runs?wait=120s HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { address: address.to_owned(), request: request.into_bytes().into(), clients: workload.clients }
    }

    /// Starts runs for `time`, or until there were `most` of them, each client the next as soon as its last one ended.
    pub(crate) async fn run(&self, time: Duration, most: usize) -> Result<Done, Box<dyn Error>> {
        let begin = Instant::now();
        let most = most.div_ceil(self.clients);
        let set = tokio::task::LocalSet::new();
        let clients: Vec<_> = (0..self.clients)
            .map(|_| {
                let (address, request) = (self.address.clone(), Rc::clone(&self.request));
                set.spawn_local(async move {
                    let work = work(&address, &request, begin, time, most);
                    work.await.map_err(|error| error.to_string())
                })
            })
            .collect();
        set.await;
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await??);
        }
        let elapsed = begin.elapsed();
        times.sort_unstable();
        Ok(Done { times, elapsed })
    }
}

async fn work(
    address: &str,
    request: &[u8],
    begin: Instant,
    time: Duration,
    most: usize,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut times = Vec::new();
    let mut buffer = Vec::with_capacity(64 * 1024);
    while begin.elapsed() < time && times.len() < most {
        let asked = Instant::now();
        connection.write_all(request).await?;
        let answer = answer(&mut connection, &mut buffer).await?;
        if !answer.contains("\"status\":\"COMPLETED\"") {
            return Err(format!("a run did not complete: {answer:.2000}").into());
        }
        times.push(asked.elapsed());
    }
    Ok(times)
}

/// One answer: its body as text.
async fn answer<'b>(connection: &mut TcpStream, buffer: &'b mut Vec<u8>) -> Result<&'b str, Box<dyn Error>> {
    buffer.clear();
    let (mut head, mut whole) = (0, usize::MAX);
    while buffer.len() < whole {
        if connection.read_buf(buffer).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if whole == usize::MAX
            && let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            head = end + 4;
            let text = std::str::from_utf8(buffer.get(..end).unwrap_or_default())?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
            });
            whole = head + length.ok_or_else(|| format!("an answer without a length: {text}"))??;
        }
    }
    Ok(std::str::from_utf8(buffer.get(head..).unwrap_or_default())?)
}
