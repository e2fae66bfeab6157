//! The built-in templates, rendered and, where the program is here, read by it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use super::{Catalogue, Model, RenderError, Target, Template, render};
use crate::template::model::MemberModel;

fn member(name: &str, host: &str, leads: bool) -> MemberModel {
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    MemberModel {
        name: name.to_owned(),
        host: host.to_owned(),
        port: 5432,
        address: format!("{bracketed}:5432"),
        api_host: host.to_owned(),
        api_port: 8008,
        api_address: format!("{bracketed}:8008"),
        role: if leads { "primary" } else { "replica" },
        state: "running",
        leads,
        timeline: 3,
        ..MemberModel::default()
    }
}

/// Three members, one of them with an IPv6 address and an odd name.
fn cluster() -> Model {
    let members = vec![
        member("n1", "10.0.0.1", true),
        member("n 2;x", "fd00::2", false),
        member("n3", "c.db", false),
    ];
    Model {
        primary: Some(members[0].clone()),
        replicas: members[1..].to_vec(),
        members,
        ..Model::without_cluster("ha", "service")
    }
}

/// Nobody but the primary.
fn alone() -> Model {
    let all = cluster();
    Model { members: all.members[..1].to_vec(), replicas: Vec::new(), ..all }
}

fn template(name: &str) -> Template {
    Catalogue::default().all().unwrap().into_iter().find(|t| t.name == name).unwrap()
}

