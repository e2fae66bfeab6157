//! PgBouncer is paused for a switchover, and when the primary is lost: clients see a delay and no error,
//! and nobody stays paused, whatever goes wrong. Needs root. `HART_PGBOUNCER` names another program than
//! the one on the path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{
    Cluster, Options, Process, Rest, Sql, bin_dir, eventually, hart_binary, is_root, sql_config,
};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Where PgBouncer listens on each host.
const PORT: u16 = 6432;
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// A cluster with a PgBouncer on each host.
struct Pooled {
    cluster: Cluster,
    /// The address that follows the primary, where the poolers use one.
    vip: Option<Ipv4Addr>,
    poolers: Vec<Process>,
}

/// The program.
fn pgbouncer() -> OsString {
    std::env::var_os("HART_PGBOUNCER").unwrap_or_else(|| "pgbouncer".into())
}

impl Pooled {
    /// `pause_timeout`: seconds.
    async fn start(pause_timeout: u32) -> Result<Self> {
        Self::start_by(pause_timeout, pause_timeout + 60, false).await
    }

    /// `vip`: PgBouncer knows a virtual address only.
    async fn start_by(pause_timeout: u32, max_pause: u32, vip: bool) -> Result<Self> {
        Self::start_with(&Options::default(), pause_timeout, max_pause, vip).await
    }

