//! A scripted HTTP/1.1 server on a free port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `PUT /v1/kv/a?cas=0`
    pub line: String,
    /// Lower-case head.
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn token(&self) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix("x-consul-token: "))
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer, with an index.
    Answer(u16, String),
    /// A whole answer without Consul's headers.
    Alien(u16, String),
    /// An answer that promises more than it holds, then the end.
    Cut(u16),
    /// The end, without a word.
    Close,
    /// Nothing, for ever.
    Silence,
}

impl Reply {
    pub fn ok(body: &str) -> Self {
        Self::Answer(200, body.into())
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// The server; it ends with the value.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Script, _) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { address, seen, task }
    }

    pub async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Script, log: Arc<Mutex<Vec<Seen>>>) {
    while let Some(request) = read(&mut stream).await {
        let reply = script(&request);
        log.lock().unwrap().push(request);
        let index =
            "X-Consul-Index: 7\r\nX-Consul-KnownLeader: true\r\nX-Consul-LastContact: 3\r\n";
        let (text, go_on) = match reply {
            Reply::Answer(status, body) => (
                format!(
                    "HTTP/1.1 {status} X\r\n{index}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                true,
            ),
            Reply::Alien(status, body) => (
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                true,
            ),
            Reply::Cut(status) => {
                (format!("HTTP/1.1 {status} X\r\n{index}Content-Length: 99\r\n\r\ntr"), false)
            }
            Reply::Close => return,
            Reply::Silence => return std::future::pending().await,
        };
        if stream.write_all(text.as_bytes()).await.is_err() || !go_on {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if let Some(request) = parse(&bytes) {
            return Some(request);
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Seen> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    (body.len() >= length).then(|| Seen { line, body: body.to_owned(), head: head.clone() })
}
