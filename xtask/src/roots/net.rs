//! One wire for the machines, in a network namespace: nothing of this host's network is touched.

use std::process::Command;

use anyhow::Result;

use crate::command::run;

/// A namespace with a bridge; removed when it is dropped.
pub(crate) struct Net {
    name: String,
}

/// What the bridge is called inside.
pub(super) const BRIDGE: &str = "br0";

impl Net {
    pub(crate) fn new(name: &str) -> Result<Self> {
        run(&mut ip(&["netns", "add", name]))?;
        let net = Self { name: name.to_owned() };
        for words in [
            ["link", "add", BRIDGE, "type", "bridge"].as_slice(),
            &["link", "set", BRIDGE, "up"],
            &["link", "set", "lo", "up"],
        ] {
            run(ip(&["-n", name]).args(words))?;
        }
        Ok(net)
    }

    /// For nsenter(1).
    pub(super) fn file(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]).status();
    }
}

fn ip(words: &[&str]) -> Command {
    let mut ip = Command::new("ip");
    ip.args(words);
    ip
}
