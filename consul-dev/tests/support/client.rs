//! A small HTTP/1.1 client: one connection, one request at a time, a deadline on each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Far above what any answer takes, blocking queries included.
pub const DEADLINE: Duration = Duration::from_secs(90);

const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// Encodes a key for a path.
pub fn encode(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string()
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Req {
    pub method: &'static str,
    pub path: String,
    pub body: String,
    pub headers: Vec<(&'static str, String)>,
}

impl Req {
    pub fn new(method: &'static str, path: impl Into<String>, body: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: body.into(), headers: Vec::new() }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path, "")
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Res {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Res {
    pub fn index(&self) -> Option<u64> {
        self.headers.get("x-consul-index").and_then(|text| text.parse().ok())
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// A connection to one server.
pub struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends and reads the answer; panics when there is none.
    pub async fn send(&mut self, request: &Req) -> Res {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("{} {request:?}: {error}", self.address),
        }
    }

    pub async fn try_send(&mut self, request: &Req) -> std::io::Result<Res> {
        match tokio::time::timeout(DEADLINE, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }

    async fn exchange(&mut self, request: &Req) -> std::io::Result<Res> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let mut head = format!("{} {} HTTP/1.1\r\nHost: test\r\n", request.method, request.path);
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = request.body.len();
        let text = format!("{head}Content-Length: {length}\r\n\r\n{}", request.body);
        stream.write_all(text.as_bytes()).await?;
        let answer = read(&mut stream).await?;
        if answer.headers.get("connection").is_none_or(|value| value != "close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Res> {
    let status = line(stream).await?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let mut headers = BTreeMap::new();
    loop {
        let header = line(stream).await?;
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let size = line(stream).await?;
            let size = usize::from_str_radix(&size, 16).map_err(std::io::Error::other)?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..]).await?;
            line(stream).await?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length").and_then(|text| text.parse().ok()) {
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
    }
    Ok(Res { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

async fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
