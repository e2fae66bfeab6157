//! The REST API's end: its certificate, and whose it asks for. What was read again counts for the next
//! connection; those that are open go on.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;

use crate::files::{self, Fault};
use crate::pair::{Pair, PairFiles};
use crate::verify::CallerVerifier;
use crate::{ciphers, client, in_words, provider};

/// Who must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody is asked for one.
    Nobody,
    /// Whoever changes something.
    Changing,
    /// Everybody: who has none gets no connection.
    Everybody,
}

/// Where the server's part comes from.
pub struct ServerFiles {
    /// Its own certificate.
    pub pair: PairFiles,
    /// CAs of the callers' certificates (`restapi.cafile`).
    pub cafile: Option<PathBuf>,
    /// Who must show one.
    pub asked: Asked,
    /// OpenSSL's list of cipher suites.
    pub ciphers: Option<String>,
}

/// What was read from files, ready for use.
pub struct Side {
    config: Arc<ServerConfig>,
    asked: Asked,
    pair: Pair,
    callers: Option<Arc<CallerVerifier>>,
    /// What an operator should know: settings that have no effect, a key that all can read.
    pub warnings: Vec<String>,
}

impl Side {
    /// Reads the files. A certificate that is not valid now is no error here: see [`Pair::timely`].
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn read(files: &ServerFiles) -> Result<Self, Fault> {
        let pair = Pair::read(&files.pair)?;
        let mut warnings: Vec<String> = pair.warning.iter().cloned().collect();
        let mut with = provider();
        if let Some(list) = &files.ciphers {
            let selected = ciphers::select(&with, list);
            if !selected.ignored.is_empty() {
                warnings.push(format!(
                    "restapi.ciphers: {} is ignored: no such cipher suite here (TLS 1.2 with ECDHE and \
                     AES-GCM or ChaCha20, and TLS 1.3, are)",
                    selected.ignored.join(":")
                ));
            }
            Arc::make_mut(&mut with).cipher_suites = selected.suites;
        }
        let builder = ServerConfig::builder_with_provider(with)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault(format!("restapi: {error}")))?;
        let callers = callers(files)?.map(Arc::new);
        let builder = match callers.clone() {
            Some(callers) => builder.with_client_cert_verifier(callers),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(pair.resolver()));
        if files.asked != Asked::Nobody {
            // A resumed session would go on with a certificate that has expired meanwhile.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), asked: files.asked, pair, callers, warnings })
    }

    /// Would it take the certificate that a member with this configuration shows?
    ///
    /// # Errors
    /// Why not, for people.
    pub fn takes(&self, caller: &client::Side) -> Result<(), String> {
        let Some(callers) = &self.callers else { return Ok(()) };
        let Some(shown) = caller.shown() else {
            return Err("it has none to show: give ctl.certfile".to_owned());
        };
        let (first, others) = shown.cert.split_first().ok_or("it has none")?;
        let checked = callers.verify_client_cert(first, others, UnixTime::now());
        checked.map(drop).map_err(|error| in_words(&error).unwrap_or_else(|| error.to_string()))
    }

    /// Its own certificate.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }
}

fn callers(files: &ServerFiles) -> Result<Option<CallerVerifier>, Fault> {
    if files.asked == Asked::Nobody {
        return Ok(None);
    }
    let what = "restapi.cafile";
    let Some(cafile) = &files.cafile else {
        return Err(Fault(format!("{what} is not given, and restapi.verify_client needs it")));
    };
    let text = files::read(what, cafile)?;
    let roots = files::certificates(what, cafile, &text)?;
    let from = format!("{what} {}", cafile.display());
    let required = files.asked == Asked::Everybody;
    CallerVerifier::new(roots, from, required, &provider()).map(Some).map_err(Fault)
}

/// The server's part in force.
#[derive(Clone)]
pub struct Server(Arc<ArcSwap<Side>>);

impl Server {
    /// With what was read at the start.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(side)))
    }

    /// From the next connection on.
    pub fn renew(&self, side: Side) {
        self.0.store(Arc::new(side));
    }

    /// For the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.load().config)
    }

    /// Who must show a certificate now.
    #[must_use]
    pub fn asked(&self) -> Asked {
        self.0.load().asked
    }

    /// The certificate in force.
    #[must_use]
    pub fn pair(&self) -> Pair {
        self.0.load().pair.clone()
    }
}