    async fn start_with(
        options: &Options,
        pause_timeout: u32,
        max_pause: u32,
        vip: bool,
    ) -> Result<Self> {
        let mut cluster = Cluster::prepare(3, options).await?;
        let [a, b, c, _] = cluster.nodes()[0].host().context("a host")?.address().octets();
        let vip = vip.then_some(Ipv4Addr::new(a, b, c, 200));
        for name in NODES {
            let node = cluster.node_mut(name)?;
            let dir = node.home().join("pool");
            fs::create_dir(&dir)?;
            let users = "\"postgres\" \"postgres\"\n\"pgbouncer\" \"secret of the poolers\"\n";
            fs::write(dir.join("users"), users)?;
            run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(&dir))?;
            let dir = dir.display();
            let mut extra = format!(
                "pgbouncer:\n  poolers: [\"{dir}:{PORT}\"]\n  password: secret of the poolers\n  \
                 pause_timeout: {pause_timeout}\n  max_pause: {max_pause}\n"
            );
            extra.push_str(&match vip {
                None => format!("  databases_file: {dir}/databases.ini\n"),
                Some(vip) => format!("vip: {{interface: eth0, addresses: [{vip}/24]}}\n"),
            });
            node.config_mut().extra = extra;
            let mut text = node.config().render();
            if vip.is_some() {
                let listen = format!("listen: \"{},127.0.0.1:5432\"", node.config().address);
                ensure!(text.contains(&listen), "{text}");
                text = text.replace(&listen, "listen: \"*:5432\"");
            }
            node.start_with(&text)?;
        }
        cluster.wait_healthy(3, DEADLINE).await?;
        let mut pooled = Self { cluster, vip, poolers: Vec::new() };
        for name in NODES {
            let pooler = pooled.pooler(name).await?;
            pooled.poolers.push(pooler);
        }
        for name in NODES {
            pooled.writes_by(name).await?;
        }
        Ok(pooled)
    }

    fn dir(&self, name: &str) -> Result<PathBuf> {
        Ok(self.cluster.node(name)?.home().join("pool"))
    }

    /// PgBouncer with hart's own template.
    async fn pooler(&self, name: &str) -> Result<Process> {
        let dir = self.dir(name)?;
        let databases = dir.join("databases.ini");
        let (key, value) = match self.vip {
            Some(vip) => ("host", vip.to_string()),
            None => ("databases_file", databases.display().to_string()),
        };
        eventually("the file of the databases", DEADLINE, async || {
            ensure!(self.vip.is_some() || databases.exists(), "none");
            Ok(())
        })
        .await?;
        let file = dir.join("pgbouncer.ini");
        let mut template = Command::new(hart_binary()?);
        template.arg("-c").arg(self.cluster.node(name)?.config_file());
        template.args(["template", "pgbouncer", "--output"]).arg(&file);
        for (key, value) in [
            (key, value),
            ("port", "5432".to_owned()),
            ("socket_dir", dir.display().to_string()),
            ("auth_file", dir.join("users").display().to_string()),
        ] {
            template.arg("--set").arg(format!("{key}={value}"));
        }
        run(&mut template)?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
        command.arg(pgbouncer()).arg(&file);
        self.cluster.host(name)?.start(&mut command, &dir.join("pgbouncer.log"))
    }

    /// A client of the pooler on this host.
    async fn client(&self, name: &str) -> Result<Sql> {
        let address = self.cluster.host(name)?.address().to_string();
        Sql::connect(&sql_config(&address, PORT)).await
    }

    /// Waits until a client of this host's pooler writes, at the primary of this moment.
    async fn writes_by(&self, name: &str) -> Result<()> {
        let what = format!("a client of {name}'s PgBouncer writes");
        let written = eventually(&what, DEADLINE, async || {
            let client = self.client(name).await?;
            client.value("create table if not exists seen (at text)").await?;
            let at =
                client.value("insert into seen values (host(inet_server_addr())) returning at");
            let at = at.await?.context("a row")?;
            let primary = self.cluster.primary().await?;
            let there = self.cluster.host(&primary)?.address();
            ensure!(at == self.vip.unwrap_or(there).to_string(), "written at {at}");
            Ok(())
        });
        written.await.with_context(|| self.logs())
    }

    /// Clients of these hosts' poolers that have been served and are idle.
    async fn idle(&self, names: &[&str], each: usize) -> Result<Vec<Sql>> {
        let mut clients = Vec::new();
        for name in names {
            for _ in 0..each {
                let client = self.client(name).await?;
                client.value("select 1").await?;
                clients.push(client);
            }
        }
        Ok(clients)
    }

    /// What the pooler of this host is told.
    async fn admin(&self, name: &str) -> Result<Sql> {
        let mut admin = tokio_postgres::Config::new();
        admin.host_path(self.dir(name)?).port(PORT).user("pgbouncer").dbname("pgbouncer");
        Sql::connect(admin.password("secret of the poolers")).await
    }

    /// Their agents have paused them.
    async fn wait_paused(&self, names: &[&str]) -> Result<()> {
        for name in names {
            eventually("the pause", DEADLINE, async || {
                ensure!(self.cluster.node(name)?.log_contains("PgBouncer is paused"), "not yet");
                Ok(())
            })
            .await
            .with_context(|| self.logs())?;
        }
        Ok(())
    }

    /// All write at the same time, and new clients of the same poolers; where each wrote.
    async fn all_ask(&self, names: &[&str], clients: Vec<Sql>) -> Result<BTreeMap<String, usize>> {
        const WRITE: &str = "insert into seen values ('asked') returning host(inet_server_addr())";
        let mut asking = JoinSet::new();
        for client in clients {
            asking.spawn(async move { patiently(client.client(), WRITE).await });
        }
        for name in names {
            let config = sql_config(&self.cluster.host(name)?.address().to_string(), PORT);
            asking.spawn(async move {
                let connected = timeout(DEADLINE, config.connect(NoTls)).await;
                let (client, connection) = connected.context("no login in time")??;
                let _connection = AbortOnDrop(tokio::spawn(connection));
                patiently(&client, WRITE).await
            });
        }
        let mut places = BTreeMap::new();
        for answer in asking.join_all().await {
            let at = match answer {
                Ok(at) => at.context("a row")?,
                Err(error) => format!("{error:#}"),
            };
            *places.entry(at).or_default() += 1;
        }
        Ok(places)
    }

    async fn all_write(&self) -> Result<()> {
        for name in NODES {
            self.writes_by(name).await?;
        }
        self.nothing_is_left().await
    }

    /// No marker, and no process that waits for an agent's death.
    async fn nothing_is_left(&self) -> Result<()> {
        eventually("the end of every pause", DEADLINE, async || {
            for name in NODES {
                let node = self.cluster.node(name)?;
                let mut home = node.data_dir().into_os_string();
                home.push(".hart/pgbouncer.paused");
                ensure!(!PathBuf::from(home).exists(), "{name} has a marker");
                for pid in self.cluster.host(name)?.processes() {
                    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let arguments = String::from_utf8_lossy(&arguments).into_owned();
                    ensure!(!arguments.contains("last-will"), "{name}: {arguments}");
                    ensure!(!arguments.contains("secret of"), "{name}: {arguments}");
                }
            }
            Ok(())
        })
        .await
    }

    /// Starts a node again of which everything was killed, its PgBouncer, too.
    async fn revive(&mut self, name: &str) -> Result<()> {
        self.cluster.node_mut(name)?.start()?;
        self.cluster.wait_healthy(3, DEADLINE).await?;
        let pooler = self.pooler(name).await?;
        self.poolers.push(pooler);
        Ok(())
    }

    /// Asks for a switchover at the leader; status and text.
    fn ask(&self, leader: &str) -> Result<impl Future<Output = Result<(u16, String)>> + use<>> {
        let rest = Rest::with_deadline(DEADLINE)?;
        let url = self.cluster.node(leader)?.url("/switchover");
        let body = json!({ "leader": leader });
        Ok(async move {
            let answer = rest.call("POST", &url, Some(&body)).await?;
            Ok((answer.status, answer.text))
        })
    }

    fn logs(&self) -> String {
        let poolers = self.poolers.iter().map(|pooler| pooler.log());
        format!("{}\n--- poolers\n{}", self.cluster.logs(), poolers.collect::<Vec<_>>().join("\n"))
    }

    /// pgbench by this host's pooler, until it is stopped.
    fn pgbench(&self, name: &str, arguments: &[&str]) -> Result<Bench> {
        let dir = self.dir(name)?;
        let tag = arguments.concat().replace('-', "");
        let mut command = Command::new(bin_dir()?.join("pgbench"));
        command.current_dir(&dir).env("PGPASSWORD", "postgres");
        command.args(["-h", &self.cluster.host(name)?.address().to_string()]);
        command.args(["-p", &PORT.to_string(), "-U", "postgres", "-n", "-T", "3600", "-P", "1"]);
        command.arg("-l").arg(format!("--log-prefix={tag}")).args(arguments).arg("postgres");
        let process = Process::start(&mut command, &dir.join(format!("{tag}.out")))?;
        Ok(Bench { process, dir, tag })
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The first value, however long it is waited for.
async fn patiently(client: &tokio_postgres::Client, sql: &str) -> Result<Option<String>> {
    let answer =
        timeout(DEADLINE, client.simple_query(sql)).await.context("no answer in time")??;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// pgbench that runs.
struct Bench {
    process: Process,
    dir: PathBuf,
    tag: String,
}

impl Bench {
    /// Every transaction in its logs: milliseconds that it took.
    fn transactions(&self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(&format!("{}.", self.tag)) || name.ends_with(".out") {
                continue;
            }
            for line in fs::read_to_string(entry.path())?.lines() {
                let fields: Vec<&str> = line.split(' ').collect();
                // client, number, microseconds, script, epoch, microseconds; the last line may be cut.
                if let [_, _, took, _, _, _] = fields[..] {
                    ensure!(took != "failed", "{line}");
                    all.push(took.parse::<f64>()? / 1000.0);
                }
            }
        }
        Ok(all)
    }

    /// Waits until it has got on by a second or two.
    async fn gets_on(&mut self) -> Result<()> {
        let before = self.lines()?;
        eventually("pgbench gets on", DEADLINE, async || {
            let log = self.process.log();
            ensure!(!log.contains("error"), "{log}");
            let now = log.lines().filter(|line| works(line)).count();
            ensure!(now >= before + 2, "{now} lines: {log}");
            Ok(())
        })
        .await
    }

    fn lines(&self) -> Result<usize> {
        Ok(self.process.log().lines().filter(|line| works(line)).count())
    }

    /// It has seen no error; how many transactions, and the longest.
    async fn finish(mut self) -> Result<(usize, f64)> {
        ensure!(self.process.exit_status().is_none(), "it ended:\n{}", self.process.log());
        // As at the end of its time: it ends in good order, and writes the rest of its log.
        self.process.signal(Signal::ALARM)?;
        eventually("pgbench ends", DEADLINE, async || {
            let status = self.process.exit_status().context("it runs")?;
            ensure!(status.success(), "{status}\n{}", self.process.log());
            Ok(())
        })
        .await?;
        let log = self.process.log();
        let bad = |line: &&str| {
            line.contains("error")
                || line.contains("aborted")
                || failed(line).is_some_and(|n| n > 0)
        };
        let found: Vec<_> = log.lines().filter(bad).collect();
        ensure!(found.is_empty(), "{found:#?}\n{log}");
        let all = self.transactions()?;
        Ok((all.len(), all.iter().copied().fold(0.0, f64::max)))
    }
}

/// `progress: 1.0 s, 997.0 tps, lat 3.9 ms stddev 1.1, 0 failed`, with transactions in it.
fn works(line: &str) -> bool {
    line.starts_with("progress:") && !line.contains(" 0.0 tps")
}

fn failed(line: &str) -> Option<u64> {
    let line = line.strip_prefix("progress:")?;
    line.rsplit_once(", ")?.1.split(' ').next()?.parse().ok()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

fn other(than: &[&str]) -> Result<&'static str> {
    NODES.into_iter().find(|name| !than.contains(name)).context("another node")
}

/// Two switchovers under the load of two pgbenches.
async fn nothing_fails(pooled: &Pooled) -> Result<()> {
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let by = other(&[&first])?;
    let address = pooled.cluster.host(by)?.address().to_string();
    let mut init = Command::new(bin_dir()?.join("pgbench"));
    init.env("PGPASSWORD", "postgres").args(["-i", "-q", "-h", &address, "-p", "6432"]);
    run(init.args(["-U", "postgres", "postgres"]))?;

    let mut kept = pooled.pgbench(by, &["-c", "8"])?;
    let mut new = pooled.pgbench(&first, &["-C", "-c", "2"])?;
    let mut leader = first.clone();
    for _ in 0..2 {
        kept.gets_on().await?;
        new.gets_on().await?;
        let (status, text) = pooled.ask(&leader)?.await?;
        ensure!(status == 200, "{text}\n{}", pooled.logs());
        leader = pooled.cluster.wait_new_primary(&leader, DEADLINE).await?;
        pooled.cluster.wait_healthy(3, DEADLINE).await?;
    }
    kept.gets_on().await?;
    new.gets_on().await?;
    for (what, bench) in [("kept connections", kept), ("new connections", new)] {
        let (transactions, longest) = bench.finish().await.with_context(|| pooled.logs())?;
        eprintln!("{what}: {transactions} transactions, 0 failed, longest {longest:.0} ms");
        ensure!(transactions > 0, "{what} did nothing");
    }
    pooled.all_write().await?;
    let lines = pooled.cluster.unexpected_lines(&[]);
    ensure!(lines.is_empty(), "{lines:#?}");
    Ok(())
}

#[tokio::test]
async fn a_switchover_costs_no_transaction() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    nothing_fails(&Pooled::start(20).await?).await
}

