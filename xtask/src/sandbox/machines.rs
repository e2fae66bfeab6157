//! `vagrant/provision/machines`: what they are called and where they are.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::package;

/// A machine of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) address: String,
}

pub(super) fn planned() -> Result<Vec<Planned>> {
    let file = package::root()?.join("vagrant/provision/machines");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let machines = parse(&text);
    ensure!(!machines.is_empty(), "{} names no machine", file.display());
    Ok(machines)
}

fn parse(text: &str) -> Vec<Planned> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let machine = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some(Planned { name: words.next()?, address: words.next()? })
    };
    lines.filter_map(machine).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command::{find, succeeds};

    #[test]
    fn scripts_and_vagrantfile_can_be_parsed() {
        let folder = package::root().expect("a workspace").join("vagrant");
        let entries = fs::read_dir(folder.join("provision")).expect("read");
        let scripts = entries.map(|entry| entry.expect("read").path());
        let scripts: Vec<_> =
            scripts.filter(|path| path.extension().is_some_and(|end| end == "sh")).collect();
        assert!(scripts.len() > 4, "{scripts:?}");
        for script in scripts {
            assert!(succeeds(Command::new("bash").arg("-n").arg(&script)), "{}", script.display());
        }
        if find("ruby").is_some() {
            assert!(succeeds(Command::new("ruby").arg("-c").arg(folder.join("Vagrantfile"))));
        }
    }

    #[test]
    fn the_table_is_read() {
        let names: Vec<_> = planned().expect("read").into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["meta", "node-1", "node-2", "node-3"]);
        assert_eq!(
            parse("# x\n\na 1.2.3.4 node # y\nb\n"),
            [Planned { name: "a".into(), address: "1.2.3.4".into() }]
        );
    }
}