fn own(text: &str) -> Template {
    let header = super::header::Header::read(text);
    let text = text.to_owned().into();
    Template { name: "own".into(), file: "own.j2".into(), from: None, text, header }
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What some templates cannot do without.
fn needed(name: &str) -> BTreeMap<String, String> {
    match name {
        "vip" | "keepalived" => set(&[("address", "10.0.0.100/24")]),
        _ => set(&[]),
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("hart-template-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program over a file; what it says where it does not like it. `None` without the program.
fn complaint(program: &str, args: &[&str]) -> Option<Result<(), String>> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{program} is not installed: not checked");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // keepalived 2.2 ends a successful look at a file with scripts by sending itself SIGTERM.
    let by_itself = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(15);
    let fits = output.status.success() || by_itself && said.is_empty();
    Some(if fits { Ok(()) } else { Err(said) })
}

#[test]
fn every_template_renders_with_and_without_members() {
    for template in Catalogue::default().all().unwrap() {
        assert!(!template.header.about.is_empty(), "{}", template.name);
        for model in [cluster(), alone(), Model::without_cluster("ha", "")] {
            let text = render(&template, &model, &needed(&template.name)).unwrap();
            // Those for DNS know a zone, and not what is in it.
            let names_it = template.name.starts_with("dns-") || text.contains("ha");
            assert!(names_it, "{}", template.name);
            assert!(!text.contains("{#") && text.ends_with('\n'), "{text}");
        }
        for setting in &template.header.settings {
            let used = template.text.matches(setting.name.as_str()).count();
            assert!(used > 1, "{}: {} is not used", template.name, setting.name);
        }
    }
}

#[test]
fn haproxy_reads_what_is_rendered() {
    let dir = Dir::new("haproxy");
    for name in ["haproxy", "haproxy-dns"] {
        for (at, model) in [cluster(), alone(), Model::without_cluster("ha", "")].iter().enumerate()
        {
            let mut model = model.clone();
            // A name would be looked up.
            model.members.retain(|member| member.name != "n3");
            let text = render(&template(name), &model, &set(&[])).unwrap();
            let file = dir.file(&format!("{name}-{at}.cfg"), &text);
            if let Some(Err(said)) = complaint("haproxy", &["-c", "-f", file.to_str().unwrap()]) {
                panic!("{name} {at}: {said}\n{text}");
            }
        }
    }
}

/// `TCP_USER_TIMEOUT` counts with who is alive and reads nothing for a while, and lengthens keepalive.
#[test]
fn haproxy_cuts_nobody_off_who_takes_his_time() {
    for name in ["haproxy", "haproxy-dns"] {
        let text = render(&template(name), &cluster(), &set(&[])).unwrap();
        let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let found: Vec<_> = settings.filter(|line| line.contains("tcp-ut")).collect();
        assert_eq!(found, [""; 0], "{name}");
    }
}

#[test]
fn haproxy_has_two_ports_and_cuts_sessions() {
    let text = render(&template("haproxy"), &cluster(), &set(&[("ro_port", "6434")])).unwrap();
    for line in [
        "    bind *:5433\n",
        "    bind *:6434\n",
        "    server n1 10.0.0.1:5432 check addr 10.0.0.1 port 8008\n",
        "    server n_202_3bx [fd00::2]:5432 check addr [fd00::2] port 8008\n",
        "    http-check send meth OPTIONS uri /primary\n",
        "on-marked-down shutdown-sessions",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// What listens on loopback answers with this, after `hear` has been read.
fn answers(text: &str, hear: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = text.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (text, mut heard) = (text.clone(), vec![0; hear]);
            std::thread::spawn(move || {
                let Ok(mut stream) = stream else { return };
                if stream.read(&mut heard).is_ok() {
                    let _ = stream.write_all(text.as_bytes());
                }
            });
        }
    });
    port
}

/// n2 leads. The first that a client hears is a name.
fn on_loopback() -> Model {
    let mut model = cluster();
    for (member, name) in model.members.iter_mut().zip(["n1", "n2", "n3"]) {
        let word = if name == "n2" { "200 OK" } else { "503 No" };
        let said = format!("HTTP/1.0 {word}\r\nContent-Length: 0\r\n\r\n");
        *member = MemberModel {
            address: format!("127.0.0.1:{}", answers(name, 8)),
            api_port: answers(&said, 1000),
            ..self::member(name, "127.0.0.1", name == "n2")
        };
    }
    model
}

/// Each server of HAProxy counts as up until its first check.
#[test]
fn a_client_that_writes_gets_no_replica_right_after_the_start_of_haproxy() {
    let dir = Dir::new("haproxy-start");
    let free =
        || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (write, read, stats) = (free(), free(), format!("127.0.0.1:{}", free()));
    let socket = dir.file("socket", "").with_extension("sock").display().to_string();
    let settings = set(&[
        ("bind", "127.0.0.1"),
        ("rw_port", &write),
        ("ro_port", &read),
        ("stats", &stats),
        ("socket", &socket),
        ("hold", "3s"),
    ]);
    let text = render(&template("haproxy"), &on_loopback(), &settings).unwrap();
    let text = text.replace("    user haproxy\n    group haproxy\n", "");
    let file = dir.file("haproxy.cfg", &text);
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", file.to_str().unwrap()]).stderr(std::process::Stdio::null());
    let Ok(mut haproxy) = command.spawn() else { return };
    let ask = move |write: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{write}")).ok()?;
        stream.write_all(b"startup!").ok()?;
        let mut said = [0; 2];
        stream.read_exact(&mut said).ok()?;
        Some(String::from_utf8_lossy(&said).into_owned())
    };
    let deadline = hart_clock::now() + std::time::Duration::from_secs(30);
    let accepts = || TcpStream::connect(format!("127.0.0.1:{write}")).is_ok();
    while !accepts() && hart_clock::now() < deadline {
        std::thread::yield_now();
    }
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let write = write.clone();
            std::thread::spawn(move || ask(&write))
        })
        .collect();
    let heard: Vec<_> = asked.into_iter().map(|asked| asked.join().unwrap()).collect();
    haproxy.kill().unwrap();
    haproxy.wait().unwrap();
    assert_eq!(heard, vec![Some("n2".to_owned()); 20]);
}

#[test]
fn keepalived_reads_what_is_rendered() {
    let dir = Dir::new("keepalived");
    let interfaces = std::fs::read_dir("/sys/class/net").unwrap();
    let names = interfaces.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let Some(interface) = names.into_iter().find(|name| name.starts_with('e')) else {
        eprintln!("no Ethernet interface here: not checked");
        return;
    };
    let with = set(&[("address", "10.0.0.100/24"), ("node", "n1"), ("interface", &interface)]);
    let mut model = cluster();
    model.members.retain(|member| member.name != "n3" && member.name != "n 2;x");
    model.members.push(member("n4", "10.0.0.4", false));
    let text = render(&template("keepalived"), &model, &with).unwrap();
    let file = dir.file("keepalived.conf", &text);
    if let Some(Err(said)) = complaint("keepalived", &["-t", "-f", file.to_str().unwrap()]) {
        panic!("{said}\n{text}");
    }
    assert!(text.contains("        10.0.0.4\n") && !text.contains("        10.0.0.1\n"), "{text}");
}

