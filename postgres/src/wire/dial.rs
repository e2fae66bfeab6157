//! To the server and in.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hart_names::Names;
use hart_tls::Facts;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{Client, Config, Connection};
use tokio_rustls::TlsConnector;

use super::login::{Distrust, Rules, Watch};
use super::options::{Mode, Options};
use super::stream::{Handshaken, Raw, Wire};
use super::tls::{self, TlsFault};
use crate::link_error::LinkError;
use crate::settings::Credentials;

/// "May we speak TLS?": length 8, code 80877103.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A socket, and the user whose process must be at its other end (or root).
    Unix { path: PathBuf, owner: u32 },
    /// A host, and the names by which its certificate may know it, its own being the first.
    Tcp { host: String, port: u16, names: Vec<String> },
}

impl Place {
    pub(crate) fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp { host: host.to_owned(), port, names: vec![host.to_owned()] }
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Unix { path, .. } => path.display().to_string(),
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// Whether somebody takes connections there.
    pub(crate) async fn ping(&self, until: Instant) -> Result<(), LinkError> {
        let lost = |source: io::Error| LinkError::Lost { source: Box::new(source) };
        let mut raw = self.dial(until).await?;
        raw.write_all(&TLS_REQUEST).await.map_err(lost)?;
        // Whatever it says, it is there.
        raw.read_u8().await.map(drop).map_err(lost)
    }

    /// A connection on which nothing has been said yet. A host's addresses share the time.
    async fn dial(&self, until: Instant) -> Result<Raw, LinkError> {
        let failed = |source| LinkError::unreached(self.name(), source);
        match self {
            Self::Unix { path, owner } => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                let uid = stream.peer_cred().map_err(failed)?.uid();
                if uid != *owner && uid != 0 {
                    return Err(LinkError::Stranger { endpoint: self.name(), uid, owner: *owner });
                }
                Ok(Raw::Unix(stream))
            }
            Self::Tcp { host, port, .. } => {
                tcp(host, *port, until).await.map(Raw::Tcp).map_err(failed)
            }
        }
    }
}

async fn tcp(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let stream = hart_names::connect(Names::system(), host, port, until).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The way that a connection has taken, for its cancel request.
pub(crate) struct Way {
    place: Place,
    tls: Option<Arc<ClientConfig>>,
    direct: bool,
    rules: Rules,
}

impl Way {
    /// Another connection by the same way.
    pub(crate) async fn again(&self, until: Instant) -> Result<Wire, LinkError> {
        let raw = self.place.dial(until).await?;
        match &self.tls {
            None => Ok(Wire::new(raw, Watch::new(self.rules.clone()), None)),
            Some(config) => {
                let Some(raw) = ask_for_tls(&self.place, raw, self.direct).await?.ok() else {
                    return Err(no_tls(&self.place));
                };
                shake_hands(&self.place, raw, config, &self.rules).await
            }
        }
    }
}

/// What a connection consists of.
pub(crate) type Opened = (Client, Connection<Wire, Wire>, Way);

/// What is asked for at the login.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The server's settings for the session.
    pub session: &'a str,
    /// The database.
    pub database: &'a str,
}

/// Connects and logs in as `who`.
pub(crate) async fn open(
    place: &Place,
    who: &Credentials,
    home: Option<PathBuf>,
    entry: Entry<'_>,
    until: Instant,
    within: Duration,
) -> Result<Opened, LinkError> {
    let options = Options::read(&who.conninfo, home);
    let login = Login { place, who, options: &options, entry, until };
    let late = |_| LinkError::Timeout { what: "connecting", within };
    timeout_at(until, login.by_mode()).await.map_err(late)?
}

/// One try to get in.
struct Login<'a> {
    place: &'a Place,
    who: &'a Credentials,
    options: &'a Options,
    entry: Entry<'a>,
    until: Instant,
}

