//! `cargo xtask sandbox`: the machines of `vagrant/`, provisioned by the same scripts, as containers with
//! systemd on a wire of their own; then what a person would try, and what a package must not do.

mod cluster;
mod machines;
mod monitoring;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::command::{is_root, run};
use crate::package::{self, Made};
use crate::roots::{Machine, NODE, Net};
use crate::setup;
use machines::Planned;

/// `sandbox [--keep]`.
pub(crate) fn sandbox(arguments: &[String]) -> Result<()> {
    let keep = match arguments {
        [] => false,
        [only] if only == "--keep" => true,
        other => bail!("unknown arguments {other:?}; it takes --keep or none"),
    };
    ensure!(is_root(), "the sandbox boots systems of its own: run it as root");
    setup::install(&[
        setup::CONSUL,
        setup::IPROUTE,
        setup::NSPAWN,
        setup::MMDEBSTRAP,
        setup::RUBY,
    ])?;
    run(Command::new("ruby").arg("-c").arg(package::root()?.join("vagrant/Vagrantfile")))?;
    let first = package::make("1")?;
    let second = package::pack("2")?;
    let sandbox = Sandbox::boot(&first)?;
    let done = sandbox.use_it(&second);
    if keep {
        if let Err(error) = &done {
            println!("{error:#}");
        }
        println!("the machines run until Enter is pressed; for a shell on one of them:");
        for machine in &sandbox.machines {
            println!("  {}: {}", machine.name, machine.how_to_enter());
        }
        std::io::stdin().read_line(&mut String::new())?;
    }
    done?;
    println!("all is well in the sandbox");
    Ok(())
}

/// All machines; with their folders gone when it is dropped.
struct Sandbox {
    machines: Vec<Machine>,
    /// After the machines: it is their wire.
    net: Net,
    folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Sandbox {
    fn boot(made: &Made) -> Result<Self> {
        let run = format!("hs{}", std::process::id());
        let folder = Folder(package::folder()?.join(&run));
        let mut sandbox = Self { machines: Vec::new(), net: Net::new(&run)?, folder };
        for planned in machines::planned()? {
            let machine = sandbox.start(&run, &planned, made)?;
            sandbox.machines.push(machine);
        }
        Ok(sandbox)
    }

    fn start(&self, run_name: &str, planned: &Planned, made: &Made) -> Result<Machine> {
        let root = self.folder.0.join(&planned.name);
        let layer = NODE.layer(&root)?;
        let root = layer.root();
        // What the scripts find there they do not fetch; no machine here reaches anything.
        let consul = crate::command::find("consul").unwrap_or_default();
        fs::copy(consul, root.join("usr/local/bin/consul"))?;
        let to = root.join("var/tmp/hart");
        fs::create_dir_all(&to)?;
        fs::copy(&made.deb, to.join("hart.deb"))?;
        run(Command::new("cp").arg("-r").arg(package::root()?.join("vagrant/provision")).arg(&to))?;
        Machine::boot(run_name, &planned.name, layer, &self.net, &planned.address)
    }

    #[expect(clippy::disallowed_methods, reason = "a figure for people")]
    fn use_it(&self, second: &Made) -> Result<()> {
        let began = Instant::now();
        self.provision()?;
        let took = began.elapsed().as_secs_f64();
        println!("from the package to a running cluster on all machines: {took:.1} s");
        self.try_out(second)
    }

    fn provision(&self) -> Result<()> {
        for machine in &self.machines {
            machine.show(&format!("bash /var/tmp/hart/provision/machine.sh {}", machine.name))?;
        }
        Ok(())
    }

    fn try_out(&self, second: &Made) -> Result<()> {
        let cluster = cluster::Cluster::new(&self.machines)?;
        let primary = cluster.is_whole(Duration::from_secs(60))?;
        println!("a primary ({}), the others stream, one of them synchronous", primary.name);
        cluster.has_its_guards()?;
        cluster.has_a_good_example(&self.machines[0])?;
        cluster.answers_dns()?;
        monitoring::Monitoring::new(&self.machines)?.check()?;
        cluster.switches_over()?;
        cluster.survives_its_agents()?;
        cluster.does_not_notice_an_upgrade(second)?;
        cluster.outlives_the_package()
    }
}
