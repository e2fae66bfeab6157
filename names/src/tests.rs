//! With look-ups that answer, fail or hang as they are told. Nothing here ends by a deadline unless it says so:
//! where one waits an hour, an answer that comes at all was not waited for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::{Failed, Names, NoAddress, connect};

const LONG: Duration = Duration::from_secs(3600);

type Answer = Result<Vec<&'static str>, Failed>;

/// A resolver of the tests.
#[derive(Clone, Default)]
struct Resolver {
    inner: Arc<(Mutex<Told>, Condvar)>,
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Told {
    answers: HashMap<String, Answer>,
    silent: bool,
}

impl Resolver {
    fn names(&self) -> Names {
        let resolver = self.clone();
        Names::by(move |host| resolver.look(host))
    }

    fn look(&self, host: &str) -> Result<Vec<SocketAddr>, Failed> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let (told, changed) = &*self.inner;
        let told = changed.wait_while(told.lock().unwrap(), |told| told.silent).unwrap();
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let answer = told.answers.get(host).cloned().unwrap_or(Err(Failed::NoSuchName));
        answer.map(|all| all.into_iter().map(address).collect())
    }

    fn says(&self, host: &str, answer: Answer) {
        self.inner.0.lock().unwrap().answers.insert(host.to_owned(), answer);
    }

    fn is_silent(&self, silent: bool) {
        self.inner.0.lock().unwrap().silent = silent;
        self.inner.1.notify_all();
    }
}

fn address(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 0)
}

async fn ask(names: &Names, host: &str) -> Result<Vec<IpAddr>, NoAddress> {
    let asked = names.resolve(host, Instant::now() + LONG);
    let answer = timeout(Duration::from_secs(60), asked).await.expect("it waits for ever");
    answer.map(|all| all.iter().map(SocketAddr::ip).collect())
}

fn ips(all: &[&str]) -> Result<Vec<IpAddr>, NoAddress> {
    Ok(all.iter().map(|text| text.parse().unwrap()).collect())
}

fn no_such(host: &str) -> NoAddress {
    NoAddress::NoSuchName { host: host.to_owned() }
}

#[tokio::test]
async fn a_silent_resolver_takes_nothing_back() {
    let (resolver, host) = (Resolver::default(), "db1.example");
    let names = resolver.names();
    resolver.says(host, Ok(vec!["198.51.100.1"]));
    assert_eq!(ask(&names, host).await, ips(&["198.51.100.1"]));
    resolver.is_silent(true);
    for _ in 0..3 {
        assert_eq!(ask(&names, host).await, ips(&["198.51.100.1"]));
    }
    resolver.says(host, Ok(vec!["198.51.100.2"]));
    resolver.is_silent(false);
    let fresh = names.resolve_now(host, Instant::now() + LONG).await.unwrap();
    assert_eq!(fresh, [address("198.51.100.2")]);
    assert_eq!(ask(&names, host).await, ips(&["198.51.100.2"]));
}

#[tokio::test]
async fn a_failure_takes_nothing_back_and_no_such_name_does() {
    let (resolver, host) = (Resolver::default(), "db1.example");
    let names = resolver.names();
    let fails = || Err(Failed::Otherwise("Temporary failure".to_owned()));
    resolver.says(host, fails());
    let failed = NoAddress::Failed { host: host.to_owned(), why: "Temporary failure".to_owned() };
    assert_eq!(ask(&names, host).await, Err(failed.clone()));
    resolver.says(host, Ok(vec!["198.51.100.1"]));
    // The first look-up after a failure may be answered from before it.
    assert_eq!(names.resolve_now(host, Instant::now() + LONG).await.unwrap().len(), 1);
    resolver.says(host, fails());
    assert_eq!(ask(&names, host).await, ips(&["198.51.100.1"]));
    assert_eq!(names.resolve_now(host, Instant::now() + LONG).await, Err(failed));
    resolver.says(host, Err(Failed::NoSuchName));
    assert_eq!(names.resolve_now(host, Instant::now() + LONG).await, Err(no_such(host)));
    assert_eq!(ask(&names, host).await, Err(no_such(host)));
    assert!(names.known(host).is_empty());
}

/// There is one resolver: of a second name nobody waits again.
#[tokio::test]
async fn silence_is_found_out_once() {
    let resolver = Resolver::default();
    let names = resolver.names();
    for host in ["db1.example", "db2.example"] {
        resolver.says(host, Ok(vec!["198.51.100.1"]));
        assert!(ask(&names, host).await.is_ok());
    }
    resolver.is_silent(true);
    names.refresh("db1.example");
    assert_eq!(ask(&names, "db1.example").await, ips(&["198.51.100.1"]));
    let second = pin!(names.resolve("db2.example", Instant::now() + LONG));
    let at_once = second.poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(at_once, Poll::Ready(Ok(vec![address("198.51.100.1")])));
    resolver.is_silent(false);
}