impl Login<'_> {
    /// Encrypted or not, in the order of `sslmode`. A weak mode tries the other way where the first
    /// one is refused by `pg_hba.conf` or, with `prefer`, where TLS does not come about.
    async fn by_mode(&self) -> Result<Opened, LinkError> {
        if matches!(self.place, Place::Unix { .. }) {
            return self.plainly().await;
        }
        match self.options.mode {
            Mode::Disable => self.plainly().await,
            Mode::Allow => match self.plainly().await {
                Err(refused) if refused.is_no_entry() => {
                    self.encrypted().await.map_err(|second| LinkError::both(refused, second))
                }
                other => other,
            },
            Mode::Prefer => match self.encrypted().await {
                Err(error) if error.is_no_entry() || error.is_about_tls() => {
                    self.plainly().await.map_err(|second| LinkError::both(error, second))
                }
                other => other,
            },
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => self.encrypted().await,
        }
    }

    async fn plainly(&self) -> Result<Opened, LinkError> {
        let raw = self.place.dial(self.until).await?;
        self.plainly_on(raw).await
    }

    async fn plainly_on(&self, raw: Raw) -> Result<Opened, LinkError> {
        let known = matches!(self.place, Place::Unix { .. }) || self.who.password.is_none();
        let rules = Rules::new(self.options, known);
        let wire = Wire::new(raw, Watch::new(rules.clone()), None);
        self.enter(wire, None, rules).await
    }

    async fn encrypted(&self) -> Result<Opened, LinkError> {
        let Place::Tcp { names, .. } = self.place else { return self.plainly().await };
        let (options, names) = (self.options.clone(), names.clone());
        // The files may lie on a disk that hangs.
        let read = tokio::task::spawn_blocking(move || tls::config(&options, &names));
        let read = read.await.unwrap_or_else(|_| Err(TlsFault("TLS: abandoned".to_owned())));
        let config = Arc::new(read.map_err(|TlsFault(why)| LinkError::OwnTls { why })?);
        let direct = self.options.direct;
        if direct && self.options.mode < Mode::Require {
            let why = "sslnegotiation: direct needs sslmode: require or more".to_owned();
            return Err(LinkError::OwnTls { why });
        }
        match ask_for_tls(self.place, self.place.dial(self.until).await?, direct).await? {
            Ok(raw) => {
                let rules = Rules::new(self.options, true);
                let wire = shake_hands(self.place, raw, &config, &rules).await?;
                self.enter(wire, Some(config), rules).await
            }
            Err(raw) if self.options.mode == Mode::Prefer => self.plainly_on(raw).await,
            Err(_) => Err(no_tls(self.place)),
        }
    }

    async fn enter(
        &self,
        wire: Wire,
        tls: Option<Arc<ClientConfig>>,
        rules: Rules,
    ) -> Result<Opened, LinkError> {
        let mut config = Config::new();
        config.user(&self.who.username).dbname(self.entry.database).application_name("hart");
        config.options(self.entry.session);
        // Whatever is to be encrypted is already; what the library does about it is left out.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        config.channel_binding(self.options.channel_binding);
        if let Some(password) = &self.who.password {
            config.password(password.expose());
        }
        let entered = config.connect_raw(wire, Handshaken).await;
        let (client, connection) = entered.map_err(|error| self.sort(error))?;
        let way = Way { place: self.place.clone(), tls, direct: self.options.direct, rules };
        Ok((client, connection, way))
    }

    fn sort(&self, error: tokio_postgres::Error) -> LinkError {
        let source = std::error::Error::source(&error);
        let (endpoint, user) = (self.place.name(), self.who.username.clone());
        // The client library takes a missing password for a configuration error.
        if source.is_some_and(|source| source.to_string() == "password missing") {
            let message = "it asks for a password, and none is configured".to_owned();
            return LinkError::AuthFailed { endpoint, user, code: "28P01".to_owned(), message };
        }
        let io = source.and_then(|source| source.downcast_ref::<io::Error>());
        let inner = io.and_then(io::Error::get_ref);
        if let Some(Distrust(why)) = inner.and_then(|inner| inner.downcast_ref()) {
            return LinkError::Distrust { endpoint, user, why: why.clone() };
        }
        // With TLS 1.3 the server's word about our certificate comes after the handshake.
        if let Some(alert) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return LinkError::Tls { endpoint, why: self.explain(alert) };
        }
        // Such as channel binding that does not come about, or a method that is not known.
        if error.to_string().starts_with("authentication error") {
            let why = source.map_or_else(|| error.to_string(), ToString::to_string);
            return LinkError::Distrust { endpoint, user, why };
        }
        LinkError::sort_login(error, &endpoint, &user)
    }

    fn explain(&self, error: &rustls::Error) -> String {
        let words = in_words(error);
        match (&error, &self.options.own) {
            (rustls::Error::AlertReceived(_), Some((cert, _, _))) if cert.exists() => {
                format!("{words} (our certificate is {})", cert.display())
            }
            _ => words,
        }
    }
}

fn no_tls(place: &Place) -> LinkError {
    let why =
        "the server does not speak TLS: turn ssl on there, or set sslmode to prefer".to_owned();
    LinkError::Tls { endpoint: place.name(), why }
}

/// `Err` with the connection where the server says no. Nothing but its one byte is read, so that
/// nothing that came unencrypted can be taken for encrypted.
async fn ask_for_tls(
    place: &Place,
    raw: Raw,
    direct: bool,
) -> Result<Result<TcpStream, Raw>, LinkError> {
    let lost = |source: io::Error| LinkError::Lost { source: Box::new(source) };
    let mut stream = match raw {
        Raw::Tcp(stream) => stream,
        other => return Ok(Err(other)),
    };
    if direct {
        return Ok(Ok(stream));
    }
    stream.write_all(&TLS_REQUEST).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        b'S' => Ok(Ok(stream)),
        b'N' => Ok(Err(Raw::Tcp(stream))),
        _ => {
            let why = "the answer to the question for TLS is none; is it PostgreSQL?".to_owned();
            Err(LinkError::Tls { endpoint: place.name(), why })
        }
    }
}

async fn shake_hands(
    place: &Place,
    raw: TcpStream,
    config: &Arc<ClientConfig>,
    rules: &Rules,
) -> Result<Wire, LinkError> {
    let endpoint = place.name();
    let host = match place {
        Place::Tcp { host, .. } => host.clone(),
        Place::Unix { .. } => String::new(),
    };
    let name = ServerName::try_from(host).map_err(|_| LinkError::Tls {
        endpoint: endpoint.clone(),
        why: "the host's name is none that a certificate can have".to_owned(),
    })?;
    let done = TlsConnector::from(config.clone()).connect(name, raw).await;
    let stream = done.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let why = inner.map_or_else(|| error.to_string(), in_words);
        LinkError::Tls { endpoint, why }
    })?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let end_point = shown.and_then(|der| Facts::read(der)?.end_point(der));
    Ok(Wire::new(Raw::Tls(Box::new(stream)), Watch::new(rules.clone()), end_point))
}

fn in_words(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
        Error::InvalidCertificate(CertificateError::Revoked) => {
            "the server's certificate is revoked (sslcrl)".to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
            "no list in sslcrl or sslcrldir is of the CA that signed the server's certificate"
                .to_owned()
        }
        Error::AlertReceived(alert) => format!("the server refuses: {alert:?}"),
        other => other.to_string(),
    }
}