#[test]
fn consul_reads_what_is_rendered() {
    let dir = Dir::new("consul");
    let text = render(&template("consul-agent"), &cluster(), &set(&[])).unwrap();
    let text = format!("{text}\ndata_dir = \"{}\"\n", dir.0.display());
    let file = dir.file("agent.hcl", &text);
    if let Some(Err(said)) = complaint("consul", &["validate", file.to_str().unwrap()]) {
        panic!("{said}\n{text}");
    }
    let policy = render(&template("consul-policy"), &cluster(), &set(&[])).unwrap();
    assert!(policy.contains("key_prefix \"service/ha/\" {"), "{policy}");
    assert!(policy.contains("service \"ha\" {"), "{policy}");
    assert!(policy.contains("session_prefix \"\" {"), "{policy}");
    let policy =
        render(&template("consul-policy"), &cluster(), &set(&[("nodes", "db-1, db-2")])).unwrap();
    assert!(policy.contains("session \"db-2\" {") && !policy.contains("_prefix \"\""), "{policy}");
}

#[test]
fn systemd_reads_what_is_rendered() {
    let dir = Dir::new("systemd");
    let text = render(&template("systemd"), &cluster(), &set(&[("program", "/bin/true")])).unwrap();
    let file = dir.file("hart.service", &text);
    let verify = complaint("systemd-analyze", &["verify", "--man=no", file.to_str().unwrap()]);
    if let Some(Err(said)) = verify {
        // It also speaks of other units of this machine.
        assert!(!said.contains("hart.service:"), "{said}\n{text}");
    }
    assert!(text.contains("ExecStart=/bin/true agent /etc/hart/hart.yml --user postgres\n"));
}

#[test]
fn pgbouncer_goes_where_the_primary_is() {
    let database = |model: &Model, with: &[(&str, &str)]| {
        let text = render(&template("pgbouncer"), model, &set(with)).unwrap();
        text.lines().find(|line| line.starts_with("* =")).unwrap().to_owned()
    };
    assert_eq!(database(&cluster(), &[]), "* = host=10.0.0.1 port=5432");
    assert_eq!(database(&cluster(), &[("host", "127.0.0.1")]), "* = host=127.0.0.1 port=5433");
    let nobody = Model::without_cluster("ha", "service");
    assert_eq!(database(&nobody, &[]), "* = host=127.0.0.1 port=1");
}

