//! debhelper makes the Debian package, from `packaging/debian` and the staged files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{folder, root};
use crate::command::{output, run};

/// What is packed.
pub(crate) struct Package<'a> {
    /// hart's version.
    pub(crate) version: &'a str,
    /// The number behind it.
    pub(crate) revision: &'a str,
}

impl Package<'_> {
    /// As Debian has it: `0.1.0-1`.
    pub(super) fn full_version(&self) -> String {
        format!("{}-{}", self.version, self.revision)
    }

    fn changelog(&self, maintainer: &str, date: &str) -> String {
        let version = self.full_version();
        format!(
            "hart ({version}) unstable; urgency=medium\n\n  * hart {}: what has changed is in CHANGELOG.md.\n\n \
             -- {maintainer}  {date}\n",
            self.version
        )
    }
}

/// Makes the package in `work`, where `stage` is; answers its path.
pub(super) fn build(package: &Package<'_>, work: &Path) -> Result<PathBuf> {
    let rules = work.join("debian");
    let (maintainer, seconds) = (maintainer(), moment()?);
    fs::create_dir_all(&rules)?;
    let from = root()?.join("packaging/debian");
    let entries = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let from = entry?.path();
        fs::copy(&from, rules.join(from.file_name().context("a file without a name")?))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let control = fs::read_to_string(rules.join("control"))?.replace("@MAINTAINER@", &maintainer);
    fs::write(rules.join("control"), control)?;
    let date =
        output(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{seconds}")]))?;
    let date = String::from_utf8_lossy(&date);
    fs::write(rules.join("changelog"), package.changelog(&maintainer, date.trim()))?;
    fs::copy(root()?.join("CHANGELOG.md"), work.join("CHANGELOG.md"))?;
    let mut make = Command::new("debian/rules");
    run(make.arg("binary").current_dir(work).env("SOURCE_DATE_EPOCH", &seconds))?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = String::from_utf8_lossy(&architecture);
    let deb = format!("hart_{}_{}.deb", package.full_version(), architecture.trim());
    let deb = folder()?.join(deb);
    ensure!(deb.is_file(), "debhelper has made no {}", deb.display());
    Ok(deb)
}

/// Debian's own variables; without them a name that says that there is nobody to write to.
fn maintainer() -> String {
    let of = |name: &str, or: &str| env::var(name).unwrap_or_else(|_| or.to_owned());
    format!("{} <{}>", of("DEBFULLNAME", "hart"), of("DEBEMAIL", "hart@hart.invalid"))
}

/// The time of the last commit, in seconds: the same sources give the same package.
pub(super) fn moment() -> Result<String> {
    if let Ok(seconds) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(seconds);
    }
    let mut git = Command::new("git");
    let said = output(git.args(["log", "-1", "--format=%ct"]).current_dir(root()?))?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_is_debians_form() {
        let package = Package { version: "1.2.3", revision: "4" };
        let text = package.changelog("A <a@b.c>", "Mon, 30 Nov 2026 22:00:00 +0000");
        assert!(text.starts_with("hart (1.2.3-4) unstable; urgency=medium\n\n  * "), "{text}");
        assert!(text.ends_with("\n\n -- A <a@b.c>  Mon, 30 Nov 2026 22:00:00 +0000\n"), "{text}");
    }
}