#[tokio::test]
async fn nor_where_poolers_find_the_primary_by_an_address() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    nothing_fails(&Pooled::start_by(20, 80, true).await?).await
}

#[tokio::test]
async fn a_long_transaction_makes_a_switchover_fail_and_changes_nothing() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let pooled = Pooled::start(3).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let by = other(&[&first])?;
    let long = pooled.client(by).await?;
    long.value("begin").await?;
    long.value("insert into seen values ('long')").await?;
    let (status, text) = pooled.ask(&first)?.await?;
    ensure!(status == 503, "{status} {text}\n{}", pooled.logs());
    let said = text.contains(by) && text.contains("is not paused after 3 s: a transaction");
    ensure!(said, "{text}\n{}", pooled.logs());

    // The same primary under the same PostgreSQL, everybody writes, and the transaction goes on.
    ensure!(pooled.cluster.primary().await? == first, "another leads\n{}", pooled.logs());
    pooled.all_write().await?;
    long.value("commit").await?;
    drop(long);

    // Somebody else's pause is neither used nor taken away.
    let admin = pooled.admin(by).await?;
    admin.rows("PAUSE").await?;
    let (status, text) = pooled.ask(&first)?.await?;
    ensure!(status == 503 && text.contains("already"), "{status} {text}");
    // It is an error where nothing is paused.
    admin.rows("RESUME").await?;
    pooled.all_write().await?;

    // With all of them in order, there is nothing against it.
    let (status, text) = pooled.ask(&first)?.await?;
    ensure!(status == 200, "{status} {text}\n{}", pooled.logs());
    pooled.all_write().await
}

