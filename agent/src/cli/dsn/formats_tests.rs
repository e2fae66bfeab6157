use std::time::Duration;

use super::*;

fn dsn(role: RoleFilter) -> Dsn {
    let hosts = vec![("10.0.0.1".to_owned(), 5432), ("fd00::2".to_owned(), 5433)];
    let unread = Unread::Lease(Duration::from_secs(3));
    Dsn { hosts, role, dbname: "app".into(), username: Some("me".into()), libpq: 14, unread }
}

#[test]
fn a_server_that_reads_nothing_is_given_up_when_there_may_be_another_or_never() {
    let render = |unread, format| Dsn { unread, ..dsn(RoleFilter::Primary) }.render(format);
    let lease = |seconds| Unread::Lease(Duration::from_secs(seconds));
    for (unread, libpq, tokio) in [
        (lease(3), " tcp_user_timeout=5000", " tcp_user_timeout=5"),
        (lease(6), " tcp_user_timeout=6000", " tcp_user_timeout=6"),
        (lease(30), " tcp_user_timeout=30000", " tcp_user_timeout=30"),
        (Unread::Revoked(Duration::from_secs(1)), " tcp_user_timeout=1500", " tcp_user_timeout=2"),
        (Unread::Kernel, "_count=2", "_retries=2"),
    ] {
        let strings = [DsnFormat::Libpq, DsnFormat::TokioPostgres].map(|f| render(unread, f));
        assert!(strings[0].ends_with(libpq), "{strings:?}");
        assert!(strings[1].ends_with(tokio), "{strings:?}");
    }
}

#[test]
fn primary_strings_are_exact() {
    let table = [
        (
            DsnFormat::Libpq,
            "host=10.0.0.1,fd00::2 port=5432,5433 dbname=app user=me \
             target_session_attrs=read-write connect_timeout=2 keepalives=1 keepalives_idle=5 \
             keepalives_interval=1 keepalives_count=2 tcp_user_timeout=5000",
        ),
        (
            DsnFormat::Uri,
            "postgresql://me@10.0.0.1:5432,[fd00::2]:5433/app?target_session_attrs=read-write\
             &connect_timeout=2&keepalives=1&keepalives_idle=5&keepalives_interval=1\
             &keepalives_count=2&tcp_user_timeout=5000",
        ),
        (
            DsnFormat::Jdbc,
            "jdbc:postgresql://10.0.0.1:5432,[fd00::2]:5433/app?targetServerType=primary\
             &connectTimeout=2&tcpKeepAlive=true&hostRecheckSeconds=1&user=me",
        ),
        (
            DsnFormat::Pgx,
            "postgres://me@10.0.0.1:5432,[fd00::2]:5433/app?target_session_attrs=read-write\
             &connect_timeout=2",
        ),
        (
            DsnFormat::TokioPostgres,
            "host=10.0.0.1,fd00::2 port=5432,5433 dbname=app user=me \
             target_session_attrs=read-write connect_timeout=2 keepalives=1 keepalives_idle=5 \
             keepalives_interval=1 keepalives_retries=2 tcp_user_timeout=5",
        ),
        (
            DsnFormat::Dotnet,
            "Host=10.0.0.1:5432,[fd00::2]:5433;Database=app;Username=me;\
             Target Session Attributes=read-write;Timeout=2;Tcp Keepalive=true;\
             Tcp Keepalive Time=5;Tcp Keepalive Interval=1;Host Recheck Seconds=1",
        ),
    ];
    for (format, expected) in table {
        assert_eq!(dsn(RoleFilter::Primary).render(format), expected, "{format:?}");
    }
    let uri = dsn(RoleFilter::Primary).render(DsnFormat::Uri);
    assert_eq!(dsn(RoleFilter::Primary).render(DsnFormat::Psycopg), uri);
}

#[test]
fn replica_strings_spread_the_load_where_the_driver_can() {
    let render = |format, libpq| Dsn { libpq, ..dsn(RoleFilter::Replica) }.render(format);
    let libpq14 = render(DsnFormat::Libpq, 14);
    assert!(libpq14.contains("target_session_attrs=standby") && !libpq14.contains("load_balance"));
    assert!(render(DsnFormat::Libpq, 16).ends_with(" load_balance_hosts=random"));
    assert!(render(DsnFormat::Libpq, 13).contains("target_session_attrs=any"));
    assert!(render(DsnFormat::Jdbc, 14).contains("targetServerType=secondary"));
    assert!(render(DsnFormat::Jdbc, 14).contains("&loadBalanceHosts=true"));
    assert!(render(DsnFormat::Pgx, 14).ends_with("target_session_attrs=standby&connect_timeout=2"));
    assert!(render(DsnFormat::Dotnet, 14).ends_with(";Load Balance Hosts=true"));
}

