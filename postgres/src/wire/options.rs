//! The connection options of a role, by libpq's names and with libpq's meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio_postgres::config::ChannelBinding;

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Whose signature makes a server's certificate good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The CAs that the operating system trusts (`sslrootcert=system`).
    System,
    /// A file that was named.
    File(PathBuf),
    /// libpq's place, where there may be none.
    Default(PathBuf),
    /// Nowhere to look.
    None,
}

/// What a role's options say about encryption and passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub mode: Mode,
    /// TLS from the first byte on, without asking for it (PostgreSQL 17).
    pub direct: bool,
    pub roots: Roots,
    /// Our certificate and its key; the flag says that the files were named.
    pub own: Option<(PathBuf, PathBuf, bool)>,
    /// Files and a directory of revocation lists.
    pub crl: Option<PathBuf>,
    pub crl_dir: Option<PathBuf>,
    pub channel_binding: ChannelBinding,
    /// Ways of authentication that are good enough, as `require_auth` of libpq 16.
    pub require_auth: Option<Vec<String>>,
}

impl Options {
    /// From the options as they go to libpq. `home` is where libpq looks for `.postgresql`.
    pub(crate) fn read(given: &BTreeMap<String, String>, home: Option<PathBuf>) -> Self {
        let get = |name: &str| given.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        let dir = home.map(|home| home.join(".postgresql"));
        let default = |name: &str| dir.as_ref().map(|dir| dir.join(name));
        let roots = match get("sslrootcert") {
            Some("system") => Roots::System,
            Some(file) => Roots::File(file.into()),
            None => default("root.crt").map_or(Roots::None, Roots::Default),
        };
        // As in libpq: the weaker modes would make the system's CAs worthless.
        let unsaid = if roots == Roots::System { Mode::VerifyFull } else { Mode::Prefer };
        let cert = path("sslcert").or_else(|| default("postgresql.crt"));
        let key = path("sslkey").or_else(|| default("postgresql.key"));
        Self {
            mode: get("sslmode").and_then(Mode::parse).unwrap_or(unsaid),
            direct: get("sslnegotiation") == Some("direct"),
            roots,
            own: cert.zip(key).map(|(cert, key)| (cert, key, get("sslcert").is_some())),
            crl: path("sslcrl"),
            crl_dir: path("sslcrldir"),
            channel_binding: match get("channel_binding") {
                Some("disable") => ChannelBinding::Disable,
                Some("require") => ChannelBinding::Require,
                _ => ChannelBinding::Prefer,
            },
            require_auth: get("require_auth")
                .map(|list| list.split(',').map(|word| word.trim().to_owned()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Options {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Options::read(&given.collect(), Some("/home/pg".into()))
    }

    #[test]
    fn without_options_it_is_as_libpq_has_it() {
        let options = read(&[]);
        assert_eq!((options.mode, options.direct), (Mode::Prefer, false));
        assert_eq!(options.roots, Roots::Default("/home/pg/.postgresql/root.crt".into()));
        let (cert, key, named) = options.own.unwrap();
        assert_eq!(cert, PathBuf::from("/home/pg/.postgresql/postgresql.crt"));
        assert_eq!(key, PathBuf::from("/home/pg/.postgresql/postgresql.key"));
        assert!(!named);
    }

    #[test]
    fn the_systems_roots_mean_full_verification() {
        assert_eq!(read(&[("sslrootcert", "system")]).mode, Mode::VerifyFull);
        let given = [("sslmode", "verify-ca"), ("sslrootcert", "/ca.pem"), ("sslcrl", "")];
        let options = read(&given);
        assert_eq!((options.mode, options.crl), (Mode::VerifyCa, None));
        assert_eq!(options.roots, Roots::File("/ca.pem".into()));
    }
}