#[tokio::test]
async fn an_agent_that_dies_in_the_middle_leaves_no_pooler_paused() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let mut pooled = Pooled::start(60).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let by = other(&[&first])?;
    let third = other(&[&first, by])?;
    // One pause cannot end, so the switchover stands in the middle.
    let long = pooled.client(by).await?;
    long.value("begin").await?;
    long.value("insert into seen values ('long')").await?;
    let asking = tokio::spawn(pooled.ask(&first)?);
    for name in [first.as_str(), third] {
        eventually("the pause", DEADLINE, async || {
            ensure!(pooled.cluster.node(name)?.log_contains("PgBouncer is paused"), "not yet");
            Ok(())
        })
        .await
        .with_context(|| pooled.logs())?;
    }

    // A replica's agent dies for good: its own pooler goes on at once.
    pooled.cluster.node_mut(third)?.kill_agent();
    pooled.writes_by(third).await?;

    // The leader's does: its PostgreSQL is fenced at the end of the lease, and another one leads.
    pooled.cluster.node_mut(&first)?.kill_agent();
    let next = pooled.cluster.wait_new_primary(&first, DEADLINE).await?;
    pooled.writes_by(by).await?;
    drop(long);
    for name in [first.as_str(), third] {
        let node = pooled.cluster.node_mut(name)?;
        node.start()?;
    }
    pooled.cluster.wait_healthy(3, DEADLINE).await?;
    ensure!(next == by, "{next} leads");
    asking.abort();
    pooled.all_write().await
}

