//! Check definitions of the API, and the checks that the agent runs itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};

use super::decode::Object;
use super::reply::Refusal;
use super::shared::Shared;
use crate::model::{CheckDefinition, CheckKind, Probe, Status, Target};

/// Fields of a check definition; what is not used below is taken and ignored.
const CHECK: &[&str] = &[
    "CheckID",
    "ID",
    "Name",
    "Status",
    "Notes",
    "ServiceID",
    "Token",
    "HTTP",
    "Header",
    "Method",
    "Body",
    "TCP",
    "Interval",
    "Timeout",
    "TTL",
    "TLSSkipVerify",
    "SuccessBeforePassing",
    "FailuresBeforeCritical",
    "DeregisterCriticalServiceAfter",
    "OutputMaxSize",
];
/// Shortest interval and default timeout that Consul has.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// As much of an answer as Consul keeps (`output_max_size`).
const MAX_OUTPUT: usize = 4096;
/// Greatest answer read at all.
const MAX_ANSWER: u64 = 64 * 1024;

/// Reads a check. `service`: its position, the service's id and name, when it came with one.
/// `None` for an empty object, which Consul ignores.
pub(super) fn definition(
    value: &Value,
    service: Option<(usize, &str, &str)>,
) -> Result<Option<CheckDefinition>, Refusal> {
    let undecodable = |why| Refusal::bad(format!("Request decode failed: {why}"));
    let object = Object::new(value, "structs.CheckType").and_then(|object| object.only(CHECK));
    let object = object.map_err(undecodable)?;
    if object.is_empty() {
        return Ok(None);
    }
    let raw = read(&object).map_err(undecodable)?;
    let status = match raw.status.as_str() {
        "" => Status::Critical,
        text => Status::parse(text).ok_or_else(|| {
            Refusal::bad("Status for checks must 'passing', 'warning', 'critical'")
        })?,
    };
    let mut check = raw.check;
    check.status = status;
    check.kind = raw.kind?;
    match service {
        Some((at, id, name)) => {
            id.clone_into(&mut check.service_id);
            if check.id.is_empty() {
                check.id = format!("service:{id}:{}", at + 1);
            }
            if check.name.is_empty() {
                check.name = format!("Service '{name}' check");
            }
        }
        None if check.id.is_empty() => check.id.clone_from(&check.name),
        None => {}
    }
    Ok(Some(check))
}

struct Raw {
    check: CheckDefinition,
    status: String,
    kind: Result<CheckKind, Refusal>,
}

fn read(object: &Object<'_>) -> Result<Raw, String> {
    let positive =
        |nanos: i64| u64::try_from(nanos).ok().filter(|n| *n > 0).map(Duration::from_nanos);
    let (ttl, interval) =
        (positive(object.duration("TTL")?), positive(object.duration("Interval")?));
    let timeout = positive(object.duration("Timeout")?);
    let (url, tcp) = (object.text("HTTP")?, object.text("TCP")?);
    let method = object.text("Method")?;
    let target = if !url.is_empty() {
        let method = if method.is_empty() { "GET".to_owned() } else { method };
        Some(Target::Http { url, method, headers: headers(object)?, body: object.text("Body")? })
    } else {
        (!tcp.is_empty()).then_some(Target::Tcp(tcp))
    };
    let invalid = |why: &str| Err(Refusal::bad(format!("Invalid check: {why}")));
    let kind = match (target, ttl, interval) {
        (_, Some(_), Some(_)) => invalid("Interval and TTL cannot both be specified"),
        (Some(_), _, None) => invalid("Interval must be > 0 for Script, HTTP, or TCP checks"),
        (Some(target), _, Some(interval)) => Ok(CheckKind::Probe(Probe {
            target,
            interval: interval.max(MIN_INTERVAL),
            timeout: timeout.unwrap_or(TIMEOUT),
        })),
        (None, Some(ttl), None) => Ok(CheckKind::Ttl(ttl)),
        (None, None, _) => invalid("TTL must be > 0 for TTL checks"),
    };
    let id = object.text("CheckID")?;
    let check = CheckDefinition {
        id: if id.is_empty() { object.text("ID")? } else { id },
        name: object.text("Name")?,
        notes: object.text("Notes")?,
        service_id: object.text("ServiceID")?,
        status: Status::Critical,
        kind: CheckKind::Static,
        deregister_after: positive(object.duration("DeregisterCriticalServiceAfter")?),
    };
    Ok(Raw { check, status: object.text("Status")?, kind })
}

