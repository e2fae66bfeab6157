//! What this crate must know about the one local PostgreSQL.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::beginning::Beginning;
use crate::restore::ReplicaMethod;
use crate::secret::Secret;

/// Name of a PostgreSQL role, its password and its TLS options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Role name.
    pub username: String,
    /// Password; `None` where `pg_hba.conf` asks for none (peer, certificate, trust).
    pub password: Option<Secret>,
    /// Further libpq connection options without secrets, such as `sslmode` or `sslrootcert`.
    /// They go into `primary_conninfo` and to `pg_basebackup` and `pg_rewind`.
    pub conninfo: BTreeMap<String, String>,
}

impl Credentials {
    /// A role without a password and without further options.
    pub fn new(username: impl Into<String>) -> Self {
        Self { username: username.into(), password: None, conninfo: BTreeMap::new() }
    }

    /// The same role with this password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret::new(password));
        self
    }
}

/// One long option of a PostgreSQL tool: `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOption {
    /// Name without the leading dashes, such as `encoding`.
    pub name: String,
    /// Value, where the option takes one.
    pub value: Option<String>,
}

impl ToolOption {
    /// The option as one argument.
    #[must_use]
    pub fn argument(&self) -> String {
        match &self.value {
            Some(value) => format!("--{}={value}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// The user that PostgreSQL's own programs run as, when this process is root (PostgreSQL refuses
/// to run as root). Files that this crate writes are given to it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
}

/// The server to stream or to copy from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What the server is to be when it runs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writable (or about to recover from a crash and then writable).
    Primary,
    /// In recovery, with `standby.signal`.
    Standby {
        /// Where to stream from; `None` leaves it read-only on what it has.
        upstream: Option<Upstream>,
        /// Physical slot on the upstream.
        slot: Option<String>,
    },
}

/// Everything about one local PostgreSQL. The caller has merged the cluster-wide and the local
/// configuration already.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the cluster; becomes `cluster_name`.
    pub scope: String,
    /// Name of this member; becomes `application_name` when it streams.
    pub name: String,
    /// The data directory (absolute).
    pub data_dir: PathBuf,
    /// Where `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf` live; the data directory when `None`.
    pub config_dir: Option<PathBuf>,
    /// A configuration file to include instead of `postgresql.base.conf`.
    pub custom_conf: Option<PathBuf>,
    /// Our own state about the data directory; `<data_dir>.hart` when `None`.
    pub state_dir: Option<PathBuf>,
    /// Directory of PostgreSQL's programs; when `None` they are looked up on `PATH` and in the
    /// places where distributions put them.
    pub bin_dir: Option<PathBuf>,
    /// Other names of programs: `pg_basebackup` → `pg_basebackup-15`, or a path from there.
    pub bin_name: BTreeMap<String, String>,
    /// `listen_addresses`, comma separated.
    pub listen_addresses: String,
    /// TCP port, which also names the Unix socket.
    pub port: u16,
    /// Directory of the Unix socket that this crate connects to; `None` where there is no socket and
    /// TCP is all.
    pub socket_dir: Option<PathBuf>,
    /// The name by which others know this server, and its certificate with them.
    pub connect_host: Option<String>,
    /// The superuser that this crate works as.
    pub superuser: Credentials,
    /// The role that replicas stream and copy as.
    pub replication: Credentials,
    /// The role for `pg_rewind`; the superuser when `None`.
    pub rewind: Option<Credentials>,
    /// The libpq password file to write (0600).
    pub pgpass: PathBuf,
    /// Options for `initdb`.
    pub initdb: Vec<ToolOption>,
    /// How a new cluster begins.
    pub beginning: Beginning,
    /// Ways to make a replica, in order; empty: `pg_basebackup`.
    pub replica_methods: Vec<ReplicaMethod>,
    /// Options for `pg_basebackup`.
    pub basebackup: Vec<ToolOption>,
    /// Options for `pg_rewind`.
    pub pg_rewind: Vec<ToolOption>,
    /// Server parameters. Those that must be the same on all members go to the command line.
    pub parameters: BTreeMap<String, String>,
    /// `synchronous_standby_names` while nobody else is to be waited for, as somebody gives it who has
    /// the choice made by PostgreSQL; empty: commits wait for nobody.
    pub standby_names: String,
    /// Recovery parameters, such as `restore_command`.
    pub recovery: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`; when empty the file that exists is left alone.
    pub pg_hba: Vec<String>,
    /// Lines of `pg_ident.conf`; when empty the file that exists is left alone.
    pub pg_ident: Vec<String>,
    /// Whether there are permanent logical slots, which standbys are to have as well.
    pub logical_slots: bool,
    /// Whether replicas use physical slots.
    pub use_slots: bool,
    /// Whether `pg_rewind` may be used.
    pub use_pg_rewind: bool,
    /// User for PostgreSQL's programs when this process is root.
    pub run_as: Option<RunAs>,
    /// Variables that say whose processes PostgreSQL and its programs are: `HOME`, `USER`, `LOGNAME`.
    /// They win over what this process has; libpq looks for certificates below `HOME`.
    pub account: Vec<(String, String)>,
}

impl Settings {
    /// Is there a `restore_command`?
    #[must_use]
    pub fn has_archive(&self) -> bool {
        let given = |of: &BTreeMap<String, String>| {
            of.get("restore_command").is_some_and(|command| !command.trim().is_empty())
        };
        given(&self.recovery) || given(&self.parameters)
    }

    /// Settings with PostgreSQL's own defaults: `localhost:5432`, superuser `postgres`, replication
    /// role `replicator`, no passwords.
    pub fn new(
        scope: impl Into<String>,
        name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        let data_dir = data_dir.into();
        Self {
            scope: scope.into(),
            name: name.into(),
            pgpass: beside(&data_dir, ".pgpass"),
            data_dir,
            config_dir: None,
            custom_conf: None,
            state_dir: None,
            bin_dir: None,
            bin_name: BTreeMap::new(),
            listen_addresses: "localhost".to_owned(),
            port: 5432,
            socket_dir: None,
            connect_host: None,
            superuser: Credentials::new("postgres"),
            replication: Credentials::new("replicator"),
            rewind: None,
            initdb: Vec::new(),
            beginning: Beginning::default(),
            replica_methods: Vec::new(),
            basebackup: Vec::new(),
            pg_rewind: Vec::new(),
            parameters: BTreeMap::new(),
            standby_names: String::new(),
            recovery: BTreeMap::new(),
            pg_hba: Vec::new(),
            pg_ident: Vec::new(),
            logical_slots: false,
            use_slots: true,
            use_pg_rewind: true,
            run_as: None,
            account: Vec::new(),
        }
    }

    /// Where the configuration files live.
    #[must_use]
    pub fn config_dir(&self) -> &Path {
        self.config_dir.as_deref().unwrap_or(&self.data_dir)
    }

    /// Where our own state about the data directory lives. It is beside the data directory, because
    /// the data directory may be replaced as a whole.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| beside(&self.data_dir, ".hart"))
    }

    /// The role that `pg_rewind` connects as.
    #[must_use]
    pub fn rewind_credentials(&self) -> &Credentials {
        self.rewind.as_ref().unwrap_or(&self.superuser)
    }

    /// Where libpq looks for `.postgresql`.
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        let own = self.account.iter().find(|(name, _)| name == "HOME");
        let inherited = || std::env::var_os("HOME").map(PathBuf::from);
        own.map(|(_, home)| PathBuf::from(home))
            .or_else(inherited)
            .filter(|home| home.is_absolute())
    }

    /// What this program of PostgreSQL's is called here.
    #[must_use]
    pub fn program_name<'n>(&'n self, program: &'n str) -> &'n str {
        self.bin_name.get(program).map_or(program, String::as_str)
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        self.socket_dir.as_ref().map(|dir| dir.join(format!(".s.PGSQL.{}", self.port)))
    }

    /// The user that must own the data directory.
    #[must_use]
    pub fn owner(&self) -> RunAs {
        self.run_as.unwrap_or_else(|| RunAs {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        })
    }
}

/// `<path><suffix>` in the same directory.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The socket directory of the distributions, where there is one. PostgreSQL's own default is `/tmp`,
/// where anybody can listen in its place while it is down.
#[must_use]
pub fn default_socket_dir() -> Option<PathBuf> {
    ["/run/postgresql", "/var/run/postgresql"].iter().map(PathBuf::from).find(|dir| dir.is_dir())
}

/// The directory of the first socket in a value of `unix_socket_directories`, which PostgreSQL takes
/// as relative to the data directory; `None`: it has no socket, or only such as have no place in the
/// file system.
#[must_use]
pub fn first_socket_dir(directories: &str, data_dir: &Path) -> Option<PathBuf> {
    let unquoted = |dir: &str| {
        let quoted = dir.strip_prefix('"').and_then(|dir| dir.strip_suffix('"'));
        quoted.map_or_else(|| dir.to_owned(), |dir| dir.replace("\"\"", "\""))
    };
    let mut dirs = directories.split(',').map(|dir| unquoted(dir.trim()));
    let first = dirs.find(|dir| !dir.is_empty() && !dir.starts_with('@'))?;
    Some(data_dir.join(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lives_beside_the_data_directory() {
        let settings = Settings::new("demo", "n1", "/srv/pg/data");
        assert_eq!(settings.state_dir(), PathBuf::from("/srv/pg/data.hart"));
        assert_eq!(settings.config_dir(), Path::new("/srv/pg/data"));
        assert_eq!(settings.rewind_credentials().username, "postgres");
    }

    #[test]
    fn sockets_are_where_postgresql_puts_them() {
        let first = |value| first_socket_dir(value, Path::new("/srv/pg/data"));
        assert_eq!(first("/run/a, /tmp"), Some("/run/a".into()));
        assert_eq!(first(".."), Some("/srv/pg/data/..".into()));
        assert_eq!(first(" \"/a b\" ,/c"), Some("/a b".into()));
        assert_eq!(first("@abstract, run"), Some("/srv/pg/data/run".into()));
        assert_eq!((first(""), first("@abstract")), (None, None));
    }

    #[test]
    fn passwords_do_not_show_in_debug_output() {
        let mut settings = Settings::new("demo", "n1", "/srv/pg/data");
        settings.superuser = Credentials::new("postgres").with_password("geheim");
        assert!(!format!("{settings:?}").contains("geheim"));
    }

    #[test]
    fn options_become_one_argument() {
        let encoding = ToolOption { name: "encoding".into(), value: Some("UTF8".into()) };
        assert_eq!(encoding.argument(), "--encoding=UTF8");
        let checksums = ToolOption { name: "data-checksums".into(), value: None };
        assert_eq!(checksums.argument(), "--data-checksums");
    }
}
