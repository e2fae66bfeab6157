//! Finding PostgreSQL's programs and their version.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Limits, Tool};
use crate::datadir;
use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::settings::Settings;

/// Majors whose behaviour this crate knows.
pub const SUPPORTED: std::ops::RangeInclusive<u32> = 13..=19;

/// The version of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major version, such as 15.
    pub major: u32,
    /// As the program says it, such as `15.14 (Debian 15.14-0+deb12u1)`.
    pub text: String,
}

impl Version {
    /// As `server_version_num` has it: 150014 for 15.14; what is no release yet counts as its first.
    #[must_use]
    pub fn number(&self) -> u32 {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let minor = self.text.split_once('.').map(|(_, rest)| digits(rest));
        self.major * 10_000 + minor.and_then(|minor| minor.parse::<u32>().ok()).unwrap_or_default()
    }

    /// Reads the answer of `postgres --version`.
    fn parse(answer: &str) -> Option<Self> {
        let text = answer.trim().strip_prefix("postgres (PostgreSQL)")?.trim().to_owned();
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major: digits.parse().ok()?, text })
    }
}

/// The first minor release of each major version whose primaries wait for their standbys from the first commit on (May
/// 2025).
const WAITS_SINCE: [u32; 5] = [130_021, 140_018, 150_013, 160_009, 170_005];

/// What is to be said of this version (`server_version_num`) where commits are to wait for a standby: one that has just
/// started, or been promoted, acknowledges without waiting until it has read what to wait for.
#[must_use]
pub fn acknowledges_early(number: u32) -> Option<String> {
    let of = |number: u32| format!("{}.{}", number / 10_000, number % 10_000);
    let since = WAITS_SINCE.iter().find(|since| **since / 10_000 == number / 10_000)?;
    (number < *since).then(|| {
        format!(
            "PostgreSQL {} may acknowledge commits in its first milliseconds as primary without waiting for a \
             standby: install {} or later",
            of(number),
            of(*since)
        )
    })
}

/// The path of one program. All programs come from one directory, so that versions never mix.
pub(crate) fn program(settings: &Settings, name: &'static str) -> Result<PathBuf> {
    let missing = |searched: String| Error::MissingBinary { name, searched };
    let found = settings.bin_dir.clone().or_else(|| find_dir(settings));
    let Some(dir) = found else {
        return Err(missing("PATH, /usr/lib/postgresql/*/bin and /usr/pgsql-*/bin".to_owned()));
    };
    let path = dir.join(settings.program_name(name));
    if is_executable(&path) { Ok(path) } else { Err(missing(path.display().to_string())) }
}

fn major_of(settings: &Settings) -> Option<u32> {
    datadir::major(&settings.data_dir).ok().flatten()
}