#[test]
fn pgbouncers_databases_are_led_to_the_primary() {
    let databases = |model: &Model, with: &[(&str, &str)]| {
        let text = render(&template("pgbouncer-databases"), model, &set(with)).unwrap();
        let lines = text.lines().skip_while(|line| *line != "[databases]").skip(1);
        lines.filter(|line| !line.starts_with(';')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(databases(&cluster(), &[]), ["* = host=10.0.0.1 port=5432"]);
    let two = databases(&cluster(), &[("databases", "app,my-\"db\"")]);
    let expected =
        ["\"app\" = host=10.0.0.1 port=5432", "\"my-\"\"db\"\"\" = host=10.0.0.1 port=5432"];
    assert_eq!(two, expected);
    assert_eq!(databases(&cluster(), &[("databases", "7")])[0], "\"7\" = host=10.0.0.1 port=5432");
    let nobody = Model::without_cluster("ha", "service");
    assert_eq!(databases(&nobody, &[]), ["* = host=127.0.0.1 port=1"]);
    let with = set(&[("databases_file", "/d/databases.ini")]);
    let text = render(&template("pgbouncer"), &cluster(), &with).unwrap();
    assert!(text.contains("\n%include /d/databases.ini\n"), "{text}");
    assert!(!text.contains("[databases]"), "{text}");
}

#[test]
fn an_unknown_variable_is_named_with_its_line() {
    let error =
        render(&own("a\n{% if scope %}\n{{ no_such }}\n{% endif %}\n"), &cluster(), &set(&[]));
    let what = "unknown variable \"no_such\"".to_owned();
    assert_eq!(error, Err(RenderError::Template { file: "own.j2".into(), line: 3, what }));
    let error =
        render(&own("\n{{ primary.hots }}\n"), &cluster(), &set(&[])).unwrap_err().to_string();
    assert_eq!(error, "own.j2:2: something in this line is not there: {{ primary.hots }}");
    let error = render(&own("{% if %}"), &cluster(), &set(&[])).unwrap_err().to_string();
    assert!(error.starts_with("own.j2:1: "), "{error}");
    let error =
        render(&own("{{ fail('give x') }}"), &cluster(), &set(&[])).unwrap_err().to_string();
    assert_eq!(error, "own.j2:1: give x");
}

#[test]
fn only_variables_of_the_template_can_be_set() {
    let error = render(&template("vip"), &cluster(), &set(&[("adress", "x")])).unwrap_err();
    let text =
        "template vip has no variable \"adress\"; it has address, replica_address, interface";
    assert_eq!(error.to_string(), text);
    // One of the user's own need not list them.
    let text = render(&own("{{ mine }}"), &cluster(), &set(&[("mine", "7")])).unwrap();
    assert_eq!(text, "7");
}

#[test]
fn haproxy_checks_agents_that_speak_https_over_tls() {
    let mut model = cluster();
    model.members[0].api_tls = true;
    let checks = |given: &[(&str, &str)]| -> Vec<String> {
        let text = render(&template("haproxy"), &model, &set(given)).unwrap();
        let checks = text.lines().filter_map(|line| line.split_once(" port ")?.1.split_once(' '));
        checks.map(|(_, tls)| tls.to_owned()).collect()
    };
    let wanted = "check-ssl verify required ca-file /ca.crt";
    assert_eq!(checks(&[("ca_file", "/ca.crt")]), [wanted, wanted], "one member, in both backends");
    let both = format!("{wanted} crt /check.pem");
    assert_eq!(checks(&[("ca_file", "/ca.crt"), ("crt", "/check.pem")]), [&*both, &*both]);

    let given = set(&[("check_tls", "check-ssl verify none")]);
    let text = render(&template("haproxy-dns"), &cluster(), &given).unwrap();
    assert!(text.contains("check port 8008 check-ssl verify none resolvers hart"), "{text}");
    let text = render(&template("haproxy-dns"), &cluster(), &set(&[])).unwrap();
    assert!(text.contains("check port 8008 resolvers hart"), "{text}");
}

#[test]
fn a_value_cannot_break_out_of_its_line() {
    let mut model = cluster();
    model.members[0].name = "n1\n    server evil 6.6.6.6:1".into();
    let error = render(&own("{{ members[0].name }}"), &model, &set(&[])).unwrap_err().to_string();
    assert!(error.starts_with("own.j2:1: the value"), "{error}");
    let text = render(&template("haproxy"), &model, &set(&[])).unwrap();
    assert!(text.contains("server n1_0a_20_20_20_20server_20evil_206.6.6.6_3a1 "), "{text}");
}

#[test]
fn the_users_directory_goes_first() {
    let dir = Dir::new("own");
    dir.file("haproxy.cfg", "{# about: mine #}\nmine\n");
    dir.file("mine.conf", "hello {{ scope }}\n");
    dir.file(".hidden", "{{");
    let all = Catalogue { dir: Some(dir.0.clone()) }.all().unwrap();
    let names: Vec<_> = all.iter().map(|template| template.name.as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"haproxy"), Some(&"mine")));
    assert_eq!(all[0].header.about, "mine");
    assert_eq!(render(all.last().unwrap(), &cluster(), &set(&[])).unwrap(), "hello ha\n");
    let missing = Catalogue { dir: Some(dir.0.join("no")) }.all().unwrap_err().to_string();
    assert!(missing.contains("/no: "), "{missing}");
}

#[test]
fn a_file_is_replaced_only_on_change_and_put_back() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = Dir::new("file");
    let path = dir.file("x.cfg", "old");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let target = Target::new(&path);
    assert!(target.replace("old").unwrap().is_none());
    let former = target.replace("new").unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    target.restore(&former).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    let fresh = Target::new(&dir.0.join("fresh"));
    let former = fresh.replace("new").unwrap().unwrap();
    fresh.restore(&former).unwrap();
    assert!(!dir.0.join("fresh").exists());
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1, "nothing is left over");
    let error = Target::new(&dir.0.join("no/such")).replace("x").unwrap_err().to_string();
    assert!(error.contains("no/such"), "{error}");
}