/// Everything of the primary's node is killed, and its host goes on: its port refuses.
#[tokio::test]
async fn a_lost_primary_makes_clients_wait_for_the_next() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let mut pooled = Pooled::start(5).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let by = other(&[&first])?;
    let hosts = [by, other(&[&first, by])?];
    let clients = pooled.idle(&hosts, 6).await?;
    pooled.cluster.node_mut(&first)?.kill_all()?;
    pooled.wait_paused(&hosts).await?;
    let places = pooled.all_ask(&hosts, clients).await?;
    let next = pooled.cluster.wait_new_primary(&first, DEADLINE).await?;
    let next = pooled.cluster.host(&next)?.address().to_string();
    ensure!(places == BTreeMap::from([(next, 14)]), "{places:#?}\n{}", pooled.logs());

    pooled.revive(&first).await?;
    pooled.all_write().await
}

/// PostgreSQL crashes, and its agent starts it again: the same primary, no new reign.
#[tokio::test]
async fn a_crashed_primary_makes_clients_wait_for_its_return() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let pooled = Pooled::start(5).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let by = other(&[&first])?;
    let hosts = [by, other(&[&first, by])?, first.as_str()];
    let clients = pooled.idle(&hosts, 6).await?;
    pooled.cluster.node(&first)?.kill_postmaster()?;
    pooled.wait_paused(&hosts).await?;
    let places = pooled.all_ask(&hosts, clients).await?;
    let primary = pooled.cluster.primary().await?;
    let primary = pooled.cluster.host(&primary)?.address().to_string();
    ensure!(places == BTreeMap::from([(primary, 21)]), "{places:#?}\n{}", pooled.logs());
    pooled.all_write().await
}

/// The hosts of the other two nodes.
fn others(first: &str) -> Result<[&'static str; 2]> {
    let by = other(&[first])?;
    Ok([by, other(&[first, by])?])
}

/// All clients have asked, and all have written at the primary that came after `first`.
async fn all_at_the_next(
    pooled: &Pooled,
    first: &str,
    places: BTreeMap<String, usize>,
) -> Result<()> {
    let next = pooled.cluster.wait_new_primary(first, DEADLINE).await?;
    let next = pooled.cluster.host(&next)?.address().to_string();
    ensure!(places == BTreeMap::from([(next, 14)]), "{places:#?}\n{}", pooled.logs());
    Ok(())
}

/// Its host takes packets and answers none: some clients ask at once, before anybody has noticed, the others when
/// PgBouncer would have given the server up, which is long before the lease is over.
async fn a_silent_host(empty: bool) -> Result<()> {
    let options = Options::default().dcs("ttl", 8);
    let mut pooled = Pooled::start_with(&options, 5, 30, false).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let hosts = others(&first)?;
    let (first_ones, clients) = (pooled.idle(&hosts, 1).await?, pooled.idle(&hosts, 5).await?);
    for name in hosts.into_iter().filter(|_| empty) {
        pooled.admin(name).await?.rows("RECONNECT").await?;
    }
    // An idle connection is tried before a client gets it when it is older than server_check_delay.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    pooled.cluster.kill_node(&first)?;
    let later = async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        pooled.all_ask(&hosts, clients).await
    };
    let (at_once, later) = tokio::join!(pooled.all_ask(&[], first_ones), later);
    let mut places = at_once?;
    for (place, clients) in later? {
        *places.entry(place).or_default() += clients;
    }
    all_at_the_next(&pooled, &first, places).await?;

    pooled.cluster.revive_node(&first).await?;
    pooled.cluster.wait_healthy(3, DEADLINE).await?;
    let pooler = pooled.pooler(&first).await?;
    pooled.poolers.push(pooler);
    pooled.all_write().await
}