/// `PATH` counts where the real directory behind it holds the server's programs (Debian has
/// wrappers for some of them in `/usr/bin`); then the distributions' places, where the data
/// directory's own major wins, or else the newest.
fn find_dir(settings: &Settings) -> Option<PathBuf> {
    let major = major_of(settings);
    let [server, prover] = ["postgres", "pg_controldata"].map(|name| settings.program_name(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .filter_map(|dir| dir.join(server).canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned))
        .find(|dir| is_executable(&dir.join(prover)));
    on_path.or_else(|| {
        let known = SUPPORTED.rev().flat_map(|v| {
            [format!("/usr/lib/postgresql/{v}/bin"), format!("/usr/pgsql-{v}/bin")]
                .map(|dir| (v, PathBuf::from(dir)))
        });
        let there: Vec<_> = known.filter(|(_, dir)| is_executable(&dir.join(server))).collect();
        let own = there.iter().find(|(v, _)| Some(*v) == major);
        own.or_else(|| there.first()).map(|(_, dir)| dir.clone())
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

impl Postgres {
    /// The version of the programs (`postgres --version`).
    ///
    /// # Errors
    /// [`Error::MissingBinary`], [`Error::UnsupportedVersion`], or the program failed.
    pub async fn version(&self, within: Duration) -> Result<Version> {
        let settings = self.settings();
        let program = program(&settings, "postgres")?;
        let tool = Tool::new("postgres", program.clone(), &settings).in_english();
        let output = tool.arg("--version").succeed(Limits::total(within)).await?;
        match Version::parse(&output.stdout) {
            Some(version) if SUPPORTED.contains(&version.major) => {
                self.set_major(version.major);
                Ok(version)
            }
            _ => {
                let text = output.stdout.trim().chars().take(200).collect();
                Err(Error::UnsupportedVersion { program, text })
            }
        }
    }

    /// Where the server's program lies.
    ///
    /// # Errors
    /// [`Error::MissingBinary`].
    pub fn server_program(&self) -> Result<PathBuf> {
        program(&self.settings(), "postgres")
    }

    /// As [`Postgres::version`], and that it fits the data directory, where there is one.
    ///
    /// # Errors
    /// As there, and [`Error::VersionMismatch`].
    pub async fn check_version(&self, within: Duration) -> Result<Version> {
        let version = self.version(within).await?;
        let settings = self.settings();
        match datadir::major(&settings.data_dir)? {
            Some(data_major) if data_major != version.major => Err(Error::VersionMismatch {
                data_dir: settings.data_dir.clone(),
                data_major,
                program: program(&settings, "postgres")?,
                binary_major: version.major,
            }),
            _ => Ok(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let major = |text| Version::parse(text).map(|v| v.major);
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 17devel"), Some(17));
        assert_eq!(major("postgres (PostgreSQL) "), None);
        assert_eq!(major("pg_ctl (PostgreSQL) 15.1"), None);
    }

    #[test]
    fn releases_that_acknowledge_early_are_known() {
        let number = |text: &str| {
            let version = Version::parse(&format!("postgres (PostgreSQL) {text}")).unwrap();
            version.number()
        };
        let numbers =
            ["13.16 (Debian 13.16-0+deb11u1)", "17.5", "19rc1 (Debian 19~rc1-1)"].map(number);
        assert_eq!(numbers, [130_016, 170_005, 190_000]);
        let said = acknowledges_early(130_016).unwrap();
        assert!(
            said.starts_with("PostgreSQL 13.16 ") && said.ends_with("13.21 or later"),
            "{said}"
        );
        let old = [140_017, 150_012, 160_008, 170_004];
        assert!(old.into_iter().all(|number| acknowledges_early(number).is_some()));
        let new = [130_021, 140_018, 150_013, 160_009, 170_005, 180_000, 190_000];
        assert_eq!(new.map(acknowledges_early), [const { None::<String> }; 7]);
    }

    #[test]
    fn a_missing_program_is_named_with_the_remedy() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent/data");
        settings.bin_dir = Some("/nonexistent/bin".into());
        let error = program(&settings, "initdb").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/bin/initdb"), "{error}");
        assert!(error.contains("postgresql.bin_dir"), "{error}");
    }

    #[test]
    fn a_program_goes_by_the_name_that_it_was_given() {
        let dir = std::env::temp_dir().join(format!("hart-names-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink("/bin/sh", dir.join("initdb-15")).unwrap();
        let mut settings = Settings::new("demo", "n1", "/nonexistent/data");
        settings.bin_dir = Some(dir.clone());
        let missing = program(&settings, "initdb").unwrap_err().to_string();
        settings.bin_name.insert("initdb".to_owned(), "initdb-15".to_owned());
        let found = program(&settings, "initdb").unwrap();
        settings.bin_name.insert("initdb".to_owned(), "/bin/sh".to_owned());
        let elsewhere = program(&settings, "initdb").unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(missing.contains(&dir.join("initdb").display().to_string()), "{missing}");
        assert_eq!((found, elsewhere), (dir.join("initdb-15"), PathBuf::from("/bin/sh")));
    }
}