#[test]
fn tokio_postgres_reads_its_own() {
    use tokio_postgres::config::{LoadBalanceHosts, TargetSessionAttrs};
    let read = |role| -> tokio_postgres::Config {
        dsn(role).render(DsnFormat::TokioPostgres).parse().unwrap()
    };
    let primary = read(RoleFilter::Primary);
    assert_eq!(primary.get_ports(), [5432, 5433]);
    assert_eq!(primary.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(primary.get_tcp_user_timeout().unwrap().as_secs(), 5);
    let replica = read(RoleFilter::Replica);
    assert_eq!(replica.get_target_session_attrs(), TargetSessionAttrs::ReadOnly);
    assert_eq!(replica.get_load_balance_hosts(), LoadBalanceHosts::Random);
}

#[test]
fn odd_names_are_quoted() {
    let odd =
        Dsn { dbname: "my 'app'".into(), username: Some("a@b;c".into()), ..dsn(RoleFilter::Any) };
    assert!(odd.render(DsnFormat::Libpq).contains(r"dbname='my \'app\'' user=a@b;c"));
    assert!(odd.render(DsnFormat::Uri).starts_with("postgresql://a%40b%3Bc@"));
    assert!(odd.render(DsnFormat::Uri).contains("/my%20%27app%27?"));
    assert!(odd.render(DsnFormat::Dotnet).contains(";Username=\"a@b;c\";"));
    let nobody = Dsn { username: None, ..dsn(RoleFilter::Any) };
    assert!(nobody.render(DsnFormat::Uri).starts_with("postgresql://10.0.0.1:5432,"));
}

#[test]
fn postgres_js_has_words_of_its_own() {
    let four = vec![("10.0.0.1".to_owned(), 5432), ("db2".to_owned(), 5433)];
    let render = |role| Dsn { hosts: four.clone(), ..dsn(role) }.render(DsnFormat::PostgresJs);
    let six = "postgres({ host: [\"10.0.0.1\", \"fd00::2\"], port: [5432, 5433], database: \"app\", \
               username: \"me\", target_session_attrs: \"primary\", connect_timeout: 2, keep_alive: 5 })";
    assert_eq!(dsn(RoleFilter::Primary).render(DsnFormat::PostgresJs), six);
    let hosts = "postgres://me@10.0.0.1:5432,db2:5433/app";
    let primary = format!("{hosts}?target_session_attrs=primary&connect_timeout=2&keep_alive=5");
    assert_eq!(render(RoleFilter::Primary), primary);
    assert!(render(RoleFilter::Replica).contains("?target_session_attrs=standby&"));
    assert!(!render(RoleFilter::Any).contains("target_session_attrs"));
}

#[test]
fn a_driver_that_knows_one_host_gets_a_function() {
    let mut odd = dsn(RoleFilter::Primary);
    (odd.dbname, odd.username) = ("a\"b\\".into(), Some("O'Neil".into()));
    let js = odd.render(DsnFormat::NodePostgres);
    assert!(js.contains("[[\"10.0.0.1\", 5432], [\"fd00::2\", 5433]]"), "{js}");
    assert!(js.contains(r#"database: "a\"b\\", user: "O'Neil","#), "{js}");
    assert!(js.contains("if (!rows[0].standby)") && !js.contains("sort("), "{js}");
    let python = odd.render(DsnFormat::Asyncpg);
    assert!(python.contains("[(\"10.0.0.1\", 5432), (\"fd00::2\", 5433)]"), "{python}");
    assert!(python.contains(r#"user="O'Neil", database="a\"b\\","#), "{python}");
    assert!(python.contains("target_session_attrs=\"primary\"") && !python.contains("random"));
    let spread = |format| dsn(RoleFilter::Replica).render(format);
    assert!(spread(DsnFormat::NodePostgres).contains("if (rows[0].standby)"));
    assert!(spread(DsnFormat::NodePostgres).contains("sort(() => Math.random() - 0.5)"));
    assert!(spread(DsnFormat::Asyncpg).contains("random.sample(HOSTS, len(HOSTS))"));
}
