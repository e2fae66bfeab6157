//! A configuration, a command line or a machine that the agent cannot work with: it says what is
//! wrong and where, ends with the right exit code, and has made nothing.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, line_after, owner_of, run_hart};
use hart_testkit::{LocalNode, TempDir, hart_binary};

/// Nothing listens there.
const NO_CONSUL: &str = "127.0.0.1:1";
const USAGE: i32 = 64;

/// The agent must refuse this file; what it said.
fn refused(yaml: &str, code: i32) -> Result<String> {
    refused_by(&mut LocalNode::new("n1", NO_CONSUL)?, yaml, code)
}

fn refused_by(node: &mut LocalNode, yaml: &str, code: i32) -> Result<String> {
    let (status, log) = node.run_to_end_with(yaml, DEADLINE)?;
    ensure!(status.code() == Some(code), "{status}\n{log}");
    ensure!(!node.data_dir().exists(), "a data directory was made\n{log}");
    let beside = node.data_dir().with_extension("hart");
    ensure!(!beside.exists(), "{} was made\n{log}", beside.display());
    ensure!(!log.contains("panicked"), "{log}");
    Ok(log)
}

fn good() -> Result<String> {
    Ok(LocalNode::new("n1", NO_CONSUL)?.config().render())
}

fn line_of(text: &str, wanted: &str) -> Result<usize> {
    let at = text.lines().position(|line| line.contains(wanted));
    Ok(at.with_context(|| format!("no line with {wanted:?}"))? + 1)
}

#[test]
fn an_unreadable_file_is_named() -> Result<()> {
    let dir = TempDir::new()?;
    // A copy, for another user may not be able to reach the original.
    let hart = dir.path().join("hart");
    std::fs::copy(hart_binary()?, &hart)?;
    let run = |file: &str, owner| run_hart(&hart, &["agent", file], owner, &dir);

    let missing = run("/nonexistent/hart.yml", None)?;
    assert_eq!(missing.code, Some(USAGE), "{missing:?}");
    assert!(missing.output.contains("cannot read /nonexistent/hart.yml: "), "{missing:?}");
    assert!(missing.output.contains("hint: "), "{missing:?}");

    let other = owner_of(&dir.make("postgres's", "postgres")?)?;
    let secret = dir.write("secret.yml", "root", &good()?)?;
    let path = secret.display().to_string();
    let denied = run(&path, Some(other))?;
    assert_eq!(denied.code, Some(USAGE), "{denied:?}");
    assert!(denied.output.contains(&format!("cannot read {path}: ")), "{denied:?}");
    assert!(denied.output.to_lowercase().contains("permission denied"), "{denied:?}");

    let binary = dir.path().join("binary.yml");
    std::fs::write(&binary, b"scope: ha\nname: \xff\xfe\n")?;
    let path = binary.display().to_string();
    let no_text = run(&path, None)?;
    assert_eq!(no_text.code, Some(USAGE), "{no_text:?}");
    assert!(no_text.output.contains(&path), "{no_text:?}");
    Ok(())
}

#[test]
fn a_malformed_file_is_refused_with_the_line() -> Result<()> {
    let text = good()?.replace("\n  listen:", "\n listen:");
    let line = line_of(&text, "  connect_address:")?;
    let log = refused(&text, USAGE)?;
    let wanted = format!("hart.yml:{line}:");
    assert!(log.contains(&wanted) && log.contains("not valid YAML"), "{wanted}\n{log}");

    let log = refused("just some text\n", USAGE)?;
    assert!(log.contains("hart.yml:1:1: expected keys and values"), "{log}");
    Ok(())
}

#[test]
fn mistyped_and_missing_values_are_named_all_at_once() -> Result<()> {
    let good = good()?;
    let bin = good.lines().find(|line| line.contains("bin_dir:")).context("bin_dir")?;
    let text = good
        .replace("ttl: 3\n", "ttl: soon\n")
        .replace("nofailover: false", "nofailover: [1]")
        .replace(bin, "  bin_dri: /usr/bin");
    let log = refused(&text, USAGE)?;
    let ttl = line_of(&text, "ttl: soon")?;
    let expected = "bootstrap.dcs.ttl: expected a number of seconds, found \"soon\"";
    assert!(log.contains(&format!("hart.yml:{ttl}:10: {expected}")), "{log}");
    let tag = line_of(&text, "nofailover")?;
    let expected = "tags.nofailover: expected true or false, found a list";
    assert!(log.contains(&format!("hart.yml:{tag}:15: {expected}")), "{log}");
    assert!(log.contains("did you mean \"bin_dir\"?"), "the misspelt key beside them\n{log}");

    let log = refused("scope: ha\nname: n1\n", USAGE)?;
    assert!(log.contains("missing: restapi.listen, consul, postgresql.listen"), "{log}");
    Ok(())
}

