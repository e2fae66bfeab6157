//! PostgreSQL's programs under other names: a distribution's wrappers, a fork's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Result, ensure};
use hart_e2e::Local;
use serde_json::json;

const PROGRAMS: [&str; 5] = ["initdb", "postgres", "pg_controldata", "pg_basebackup", "pg_rewind"];

#[tokio::test]
async fn programs_may_have_other_names() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    let real = local.node("n1")?.config().bin_dir.clone();
    let bin = local.node("n1")?.home().join("bin");
    fs::create_dir(&bin)?;
    let used = local.node("n1")?.home().join("used");
    fs::write(&used, "")?;
    fs::set_permissions(&used, fs::Permissions::from_mode(0o666))?;
    for program in PROGRAMS {
        let wrapper = bin.join(format!("my-{program}"));
        let (used, real) = (used.display(), real.join(program));
        fs::write(
            &wrapper,
            format!("#!/bin/sh\necho {program} >> {used}\nexec {} \"$@\"\n", real.display()),
        )?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    // What has no key of its own.
    for program in ["pg_waldump", "pg_verifybackup"] {
        symlink(real.join(program), bin.join(program))?;
    }
    let names: Vec<String> = PROGRAMS.iter().map(|name| format!("{name}: my-{name}")).collect();
    for (name, count) in [("n1", 1), ("n2", 2)] {
        let node = local.node_mut(name)?;
        let yaml = node.config().render();
        let line = format!("bin_dir: {}", real.display());
        let own = format!("bin_dir: {}\n  bin_name: {{{}}}", bin.display(), names.join(", "));
        ensure!(yaml.contains(&line), "{yaml}");
        node.start_with(&yaml.replace(&line, &own))?;
        local.wait_healthy(count).await?;
    }
    let request = json!({ "leader": "n1", "candidate": "n2" });
    let (status, text) = local.post("n2", "/switchover", &request).await?;
    ensure!(status == 200, "{status} {text}");
    ensure!(local.wait_healthy(2).await? == "n2");
    let used = fs::read_to_string(used)?;
    for program in ["initdb", "postgres", "pg_controldata", "pg_basebackup"] {
        ensure!(used.lines().any(|line| line == program), "{program} was not used: {used}");
    }
    Ok(())
}
