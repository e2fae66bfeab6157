//! Our own connections beside those of libpq: what it lets through passes, what it refuses fails.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hart_postgres::{LinkError, Role, Upstream};
use nix::sys::signal::Signal;
use rcgen::{DnType, date_time_ymd};

use crate::node::{LONG, Node, eventually, owner, sql_error};
use crate::pki::{Ca, Pair};

/// A primary that can be given certificates.
struct Server {
    node: Node,
    ca: Ca,
    good: Pair,
}

fn for_names(names: &'static [&'static str]) -> impl FnOnce(&mut rcgen::CertificateParams) {
    move |params| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        params.subject_alt_names = rcgen::CertificateParams::new(names).unwrap().subject_alt_names;
    }
}

fn for_common_name(name: &'static str) -> impl FnOnce(&mut rcgen::CertificateParams) {
    move |params| params.distinguished_name.push(DnType::CommonName, name)
}

impl Server {
    async fn new() -> Self {
        let mut node = Node::new("n1");
        let ca = Ca::new(&node.dir, "ca", owner());
        let good = ca.sign("good", for_names(&["localhost"]));
        node.change(|s| {
            s.parameters.insert("ssl".into(), "on".into());
            s.parameters.insert("ssl_cert_file".into(), good.cert.clone());
            s.parameters.insert("ssl_key_file".into(), good.key.clone());
            s.parameters.insert("ssl_ca_file".into(), ca.file.clone());
            s.pg_hba = vec!["local all all trust".into()];
        });
        node.postgres.initdb(LONG).await.unwrap();
        node.start(&Role::Primary).await;
        node.postgres.ensure_roles(LONG).await.unwrap();
        Self { node, ca, good }
    }

    async fn reload(&self) {
        self.node.postgres.write_config(&Role::Primary, LONG).await.unwrap();
        let loaded = "SELECT pg_conf_load_time()";
        let before = self.node.sql(loaded).await;
        self.node.postgres.reload(LONG).await.unwrap();
        let after = || async { (self.node.sql(loaded).await != before).then_some(()) };
        eventually("it is reloaded", after).await;
        assert_eq!(
            self.node.sql("SELECT count(*) FROM pg_file_settings WHERE error <> ''").await,
            "0"
        );
    }

    /// Lets the rewind role in by this line alone.
    async fn hba(&self, line: &str) {
        let lines = vec!["local all all trust".into(), line.to_owned()];
        self.node.change(|s| s.pg_hba = lines);
        self.reload().await;
    }

    async fn shows(&self, pair: &Pair) {
        self.node.change(|s| {
            s.parameters.insert("ssl_cert_file".into(), pair.cert.clone());
            s.parameters.insert("ssl_key_file".into(), pair.key.clone());
        });
        self.reload().await;
    }

    fn port(&self) -> u16 {
        self.node.postgres.settings().port
    }

    /// Ours.
    async fn ours(&self, host: &str, options: &[(&str, &str)]) -> Result<(), LinkError> {
        let given = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let given: BTreeMap<_, _> = given.collect();
        self.node.change(|s| s.rewind.as_mut().unwrap().conninfo = given);
        let at = Upstream { host: host.to_owned(), port: self.port() };
        let state = self.node.postgres.upstream_state(&at, LONG).await;
        state.map(drop).map_err(sql_error)
    }

