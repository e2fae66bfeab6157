//! The end of whoever calls the REST API: whom it believes, and what it shows. What was read again counts
//! for the next connection of all clients that were made with it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::files::{self, Fault};
use crate::pair::{Pair, PairFiles};
use crate::verify::{Names, Trust, Verifier};
use crate::{in_words, provider};

/// Where the caller's part comes from.
#[derive(Default)]
pub struct ClientFiles {
    /// CAs of the servers' certificates, and the setting that names the file. `None`: the system's.
    pub ca: Option<(&'static str, PathBuf)>,
    /// What it shows.
    pub pair: Option<PairFiles>,
    /// As Patroni has it: with a certificate of its own it believes any name, else everything.
    pub insecure: bool,
}

/// What was read from files, ready for use.
pub struct Side {
    verifier: OnceLock<Verifier>,
    names: Names,
    pair: Option<Arc<CertifiedKey>>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

const NAME: &str = "make one with that name or address in subjectAltName, or use the certificate's name in \
                    restapi.connect_address (ctl.insecure: true believes any)";

impl Side {
    /// Reads the files. The system's list of CAs is read when it is needed.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn read(given: &ClientFiles) -> Result<Self, Fault> {
        let pair = given.pair.as_ref().map(Pair::read).transpose()?;
        let blind = given.insecure && (pair.is_none() || given.ca.is_none());
        let names = if given.insecure { Names::Any } else { Names::Called };
        let mut side = Self { verifier: OnceLock::new(), names, pair: None, warnings: Vec::new() };
        if let Some(pair) = pair {
            side.warnings.extend(pair.warning.iter().cloned());
            side.warnings.extend(crate::valid_now(&pair).err().map(|fault| fault.0));
            side.pair = Some(Arc::clone(pair.whole()));
        }
        if blind {
            let _ = side.verifier.set(verifier(None, Names::Any));
        } else if let Some((what, file)) = &given.ca {
            let text = files::read(what, file)?;
            let roots = files::certificates(what, file, &text)?;
            let trust = trust(roots, format!("{what} {}", file.display())).map_err(Fault)?;
            let _ = side.verifier.set(verifier(Some(trust), side.names.clone()));
        }
        Ok(side)
    }

    /// Would it believe a server at `host` that shows this certificate?
    ///
    /// # Errors
    /// Why not, for people.
    pub fn believes(&self, pair: &Pair, host: &str) -> Result<(), String> {
        let host = host.trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host).map_err(|_| format!("{host} is no name of a host"))?;
        let (first, others) = pair.whole().cert.split_first().ok_or("it is empty")?;
        let checked = self.verifier().and_then(|verifier| {
            verifier.verify_server_cert(first, others, &name, &[], UnixTime::now())
        });
        checked.map(drop).map_err(|error| in_words(&error).unwrap_or_else(|| error.to_string()))
    }

    pub(crate) fn shown(&self) -> Option<&CertifiedKey> {
        self.pair.as_deref()
    }

    fn verifier(&self) -> Result<&Verifier, Error> {
        if let Some(known) = self.verifier.get() {
            return Ok(known);
        }
        let system = rustls_native_certs::load_native_certs().certs;
        let trust = trust(system, "the system's list".to_owned()).map_err(|why| {
            Error::General(format!(
                "{why}: give the CA of the members as restapi.cafile or ctl.cacert"
            ))
        })?;
        Ok(self.verifier.get_or_init(|| verifier(Some(trust), self.names.clone())))
    }
}

fn trust(roots: Vec<CertificateDer<'static>>, from: String) -> Result<Trust, String> {
    let mut store = RootCertStore::empty();
    for root in &roots {
        // One that the library cannot use may still be the very one that the server shows.
        let _ = store.add(root.clone());
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|error| format!("{from} has no CA: {error}"))?;
    let remedy = "give the CA that signed it as restapi.cafile or ctl.cacert";
    Ok(Trust { chain, roots, from, remedy })
}

fn verifier(trust: Option<Trust>, names: Names) -> Verifier {
    let known = provider().signature_verification_algorithms;
    Verifier { trust, names, remedy: NAME, known }
}

/// The caller's part in force.
#[derive(Clone)]
pub struct Client(Arc<Live>);

impl Default for Client {
    /// Believes the system's CAs, and shows nothing.
    fn default() -> Self {
        let verifier = OnceLock::new();
        Self::new(Side { verifier, names: Names::Called, pair: None, warnings: Vec::new() })
    }
}

impl Client {
    /// With what was read at the start.
    #[must_use]
    pub fn new(side: Side) -> Self {
        let schemes = provider().signature_verification_algorithms.supported_schemes();
        Self(Arc::new(Live { side: ArcSwap::from_pointee(side), schemes }))
    }

    /// From the next connection on.
    pub fn renew(&self, side: Side) {
        self.0.side.store(Arc::new(side));
    }

    /// For an HTTP client, which follows [`Client::renew`].
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(self.0.clone())
            .with_client_cert_resolver(self.0.clone());
        // A resumed session is not verified: it would outlive what is believed.
        config.resumption = Resumption::disabled();
        config
    }
}

struct Live {
    side: ArcSwap<Side>,
    schemes: Vec<SignatureScheme>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.side.load().pair.clone()
    }

    fn has_certs(&self) -> bool {
        self.side.load().pair.is_some()
    }
}

impl ServerCertVerifier for Live {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let side = self.side.load();
        side.verifier()?.verify_server_cert(shown, others, name, stapled, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.side.load().verifier()?.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.side.load().verifier()?.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