/// Each fault has its words in the unit tests; a start ends with them, and a reload does not.
#[test]
fn a_certificate_that_is_of_no_use_keeps_the_agent_from_starting() -> Result<()> {
    let good = good()?;
    let with = |tls: &str| good.replace("open: true}", &format!("open: true, {tls}}}"));
    let log = refused(&with("certfile: /nowhere/rest.crt"), USAGE)?;
    assert!(log.contains("restapi.certfile: cannot read /nowhere/rest.crt: No such file"), "{log}");
    let log = refused(&with("certfile: /etc/passwd, keyfile: /etc/passwd"), USAGE)?;
    assert!(log.contains("restapi.certfile: /etc/passwd holds no certificate"), "{log}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_key_is_a_warning_with_the_nearest_name() -> Result<()> {
    let mut node = LocalNode::new("n1", NO_CONSUL)?;
    node.config_mut().dcs("loop_wiat", 1.into());
    let line = line_of(&node.config().render(), "loop_wiat")?;
    node.start()?;
    // It goes on: the next thing that it says is that there is no Consul.
    line_after(&node, 0, "Consul cannot be read").await?;
    let warning = format!(
        "hart.yml:{line}: unknown key \"bootstrap.dcs.loop_wiat\" is ignored; did you mean \
         \"loop_wait\"?"
    );
    assert!(node.log_contains(&warning), "{warning}\n{}", node.log());
    let unexpected = node.unexpected_lines(&["loop_wiat", "Consul cannot be read"]);
    assert_eq!(unexpected, [""; 0]);
    assert_eq!(node.stop()?.code(), Some(0), "stopped in good order, though without Consul");
    Ok(())
}

#[test]
fn as_root_a_user_must_be_given() -> Result<()> {
    ensure!(hart_testkit::is_root(), "this test must run as root");
    let dir = TempDir::new()?;
    let node = LocalNode::new("n1", NO_CONSUL)?;
    let file = dir.write("hart.yml", "root", &node.config().render())?;
    let file = file.display().to_string();
    let ended = run_hart(&hart_binary()?, &["agent", &file], None, &dir)?;
    assert_eq!(ended.code, Some(USAGE), "{ended:?}");
    assert!(ended.output.contains("refuses to run as root"), "{ended:?}");
    assert!(ended.output.contains("--user postgres"), "{ended:?}");

    for user in ["nobody-by-this-name", "root"] {
        let ended = run_hart(&hart_binary()?, &["agent", "--user", user, &file], None, &dir)?;
        assert_eq!(ended.code, Some(USAGE), "{ended:?}");
        assert!(ended.output.contains(user), "{ended:?}");
    }
    assert!(!node.data_dir().exists());
    Ok(())
}

#[test]
fn a_taken_port_is_named_and_nothing_is_made() -> Result<()> {
    let mut node = LocalNode::new("n1", NO_CONSUL)?;
    let yaml = node.config().render();
    for (port, setting) in [
        (node.config().rest_port, "restapi.listen"),
        (node.config().postgres_port, "postgresql.listen"),
    ] {
        let _taken = TcpListener::bind(("127.0.0.1", port))?;
        let log = refused_by(&mut node, &yaml, 1)?;
        let end = log.lines().last().unwrap_or_default();
        assert!(end.contains(&port.to_string()) && end.contains(setting), "{log}");
        assert!(end.contains("in use"), "{log}");
    }
    Ok(())
}

#[test]
fn missing_and_wrong_programs_are_named() -> Result<()> {
    let dir = TempDir::new()?;
    let mut node = LocalNode::new("n1", NO_CONSUL)?;
    dir.path().join("bin").clone_into(&mut node.config_mut().bin_dir);
    let yaml = node.config().render();
    let log = refused_by(&mut node, &yaml, 1)?;
    let missing = dir.path().join("bin/postgres").display().to_string();
    assert!(log.contains(&missing) && log.contains("postgresql.bin_dir"), "{log}");

    // There, but another program.
    std::fs::create_dir(dir.path().join("bin"))?;
    std::os::unix::fs::symlink("/bin/echo", &missing)?;
    let log = refused_by(&mut node, &yaml, 1)?;
    assert!(log.contains("not a supported PostgreSQL"), "{log}");
    Ok(())
}
