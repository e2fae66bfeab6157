//! Which system this is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What `/etc/os-release` says (os-release(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Os {
    /// `debian`, `ubuntu`, …
    pub(super) id: String,
    /// `bookworm`, `noble`, …; empty where there is none.
    pub(super) codename: String,
    /// For messages.
    pub(super) pretty: String,
    /// Debian or a descendant of it.
    pub(super) has_apt: bool,
}

impl Os {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join("etc/os-release");
        let text = fs::read_to_string(&path);
        Ok(Self::parse(&text.with_context(|| format!("cannot read {}", path.display()))?))
    }

    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        let id = value("ID");
        let family = format!("{id} {}", value("ID_LIKE"));
        let has_apt = family.split_whitespace().any(|name| matches!(name, "debian" | "ubuntu"));
        Self { codename: value("VERSION_CODENAME"), pretty: value("PRETTY_NAME"), id, has_apt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_descendants_have_apt() {
        let debian = Os::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n",
        );
        assert_eq!((debian.id.as_str(), debian.codename.as_str()), ("debian", "bookworm"));
        assert!(debian.has_apt && debian.pretty.contains("12"));
        assert!(Os::parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").has_apt);
        assert!(!Os::parse("ID=fedora\nVERSION_ID=42\n").has_apt);
    }
}