    /// libpq's.
    fn theirs(&self, host: &str, options: &[(&str, &str)]) -> Result<(), String> {
        let mut conninfo =
            format!("host={host} port={} user=rewinder dbname=postgres", self.port());
        for (name, value) in options {
            conninfo.push_str(&format!(" {name}={value}"));
        }
        let mut command = Command::new("psql");
        command.args(["-XAtc", "SELECT 1", &conninfo]).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", "/nonexistent").env("PGPASSWORD", "rewind-secret");
        let output = command.output().expect("psql is installed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(said)
    }

    /// Both, which must agree; what we say where both fail.
    async fn both(&self, host: &str, options: &[(&str, &str)]) -> Option<LinkError> {
        let (ours, theirs) = (self.ours(host, options).await, self.theirs(host, options));
        assert_eq!(
            ours.is_ok(),
            theirs.is_ok(),
            "{host} {options:?}: ours {ours:?}; libpq's {theirs:?}\n{}",
            self.node.log()
        );
        ours.err()
    }

    async fn good(&self, host: &str, options: &[(&str, &str)]) {
        let error = self.both(host, options).await;
        assert!(error.is_none(), "{host} {options:?}: {error:?}");
    }

    /// Fails, and says these words.
    async fn bad(&self, host: &str, options: &[(&str, &str)], words: &[&str]) -> LinkError {
        let error = self.both(host, options).await;
        let error = error.unwrap_or_else(|| panic!("{host} {options:?} was let in"));
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let text = format!("{error}: {}", source.unwrap_or_default());
        assert!(!text.contains("rewind-secret") && !format!("{error:?}").contains("rewind-secret"));
        for word in words {
            assert!(text.contains(word), "{host} {options:?}: no {word:?} in: {text}");
        }
        error
    }
}

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[tokio::test]
async fn each_sslmode_gets_in_where_libpq_does() {
    let server = Server::new().await;
    let root = server.ca.file.clone();
    server.hba("hostssl all rewinder all scram-sha-256").await;
    let said = server.bad("localhost", &[("sslmode", "disable")], &["sslmode: require"]).await;
    assert!(matches!(said, LinkError::AuthFailed { .. }), "{said:?}");
    for mode in &MODES[1..4] {
        server.good("127.0.0.1", &[("sslmode", mode)]).await;
    }
    server.good("127.0.0.1", &[]).await;
    for mode in ["verify-ca", "verify-full"] {
        server.good("localhost", &[("sslmode", mode), ("sslrootcert", &root)]).await;
        server.bad("localhost", &[("sslmode", mode)], &["sslrootcert", "root.crt"]).await;
    }
    server.good("127.0.0.1", &[("sslmode", "verify-ca"), ("sslrootcert", &root)]).await;
    let full = [("sslmode", "verify-full"), ("sslrootcert", root.as_str())];
    server.bad("127.0.0.1", &full, &["not for \"127.0.0.1\"", "subjectAltName"]).await;

    server.hba("hostnossl all rewinder all scram-sha-256").await;
    for mode in &MODES[..3] {
        server.good("localhost", &[("sslmode", mode)]).await;
    }
    server.bad("localhost", &[("sslmode", "require")], &["SSL"]).await;
    server.bad("localhost", &full, &[]).await;

    // Both ways are open; the strong modes must not take the weak one.
    server.hba("host all rewinder all scram-sha-256").await;
    server.node.change(|s| drop(s.parameters.insert("ssl".into(), "off".into())));
    server.reload().await;
    for mode in &MODES[..3] {
        server.good("localhost", &[("sslmode", mode)]).await;
    }
    for mode in &MODES[3..] {
        let options = [("sslmode", *mode), ("sslrootcert", root.as_str())];
        server.bad("localhost", &options, &["does not speak TLS"]).await;
    }
}

#[tokio::test]
async fn a_servers_certificate_is_judged_as_by_libpq() {
    let server = Server::new().await;
    server.hba("hostssl all rewinder all scram-sha-256").await;
    let root = server.ca.file.clone();
    let other = Ca::new(&server.node.dir, "other", owner()).file;
    for mode in ["require", "verify-ca", "verify-full"] {
        let options = [("sslmode", mode), ("sslrootcert", other.as_str())];
        server.bad("localhost", &options, &["not signed by a CA in", &other]).await;
    }
    // A weak mode would go on without TLS, which the server refuses; the first reason is told.
    let options = [("sslmode", "prefer"), ("sslrootcert", other.as_str())];
    server.bad("localhost", &options, &["not signed by a CA in"]).await;
    let options = [("sslmode", "require"), ("sslrootcert", "/nonexistent/ca.crt")];
    server.good("localhost", &options).await;
    let options = [("sslmode", "verify-ca"), ("sslrootcert", "/nonexistent/ca.crt")];
    server.bad("localhost", &options, &["there is no /nonexistent/ca.crt", "sslrootcert"]).await;
    let nonsense = server.node.dir.join("nonsense.crt").display().to_string();
    fs::write(&nonsense, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    let options = [("sslmode", "verify-ca"), ("sslrootcert", nonsense.as_str())];
    server.bad("localhost", &options, &[&nonsense, "no certificate in PEM"]).await;

    let full = [("sslmode", "verify-full"), ("sslrootcert", root.as_str())];
    server
        .shows(&server.ca.sign("expired", |params| {
            for_names(&["localhost"])(params);
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }))
        .await;
    server.bad("localhost", &full, &["expired at 2020-01-01"]).await;
    server.good("localhost", &[("sslmode", "require")]).await;

    // What PostgreSQL's documentation has people make.
    server.shows(&server.ca.sign("common", for_common_name("localhost"))).await;
    server.good("localhost", &full).await;
    server.bad("127.0.0.1", &full, &["not for \"127.0.0.1\""]).await;
    server.shows(&server.ca.sign("address", for_names(&["127.0.0.1"]))).await;
    server.good("127.0.0.1", &full).await;
    server.bad("localhost", &full, &["not for \"localhost\""]).await;
    server.shows(&server.ca.sign_as_documented("version1", "localhost")).await;
    server.good("localhost", &full).await;
    server.good("localhost", &[("sslmode", "require")]).await;
    let options = [("sslmode", "verify-ca"), ("sslrootcert", other.as_str())];
    server.bad("localhost", &options, &["not signed by a CA in", &other]).await;
    server.node.change(|s| {
        s.parameters.insert("ssl_max_protocol_version".into(), "TLSv1.2".into());
    });
    server.reload().await;
    server.good("localhost", &full).await;
    let alone = server.ca.alone("alone", for_common_name("localhost"));
    server.shows(&alone).await;
    let options = [("sslmode", "verify-full"), ("sslrootcert", alone.cert.as_str())];
    server.good("localhost", &options).await;
    server.bad("localhost", &full, &["not signed by a CA in"]).await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let server = Server::new().await;
    server.hba("hostssl all rewinder all scram-sha-256").await;
    let root = server.ca.file.clone();
    let nothing = server.ca.revoke("nothing.crl", &[]);
    let this = server.ca.revoke("this.crl", &[server.good.serial]);
    let with = |list: &str, value: &str| {
        let options = [("sslmode", "verify-full"), ("sslrootcert", &root), (list, value)];
        options.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let borrowed = |options: &[(String, String); 3]| {
        let pairs: Vec<(String, String)> = options.to_vec();
        pairs
    };
    for (list, good) in [(&nothing, true), (&this, false)] {
        let options = borrowed(&with("sslcrl", list));
        let options: Vec<(&str, &str)> =
            options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if good {
            server.good("localhost", &options).await;
        } else {
            server.bad("localhost", &options, &["revoked"]).await;
        }
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_is_shown() {
    let server = Server::new().await;
    let role = server.ca.sign("rewinder", for_common_name("rewinder"));
    server.hba("hostssl all rewinder all cert").await;
    let with = |cert: &str, key: &str| {
        let options = [("sslmode", "require"), ("sslcert", cert), ("sslkey", key)];
        options.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let list = |options: &[(String, String); 3]| -> Vec<(String, String)> { options.to_vec() };
    let tried = async |cert: &str, key: &str, words: &[&str]| {
        let options = list(&with(cert, key));
        let options: Vec<(&str, &str)> =
            options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if words.is_empty() {
            server.good("localhost", &options).await;
        } else {
            server.bad("localhost", &options, words).await;
        }
    };
    tried(&role.cert, &role.key, &[]).await;
    server.bad("localhost", &[("sslmode", "require")], &["client certificate", "sslcert"]).await;
    tried(&role.cert, &server.good.key, &[&role.cert, "belong together"]).await;
    tried(&role.cert, "/nonexistent.key", &["cannot read /nonexistent.key"]).await;
    tried("/nonexistent.crt", &role.key, &["cannot read /nonexistent.crt"]).await;
    let stranger = Ca::new(&server.node.dir, "stranger", owner());
    let stranger = stranger.sign("unknown", for_common_name("rewinder"));
    tried(&stranger.cert, &stranger.key, &["refuses", &stranger.cert]).await;
    fs::set_permissions(&role.key, fs::Permissions::from_mode(0o644)).unwrap();
    tried(&role.cert, &role.key, &[&role.key, "chmod"]).await;
}

#[tokio::test]
async fn passwords_are_sent_only_where_they_may_be() {
    let server = Server::new().await;
    let root = server.ca.file.clone();
    server.hba("host all rewinder all scram-sha-256").await;
    let bound = ("channel_binding", "require");
    server.good("localhost", &[("sslmode", "require"), bound]).await;
    server.bad("localhost", &[("sslmode", "disable"), bound], &["channel binding"]).await;
    server.good("localhost", &[("sslmode", "verify-full"), ("sslrootcert", &root)]).await;
    // From here on libpq 15 knows less than we do.
    let scram = ("require_auth", "scram-sha-256");
    server.ours("localhost", &[scram]).await.unwrap();
    let refused = |result: Result<(), LinkError>| match result {
        Err(LinkError::Distrust { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    server.hba("host all rewinder all password").await;
    let why = refused(server.ours("localhost", &[("sslmode", "disable")]).await);
    assert!(why.contains("clear text") && why.contains("sslmode"), "{why}");
    server.ours("localhost", &[("sslmode", "require")]).await.unwrap();
    server
        .ours("localhost", &[("sslmode", "disable"), ("require_auth", "password")])
        .await
        .unwrap();
    refused(server.ours("localhost", &[("sslmode", "require"), scram]).await);
    server.hba("host all rewinder all trust").await;
    refused(server.ours("localhost", &[scram]).await);
}

/// A name of a mode that was never there, a database that is missing: the server is up, and says so.
#[tokio::test]
async fn other_refusals_are_told_as_what_they_are() {
    let server = Server::new().await;
    server.hba("host all rewinder all scram-sha-256").await;
    server.node.sql("ALTER DATABASE postgres CONNECTION LIMIT 0").await;
    let said = server.bad("localhost", &[], &["does not let user \"rewinder\" in"]).await;
    assert!(said.proves_alive() && said.is_refusal(), "{said:?}");
    let nobody = server.ours("name.invalid", &[]).await.unwrap_err();
    assert!(matches!(nobody, LinkError::Unreachable { .. }), "{nobody:?}");
    assert!(nobody.to_string().contains("name.invalid"), "{nobody}");
}

/// A server without any socket, and one whose sockets are beside its data directory.
#[tokio::test]
async fn a_server_without_a_socket_is_reached_by_tcp_and_tls() {
    let mut server = Server::new().await;
    server.node.stop(Signal::SIGINT).await;
    server.node.change(|s| {
        s.socket_dir = None;
        s.pg_hba = vec!["hostssl all all 127.0.0.1/32 scram-sha-256".into()];
        // The certificate is not for 127.0.0.1, but for the name that others use.
        s.connect_host = Some("localhost".into());
        let conninfo = &mut s.superuser.conninfo;
        conninfo.insert("sslmode".into(), "verify-full".into());
        conninfo.insert("sslrootcert".into(), server.ca.file.clone());
    });
    server.node.start(&Role::Primary).await;
    assert_eq!(server.node.sql("SHOW unix_socket_directories").await, "");
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(server.node.sql(encrypted).await, "t");
    server.node.postgres.ping(LONG).await.unwrap();
    // Encrypted as it is, a statement that takes too long is cancelled.
    let short = std::time::Duration::from_millis(100);
    let late = server.node.postgres.query("SELECT pg_sleep(600)", short).await;
    assert!(matches!(late, Err(LinkError::Timeout { .. })), "{late:?}");
    let still = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    eventually("it is cancelled", || async { (server.node.sql(still).await == "0").then_some(()) })
        .await;
}

/// A process of somebody else in the place of PostgreSQL's socket.
#[tokio::test]
async fn nothing_is_said_to_a_socket_of_another_user() {
    if owner().is_none() {
        return;
    }
    let node = Node::new("n1");
    node.change(|s| s.listen_addresses = String::new());
    let socket = node.postgres.settings().socket().unwrap();
    fs::set_permissions(&node.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let program = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5) \
                   or die; while (my $c = $s->accept) { sysread($c, my $b, 9) or next; print \"HEARD\\n\" }";
    let mut command = Command::new("perl");
    command.args(["-e", program]).arg(&socket).stdout(std::process::Stdio::piped());
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    let mut stranger = command.spawn().unwrap();
    // The file is there with bind(2), and refuses until listen(2).
    let listens = || async { std::os::unix::net::UnixStream::connect(&socket).ok() };
    drop(eventually("somebody listens", listens).await);
    let error = node.postgres.probe(LONG).await.unwrap_err();
    let pinged = node.postgres.ping(LONG).await.unwrap_err();
    stranger.kill().unwrap();
    let heard = std::io::read_to_string(stranger.stdout.take().unwrap()).unwrap();
    stranger.wait().unwrap();
    assert!(matches!(error, LinkError::Stranger { uid: 65534, .. }), "{error:?}");
    assert!(matches!(pinged, LinkError::Stranger { .. }) && !pinged.proves_alive(), "{pinged:?}");
    assert_eq!(heard, "", "something was sent to it");
}