#[tokio::test]
async fn where_nothing_is_known_the_callers_deadline_ends_it() {
    let resolver = Resolver::default();
    resolver.is_silent(true);
    let names = resolver.names();
    let soon = Instant::now() + Duration::from_millis(50);
    let host = "db1.example".to_owned();
    assert_eq!(names.resolve(&host, soon).await, Err(NoAddress::Silent { host: host.clone() }));
    assert_eq!(names.resolve_now(&host, soon).await, Err(NoAddress::Silent { host }));
    resolver.is_silent(false);
}

/// Neither many names nor many callers use up threads, nor those of the runtime.
#[test]
fn look_ups_that_hang_are_bounded_and_in_nobodys_way() {
    let resolver = Resolver::default();
    resolver.is_silent(true);
    let names = resolver.names();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    let hosts: Vec<String> = (0..50).map(|n| format!("db{n}.example")).collect();
    runtime.block_on(async {
        for host in hosts.iter().chain(&hosts) {
            resolver.says(host, Ok(vec!["198.51.100.1"]));
            names.refresh(host);
        }
        let work = tokio::task::spawn_blocking(|| 7);
        assert_eq!(timeout(Duration::from_secs(60), work).await.unwrap().unwrap(), 7);
    });
    // The stop waits for no look-up.
    drop(runtime);
    assert!(resolver.most.load(Ordering::SeqCst) <= 16);
    resolver.is_silent(false);
    let again = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    again.block_on(async {
        for host in &hosts {
            assert_eq!(ask(&names, host).await, ips(&["198.51.100.1"]));
        }
    });
    assert!(resolver.most.load(Ordering::SeqCst) <= 16);
}

#[tokio::test]
async fn another_order_is_no_news_and_an_address_is_asked_of_nobody() {
    let (resolver, host) = (Resolver::default(), "db1.example");
    let names = resolver.names();
    for answer in [["198.51.100.1", "2001:db8::1"], ["2001:db8::1", "198.51.100.1"]] {
        resolver.says(host, Ok(answer.to_vec()));
        assert_eq!(ask(&names, host).await, ips(&["198.51.100.1", "2001:db8::1"]));
    }
    for (text, ip) in [("198.51.100.9", "198.51.100.9"), ("[2001:db8::9]", "2001:db8::9")] {
        assert_eq!(ask(&names, text).await, ips(&[ip]));
    }
}

#[tokio::test]
async fn what_is_known_outlives_a_restart() {
    let dir = std::env::temp_dir().join(format!("hart-names-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("names");
    let resolver = Resolver::default();
    let names = resolver.names();
    names.keep_in(file.clone());
    resolver.says("db1.example", Ok(vec!["198.51.100.1", "2001:db8::1"]));
    assert!(ask(&names, "db1.example").await.is_ok());
    assert!(ask(&names, "no.example").await.is_err());
    // The thread that writes has told the answer before.
    let written = || std::fs::read_to_string(&file).unwrap_or_default();
    while written().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(written(), "db1.example 198.51.100.1:0 [2001:db8::1]:0\n");
    std::fs::write(&file, written() + "bad.example nonsense\nempty.example\n\n").unwrap();
    resolver.is_silent(true);
    let again = resolver.names();
    again.keep_in(file);
    assert_eq!(ask(&again, "db1.example").await, ips(&["198.51.100.1", "2001:db8::1"]));
    assert!(again.known("bad.example").is_empty() && again.known("empty.example").is_empty());
    resolver.is_silent(false);
    std::fs::remove_dir_all(dir).unwrap();
}

/// A socket that is full takes no connection and refuses none.
async fn silent_listener(at: &str) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{at}:0").parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (at, mut held) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
        held.push(stream.unwrap());
    }
    (listener, held)
}

#[tokio::test]
async fn an_address_that_is_silent_leaves_the_others_their_time() {
    let (silent, _held) = silent_listener("127.0.0.2").await;
    let port = silent.local_addr().unwrap().port();
    let live = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (resolver, host) = (Resolver::default(), "db1.example");
    resolver.says(host, Ok(vec!["127.0.0.2", "127.0.0.1"]));
    let names = resolver.names();
    let stream = connect(&names, host, port, Instant::now() + Duration::from_secs(6)).await;
    assert_eq!(stream.unwrap().peer_addr().unwrap(), live.local_addr().unwrap());
    resolver.says(host, Ok(vec!["127.0.0.2"]));
    names.resolve_now(host, Instant::now() + LONG).await.unwrap();
    let soon = Instant::now() + Duration::from_millis(200);
    let error = connect(&names, host, port, soon).await.unwrap_err();
    assert_eq!(error.to_string(), format!("127.0.0.2:{port} does not answer"));
}