#[tokio::test]
async fn a_lost_host_makes_clients_wait_for_the_next_primary() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    a_silent_host(false).await
}

#[tokio::test]
async fn so_does_one_to_which_poolers_have_no_connection() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    a_silent_host(true).await
}

/// The primary's agent is gone: PostgreSQL is fenced at the end of the lease. The pooler of that host has nobody
/// who pauses it.
#[tokio::test]
async fn a_killed_agent_makes_clients_of_other_hosts_wait_for_the_next() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let mut pooled = Pooled::start(5).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let hosts = others(&first)?;
    let clients = pooled.idle(&hosts, 6).await?;
    pooled.cluster.node_mut(&first)?.kill_agent();
    pooled.wait_paused(&hosts).await?;
    let places = pooled.all_ask(&hosts, clients).await?;
    all_at_the_next(&pooled, &first, places).await?;
    pooled.cluster.node_mut(&first)?.start()?;
    pooled.cluster.wait_healthy(3, DEADLINE).await?;
    pooled.all_write().await
}

/// PostgreSQL crashes, and does not start any more: another node leads.
#[tokio::test]
async fn a_primary_that_cannot_start_makes_clients_wait_for_the_next() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let pooled = Pooled::start(5).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let hosts = others(&first)?;
    let clients = pooled.idle(&hosts, 6).await?;
    let needed = pooled.cluster.node(&first)?.data_dir().join("pg_xact");
    let aside = needed.with_extension("aside");
    fs::rename(&needed, &aside)?;
    pooled.cluster.node(&first)?.kill_postmaster()?;
    pooled.wait_paused(&hosts).await?;
    let places = pooled.all_ask(&hosts, clients).await?;
    all_at_the_next(&pooled, &first, places).await?;
    fs::rename(&aside, &needed)?;
    pooled.cluster.wait_healthy(3, DEADLINE).await?;
    pooled.all_write().await
}

/// Nobody may lead: clients do not hang for ever.
#[tokio::test]
async fn a_cluster_that_finds_no_primary_lets_its_clients_go() -> Result<()> {
    if !is_root() {
        eprintln!("not root: nothing was tested");
        return Ok(());
    }
    let mut pooled = Pooled::start_by(2, 4, false).await?;
    let first = pooled.cluster.wait_primary(DEADLINE).await?;
    let by = other(&[&first])?;
    let hosts = [by, other(&[&first, by])?];
    let pause = json!({ "pause": true });
    let rest = Rest::with_deadline(DEADLINE)?;
    let url = pooled.cluster.node(&first)?.url("/config");
    let answer = rest.call("PATCH", &url, Some(&pause)).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    eventually("the pause of the cluster", DEADLINE, async || {
        for name in NODES {
            let answer =
                rest.call("GET", &pooled.cluster.node(name)?.url("/patroni"), None).await?;
            ensure!(answer.text.contains("\"pause\": true"), "{}", answer.text);
        }
        Ok(())
    })
    .await?;

    let clients = pooled.idle(&hosts, 3).await?;
    pooled.cluster.node_mut(&first)?.kill_all()?;
    pooled.wait_paused(&hosts).await?;
    // One client of each pooler waits on, by query_wait_timeout; PgBouncer itself lets the others go.
    let mut asking = JoinSet::new();
    for client in clients {
        asking.spawn(async move { client.value("insert into seen values ('in vain')").await });
    }
    let refused = timeout(DEADLINE, asking.join_next()).await;
    let refused = refused.context("all hang")?.context("a client")??;
    ensure!(refused.is_err(), "{refused:?}\n{}", pooled.logs());
    for name in hosts {
        let said = "PgBouncer goes on though no primary accepts: pgbouncer.max_pause is over";
        ensure!(pooled.cluster.node(name)?.log_contains(said), "{}", pooled.logs());
    }
    pooled.nothing_is_left().await?;
    drop(asking);

    let (url, go_on) = (pooled.cluster.node(by)?.url("/config"), json!({ "pause": null }));
    let answer = rest.call("PATCH", &url, Some(&go_on)).await?;
    ensure!(answer.status == 200, "the cluster stays paused: {}", answer.text);
    pooled.revive(&first).await?;
    pooled.all_write().await
}
