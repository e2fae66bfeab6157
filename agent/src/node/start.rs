//! From the command line to a running loop. Whatever can be found wrong here is found before
//! anything is touched.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hart_config::{Cgroup, Config, EXIT_USAGE};
use hart_guard::cgroup::{self, Owner, Want};
use hart_guard::privilege::{self, PrivilegeError};
use hart_ha::command::Exit;
use hart_names::Names;
use hart_postgres::{DataDir, Postgres};
use hart_types::Chain;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::home::Home;
use super::logging::Asked;
use super::replace::handover;
use super::replace::program::Program;
use super::tls::{Fresh, Tls};
use super::{assemble, logging, settings, state_dir};
use crate::cli::AgentArgs;
use crate::{dns, vip};

/// Why the agent does not start.
#[derive(Debug)]
pub enum StartError {
    /// The command line or the configuration is wrong: exit code 64.
    Usage(String),
    /// Something on this machine is in the way: exit code 1.
    Refused(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

fn refused(error: impl std::error::Error) -> StartError {
    StartError::Refused(Chain(&error).to_string())
}

/// What is known and prepared before anything is touched.
pub struct Prepared {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where it came from.
    pub file: Option<PathBuf>,
    /// PostgreSQL's cgroup, and the directory above it.
    pub cgroup: cgroup::Prepared,
    /// REST's socket.
    pub rest: TcpListener,
    /// What it is encrypted with.
    pub tls: Tls,
    /// The directory beside the data directory.
    pub home: Home,
    /// Addresses that follow the primary.
    pub vip: Option<vip::Vips>,
    /// DNS's sockets.
    pub dns: Option<dns::Bound>,
    /// A PostgreSQL that hart has never had is stopped, and started under a guard.
    pub adopt: bool,
    /// The binary that runs.
    pub program: Program,
    /// The sockets again, for the run of another binary in this one's place.
    pub sockets: Vec<OwnedFd>,
}

/// `hart agent`.
pub fn run(args: AgentArgs) -> ExitCode {
    match hart_guard::become_init() {
        Ok(None) => {}
        Ok(Some(ended)) => return ExitCode::from(ended),
        Err(error) => {
            eprintln!("hart: cannot start the agent as a child of process 1: {error}");
            return ExitCode::FAILURE;
        }
    }
    let ended = match begin(args) {
        Ok(begun) => on_runtime(begun),
        Err(error) => Err(error),
    };
    let (text, code) = match ended {
        Ok(Exit::Stopped) => (String::new(), ExitCode::SUCCESS),
        Ok(Exit::Refused(text)) | Err(StartError::Refused(text)) => (text, ExitCode::FAILURE),
        Err(StartError::Usage(text)) => {
            (text, ExitCode::from(u8::try_from(EXIT_USAGE).unwrap_or(64)))
        }
    };
    logging::last_word(&text);
    code
}

/// What has to be done while there is one thread and, perhaps, root's rights.
struct Begun {
    config: Arc<Config>,
    file: Option<PathBuf>,
    cgroup: cgroup::Prepared,
    vip: Option<vip::Vips>,
    dns: Option<dns::Bound>,
    adopt: bool,
    program: Program,
}

fn begin(args: AgentArgs) -> Result<Begun, StartError> {
    let program = Program::own();
    handover::left();
    let loaded = match &args.file {
        Some(path) => hart_config::load(path, hart_config::process_env()),
        None => hart_config::load_from_env(hart_config::process_env()),
    };
    let loaded = loaded.map_err(|error| StartError::Usage(error.to_string()))?;
    let config = loaded.config;
    logging::begin(&config.log, Asked { kind: args.log_type, level: args.log_level });
    tell_warnings(&loaded.warnings);
    let listen = &config.postgresql.listen;
    let vip = config.vip.as_ref().map(|vip| vip::prepare(vip, listen)).transpose();
    let vip = vip.map_err(StartError::Refused)?;
    // Port 53 is root's.
    let dns = dns::bind(&config).map_err(StartError::Refused)?;
    let cgroup = become_user(&args, &config)?;
    // As the user that has to write them.
    logging::renew(&config.log);
    if config.log.dir.is_some() {
        tell_warnings(&loaded.warnings);
    }
    let vip = vip.map(vip::Prepared::start).transpose().map_err(StartError::Refused)?;
    let adopt = args.adopt;
    Ok(Begun { config: Arc::new(config), file: args.file, cgroup, vip, dns, adopt, program })
}

fn tell_warnings(warnings: &[hart_config::Warning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// As root: prepares directories and cgroup, then becomes the user. Otherwise: just the cgroup.
fn become_user(args: &AgentArgs, config: &Config) -> Result<cgroup::Prepared, StartError> {
    let want = match &config.guard.cgroup {
        Cgroup::Auto => Want::Auto,
        Cgroup::Off => Want::Off,
        Cgroup::Path(path) => Want::Path(path.clone()),
    };
    let name = cgroup_name(config);
    let user = match (&args.user, privilege::is_root()) {
        (None, true) => {
            let text = "PostgreSQL refuses to run as root, and so does hart; \
                        start it as user postgres, or give --user postgres";
            return Err(StartError::Usage(text.to_owned()));
        }
        (Some(user), true) => user,
        (Some(user), false) => {
            let me = nix::unistd::geteuid().as_raw();
            let account = privilege::lookup(user).map_err(unknown_user)?;
            if account.uid != me {
                let text = format!("--user {user} takes root's rights; this is uid {me}");
                return Err(StartError::Usage(text));
            }
            return Ok(cgroup::prepare(&name, None, &want));
        }
        (None, false) => return Ok(cgroup::prepare(&name, None, &want)),
    };
    let account = privilege::lookup(user).map_err(unknown_user)?;
    if account.uid == 0 {
        let text = format!("--user {user}: PostgreSQL refuses to run as root; give another user");
        return Err(StartError::Usage(text));
    }
    let owner = Owner { uid: account.uid, gid: account.gid };
    make_directories(config, &owner)?;
    let prepared = cgroup::prepare(&name, Some(owner), &want);
    privilege::drop_privileges(user).map_err(refused)?;
    Ok(prepared)
}

fn unknown_user(error: PrivilegeError) -> StartError {
    match error {
        PrivilegeError::NoSuchUser(_) => StartError::Usage(error.to_string()),
        other => refused(other),
    }
}

/// One per data directory: two nodes of one name may run on one machine, in two clusters.
fn cgroup_name(config: &Config) -> String {
    let path = config.postgresql.data_dir.as_os_str().as_encoded_bytes();
    // FNV-1a, 32 bits: stable between runs and versions.
    let hash = path
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{}-{}-{hash:08x}", config.scope, config.name)
}

/// What is missing is made, and belongs to the user; what is there stays as it is.
fn make_directories(config: &Config, owner: &Owner) -> Result<(), StartError> {
    let mut wanted: Vec<PathBuf> = Vec::new();
    wanted.extend(config.postgresql.data_dir.parent().map(Path::to_owned));
    wanted.extend(config.postgresql.pgpass.as_ref().and_then(|p| p.parent()).map(Path::to_owned));
    wanted.extend(config.log.dir.clone());
    let sockets = config.postgresql.parameters.get("unix_socket_directories");
    let sockets = sockets.and_then(|value| value.as_str()).unwrap_or_default();
    wanted.extend(sockets.split(',').map(|dir| PathBuf::from(dir.trim())));
    let mut wanted = wanted.into_iter().filter(|dir| dir.is_absolute());
    wanted.try_for_each(|dir| make_directory(&dir, 0o755, owner))?;
    // Only where the user cannot do it: whether the data directory may be used is not known yet.
    let home = state_dir::find(config);
    let owned = |dir: &Path| fs::metadata(dir).is_ok_and(|found| found.uid() == owner.uid);
    if home.parent().is_some_and(owned) { Ok(()) } else { make_directory(&home, 0o700, owner) }
}

fn make_directory(dir: &Path, mode: u32, owner: &Owner) -> Result<(), StartError> {
    if dir.exists() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_directory(parent, 0o755, owner)?;
    }
    let made = fs::DirBuilder::new().mode(mode).create(dir);
    made.and_then(|()| give(dir, owner))
        .map_err(|error| StartError::Refused(format!("cannot make {}: {error}", dir.display())))
}

/// Root gives away what it has just made, and nothing else: where the directory above is the user's,
/// that user may have put a link in its place, to something that is root's.
fn give(dir: &Path, owner: &Owner) -> std::io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(dir, flags, Mode::empty())?;
    let found = nix::sys::stat::fstat(&opened)?;
    let names = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
    if found.st_uid != 0 || names.count() > 0 {
        return Err(std::io::Error::other("it is not the directory that was just made"));
    }
    nix::unistd::fchown(&opened, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    Ok(())
}

fn bind(address: &hart_config::Address) -> Result<TcpListener, StartError> {
    let host = if address.host == "*" { "0.0.0.0" } else { &address.host };
    let target = (host, address.port);
    let failed = |error: std::io::Error| {
        let port = address.port;
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "; another program uses port {port} (another agent?): stop it, or change restapi.listen"
            ),
            std::io::ErrorKind::AddrNotAvailable => {
                "; no interface of this machine has this address: change restapi.listen".to_owned()
            }
            _ => String::new(),
        };
        StartError::Refused(format!("REST cannot listen on {address}: {error}{hint}"))
    };
    let targets: Vec<SocketAddr> = target.to_socket_addrs().map_err(failed)?.collect();
    let left = targets.iter().find_map(|target| handover::left().listener(*target));
    let listener = left.map_or_else(|| TcpListener::bind(&targets[..]), Ok).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn on_runtime(begun: Begun) -> Result<Exit, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(refused)?;
    let ended = runtime.block_on(async {
        let (initial, _) = settings::postgres(&begun.config, &begun.config.bootstrap.dynamic);
        let postgres = Postgres::new(initial);
        let prepared = look_around(begun, &postgres).await?;
        assemble::run(prepared, postgres).await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

const LOOK: Duration = Duration::from_secs(10);

/// Data directory, programs and ports: refused before anything is touched.
async fn look_around(begun: Begun, postgres: &Postgres) -> Result<Prepared, StartError> {
    let Begun { config, file, cgroup, vip, dns, adopt, program } = begun;
    state_dir::check(&config).map_err(StartError::Refused)?;
    state_dir::take_out(&config).map_err(StartError::Refused)?;
    match postgres.inspect(LOOK).await.map_err(refused)? {
        DataDir::Missing
        | DataDir::Empty
        | DataDir::Incomplete { .. }
        | DataDir::Cluster { .. } => {}
        other => return Err(refused(other.refusal(&postgres.settings()))),
    }
    // As PostgreSQL's user, who has to be able to read the files at each reload.
    let tls = Fresh::read(&config).map_err(|fault| StartError::Usage(fault.0))?;
    postgres.check_version(LOOK).await.map_err(refused)?;
    let dir = state_dir::find(&config);
    Home::check_free(&dir).map_err(refused)?;
    let rest = bind(&config.restapi.listen)?;
    if postgres.processes(LOOK).await.map_err(refused)?.is_empty() {
        port_is_free(&config)?;
    }
    let home = Home::open(&dir).map_err(|error| {
        let hint = "set state_dir to a directory for this node that PostgreSQL's user may write";
        StartError::Refused(format!("{}; {hint}", Chain(&error)))
    })?;
    Names::system().keep_in(dir.join("names"));
    handover::left().close_rest();
    let mut sockets = dns.as_ref().map_or_else(Vec::new, dns::Bound::again);
    sockets.extend(rest.try_clone().map(OwnedFd::from));
    let tls = Tls::begin(tls);
    Ok(Prepared { config, file, cgroup, rest, tls, home, vip, dns, adopt, program, sockets })
}

/// PostgreSQL starts where one of its addresses is there; others may be a virtual address that another
/// node has now.
fn port_is_free(config: &Config) -> Result<(), StartError> {
    let listen = &config.postgresql.listen;
    let mut absent = Vec::new();
    for host in &listen.hosts {
        let name = if host == "*" { "0.0.0.0" } else { host };
        let Err(error) = TcpListener::bind((name, listen.port)) else { continue };
        if error.kind() == std::io::ErrorKind::AddrNotAvailable && listen.hosts.len() > 1 {
            absent.push(host.as_str());
            continue;
        }
        return Err(cannot_listen(host, listen.port, &error.to_string()));
    }
    if absent.len() == listen.hosts.len() {
        return Err(cannot_listen(&absent.join(","), listen.port, "no interface has any of them"));
    }
    if !absent.is_empty() {
        tracing::warn!(
            "no interface has {} of postgresql.listen: PostgreSQL listens there only if it is there when \
             PostgreSQL starts; for an address that moves, listen on * or set \
             net.ipv4.ip_nonlocal_bind (net.ipv6.ip_nonlocal_bind) to 1",
            absent.join(", ")
        );
    }
    Ok(())
}

fn cannot_listen(host: &str, port: u16, why: &str) -> StartError {
    StartError::Refused(format!(
        "PostgreSQL cannot listen on {host}:{port}: {why}; stop what uses the port, or change \
         postgresql.listen"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only root can give away, and only then is there anything to be misled to.
    #[test]
    fn root_gives_away_what_it_made_and_no_link_to_anything_else() {
        if !privilege::is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("hart-make-{:x}", fastrand::u64(..)));
        let owner = Owner { uid: 65_534, gid: 65_534 };
        make_directory(&dir.join("a/state"), 0o700, &owner).unwrap();
        let made = fs::metadata(dir.join("a/state")).unwrap();
        assert_eq!((made.uid(), made.mode() & 0o777), (65_534, 0o700));
        assert_eq!(fs::metadata(dir.join("a")).unwrap().mode() & 0o777, 0o755);
        let (roots, link) = (dir.join("roots"), dir.join("link"));
        fs::create_dir(&roots).unwrap();
        std::os::unix::fs::symlink(&roots, &link).unwrap();
        give(&link, &owner).unwrap_err();
        fs::write(roots.join("file"), "").unwrap();
        give(&roots, &owner).unwrap_err();
        assert_eq!(fs::metadata(&roots).unwrap().uid(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }

    fn problem(listen: &str) -> Option<String> {
        let text = format!(
            "scope: ha\nname: n1\nconsul: {{}}\nrestapi: {{listen: '127.0.0.1:1'}}\n\
             postgresql: {{listen: '{listen}', connect_address: 'a:1', data_dir: /d}}"
        );
        let config = hart_config::load_text("t.yml", &text, []).unwrap().config;
        port_is_free(&config).err().map(|error| error.to_string())
    }

    /// 198.51.100.0/24 (RFC 5737) is nobody's.
    #[test]
    fn one_address_that_is_there_is_enough() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.local_addr().unwrap().port();
        let free = {
            let probe = TcpListener::bind("127.0.0.1:0").unwrap();
            probe.local_addr().unwrap().port()
        };
        assert_eq!(problem(&format!("127.0.0.1,198.51.100.1:{free}")), None);
        assert!(problem(&format!("198.51.100.1:{free}")).is_some());
        assert!(problem(&format!("198.51.100.1,198.51.100.2:{free}")).is_some());
        assert!(problem(&format!("198.51.100.1,127.0.0.1:{taken}")).is_some());
    }
}