fn headers(object: &Object<'_>) -> Result<Vec<(String, String)>, String> {
    let Some(value) = object.get("Header") else { return Ok(Vec::new()) };
    let map = value.as_object().ok_or("Header must be an object of lists")?;
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let pairs = |(name, list): (&String, &Value)| {
        texts(list).into_iter().map(|value| (name.clone(), value)).collect::<Vec<_>>()
    };
    Ok(map.iter().flat_map(pairs).collect())
}

/// Keeps one task per probe of the model, starting and ending them as checks come and go.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut changes = shared.changes();
    let mut tasks = JoinSet::new();
    let mut running: HashMap<(String, u64), AbortHandle> = HashMap::new();
    let mut seen = None;
    loop {
        let generation = shared.read(|model| model.agent().generation());
        if seen != Some(generation) {
            seen = Some(generation);
            let wanted: HashMap<(String, u64), Probe> = shared.read(|model| {
                let owned = |(id, generation, probe): (&str, u64, &Probe)| {
                    ((id.to_owned(), generation), probe.clone())
                };
                model.agent().probes().map(owned).collect()
            });
            running.retain(|key, task| {
                let keep = wanted.contains_key(key);
                if !keep {
                    task.abort();
                }
                keep
            });
            for (key, probe) in wanted {
                running
                    .entry(key.clone())
                    .or_insert_with(|| tasks.spawn(repeat(shared.clone(), key, probe)));
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn repeat(shared: Arc<Shared>, (id, generation): (String, u64), probe: Probe) {
    // As Consul: the first run comes at a random moment within the interval.
    let first = probe.interval.mul_f64(fastrand::f64());
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, probe.interval);
    loop {
        ticks.tick().await;
        let run = tokio::time::timeout(probe.timeout, run(&probe.target));
        let (status, output) = run.await.unwrap_or_else(|_| {
            (Status::Critical, "context deadline exceeded (Client.Timeout exceeded)".to_owned())
        });
        shared
            .change(|model, now| model.agent_check_result(now, (&id, generation), status, &output));
    }
}

async fn run(target: &Target) -> (Status, String) {
    match target {
        Target::Tcp(address) => match TcpStream::connect(address).await {
            Ok(_) => (Status::Passing, format!("TCP connect {address}: Success")),
            Err(error) => (Status::Critical, format!("dial tcp {address}: {error}")),
        },
        Target::Http { url, method, headers, body } => {
            match exchange(url, method, headers, body).await {
                Ok((code, reason, text)) => {
                    let status = match code {
                        200..=299 => Status::Passing,
                        429 => Status::Warning,
                        _ => Status::Critical,
                    };
                    (status, format!("HTTP {method} {url}: {code} {reason} Output: {text}"))
                }
                Err(why) => (Status::Critical, format!("{method} {url:?}: {why}")),
            }
        }
    }
}

/// One HTTP/1.0 request (so that the answer ends with the connection): status, reason, body.
async fn exchange(
    url: &str,
    method: &str,
    headers: &[(String, String)],
    body: &str,
) -> Result<(u16, String, String), String> {
    let rest = url.strip_prefix("http://").ok_or("unsupported protocol scheme: use http://")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address)
        .await
        .map_err(|error| format!("dial tcp {address}: {error}"))?;
    let mut request = format!(
        "{method} {slash}{path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: Consul Health Check\r\n\
         Accept: text/plain, text/*, */*\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in
        headers.iter().filter(|(n, v)| !n.contains(['\r', '\n', ':']) && !v.contains(['\r', '\n']))
    {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // A server may reset the connection behind its answer; what came before it counts.
    let end = stream.take(MAX_ANSWER).read_to_end(&mut answer).await;
    parse(&answer)
        .ok_or_else(|| end.err().map_or("malformed HTTP response".to_owned(), |e| e.to_string()))
}

fn parse(answer: &[u8]) -> Option<(u16, String, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut status = head.lines().next()?.splitn(3, ' ');
    let code = status.nth(1)?.parse().ok()?;
    let reason = status.next().unwrap_or_default().to_owned();
    let end =
        body.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|at| *at <= MAX_OUTPUT);
    Some((code, reason, body[..end.last().unwrap_or(0)].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_are_read() {
        let read = parse(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nbody");
        assert_eq!(read, Some((404, "Not Found".to_owned(), "body".to_owned())));
        assert_eq!(parse(b"garbage"), None);
        assert_eq!(parse(b"HTTP/1.1 x\r\n\r\n"), None);
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "é".repeat(4000));
        assert_eq!(parse(long.as_bytes()).map(|(_, _, body)| body.len()), Some(4096));
    }
}
