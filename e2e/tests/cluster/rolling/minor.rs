//! A real minor release: the programs of another one take the place of those that run, as a package's update has it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, run_program};
use hart_testkit::{Cluster, Options, bin_dir, eventually};

use super::{NODES, refused, roles, roll, succeeded};
use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;
use crate::replacing::status;

/// The programs of a server, and its version as `17.9`.
struct Release {
    bin: PathBuf,
    version: String,
}

impl Release {
    fn of(bin: PathBuf) -> Result<Self> {
        let said = run_program(Command::new(bin.join("postgres")).arg("--version"))?;
        let version = said.split_whitespace().nth(2).context("a version")?.to_owned();
        Ok(Self { bin, version })
    }

    /// As `server_version_num` has it, from version 10 on.
    fn number(&self) -> Result<u64> {
        let (major, minor) = self.version.split_once('.').context("a minor version")?;
        Ok(major.parse::<u64>()? * 10_000 + minor.parse::<u64>()?)
    }
}

fn link(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.dir().path().join(format!("programs-of-{node}"))
}

fn install(cluster: &Cluster, node: &str, bin: &Path) -> Result<()> {
    let (link, new) = (link(cluster, node), link(cluster, node).with_extension("new"));
    symlink(bin, &new)?;
    Ok(std::fs::rename(new, link)?)
}

async fn sees(cluster: &Cluster, node: &str, release: &Release) -> Result<()> {
    let number = release.number()?;
    eventually("the installed release to be seen", DEADLINE, async || {
        let said = status(cluster, node).await?;
        ensure!(said["hart"]["postgresql_installed"] == number, "{}", said["hart"]);
        Ok(())
    })
    .await
}

async fn runs(drill: &Drill, node: &str) -> Result<String> {
    let shown = drill.cluster.sql(node).await?.value("SHOW server_version").await?;
    let shown = shown.unwrap_or_default();
    Ok(shown.split_whitespace().next().unwrap_or_default().to_owned())
}

#[tokio::test]
#[ignore = "it takes two minor releases of PostgreSQL: cargo xtask test --upgrade 17.9 17.11"]
async fn a_minor_release_is_rolled_out_and_no_acknowledged_row_is_lost() -> Result<()> {
    let from = std::env::var_os("HART_PG_FROM").context("HART_PG_FROM names no programs")?;
    let (old, new) = (Release::of(from.into())?, Release::of(bin_dir()?)?);
    ensure!(old.number()? < new.number()?, "from {} to {}", old.version, new.version);
    let options = Options::default().dcs("synchronous_mode", true);
    let mut cluster = Cluster::prepare(3, &options).await?;
    for name in NODES {
        install(&cluster, name, &old.bin)?;
        let link = link(&cluster, name);
        cluster.node_mut(name)?.config_mut().bin_dir = link;
    }
    cluster.start_nodes()?;
    let mut drill = Drill::around(cluster).await?;
    drill.synchronous_standby().await?;
    drill.write().await?;
    let [primary, second, third] = roles(&drill).await?;
    let run = |options: &[&str]| {
        let options = [&["--pg-version", &new.version], options].concat();
        roll(&drill.cluster, &second, &options)
    };

    let why = refused(&run(&[])?)?;
    ensure!(why.contains(&format!("PostgreSQL {} is not installed on ", new.version)), "{why}");
    for name in [&second, &third] {
        install(&drill.cluster, name, &new.bin)?;
        sees(&drill.cluster, name, &new).await?;
    }
    let why = refused(&run(&[])?)?;
    let missing = format!("PostgreSQL {} is not installed on {primary}", new.version);
    ensure!(why.contains(&missing), "{why}");
    for name in NODES {
        ensure!(runs(&drill, name).await? == old.version, "{name}: {why}");
    }
    install(&drill.cluster, &primary, &new.bin)?;
    sees(&drill.cluster, &primary, &new).await?;
    let plan = succeeded(&run(&["--dry-run"])?)?;
    ensure!(plan.matches(&format!("({} → {})", old.version, new.version)).count() == 3, "{plan}");

    let said = succeeded(&run(&[])?)?;
    drill.written().await?;
    for name in NODES {
        let now = runs(&drill, name).await?;
        ensure!(now == new.version, "{name} runs {now}: {said}\n{}", drill.logs());
    }
    let at = |name: &str| said.find(&format!("{name}: PostgreSQL restarted"));
    ensure!(at(&third).is_some() && at(&third) < at(&second) && at(&primary).is_none(), "{said}");
    let versions = hart(&drill.cluster, &second, &["version", "ha"])?;
    ensure!(versions.matches(&format!("PostgreSQL {}", new.version)).count() == 3, "{versions}");
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last != primary && drill.timeline(&last).await? == 2, "{last} leads: {said}");
    Ok(())
}
