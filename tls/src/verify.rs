//! Is this the one that we mean? Beyond the TLS library, as OpenSSL and libpq have it: a certificate that
//! is itself in the list of CAs is good (one that signed itself, most often), and so is one of version 1.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::x509::{Facts, stands_for};

/// Which certificates are good.
#[derive(Clone, Debug)]
pub struct Trust {
    /// For the chain up to a root.
    pub chain: Arc<WebPkiServerVerifier>,
    /// The roots themselves: a server may show one of them, where it was made to sign itself.
    pub roots: Vec<CertificateDer<'static>>,
    /// Where they come from.
    pub from: String,
    /// What to do about a certificate that none of them has signed.
    pub remedy: &'static str,
}

/// Which names a server's certificate must have one of.
#[derive(Clone, Debug)]
pub enum Names {
    /// Any.
    Any,
    /// One of these.
    Of(Vec<String>),
    /// The one by which it was called.
    Called,
}

/// As [`ServerCertVerifier`].
#[derive(Debug)]
pub struct Verifier {
    /// `None`: any certificate.
    pub trust: Option<Trust>,
    /// The names that count.
    pub names: Names,
    /// What to do about a certificate without such a name.
    pub remedy: &'static str,
    /// Algorithms of signatures.
    pub known: WebPkiSupportedAlgorithms,
}

/// As [`ClientCertVerifier`]: whoever shows a certificate shows a good one.
#[derive(Debug)]
pub struct CallerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    roots: Vec<CertificateDer<'static>>,
    from: String,
    required: bool,
    known: WebPkiSupportedAlgorithms,
}

/// Why a certificate is not good, for people.
struct Unfit(String);

/// The library's own errors show what they hold in this form.
impl fmt::Debug for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

fn unfit(why: String) -> Error {
    let why: Arc<dyn std::error::Error + Send + Sync> = Arc::new(Unfit(why));
    Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
}

/// Roots, and where they come from.
struct Roots<'a> {
    all: &'a [CertificateDer<'static>],
    from: &'a str,
    known: &'a WebPkiSupportedAlgorithms,
    /// For messages: `the server's`.
    whose: &'static str,
    remedy: &'static str,
}

impl Roots<'_> {
    fn check(
        &self,
        shown: &CertificateDer<'_>,
        now: UnixTime,
        by_library: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let facts = Facts::read(shown);
        let timely = |facts: &Facts| {
            facts.timely(now).map_err(|why| unfit(format!("{} certificate: {why}", self.whose)))
        };
        if let Some(facts) = &facts
            && self.all.iter().any(|root| root == shown)
        {
            return timely(facts);
        }
        if let Some(facts) = facts.as_ref().filter(|facts| facts.is_old()) {
            let roots = self.all.iter().filter_map(Facts::read);
            let known = self.known.all;
            let mut signers = roots.filter(|root| facts.is_signed_by(root, known));
            let signer = signers.next().ok_or_else(|| self.stranger())?;
            let late = |why| unfit(format!("the certificate in {}: {why}", self.from));
            signer.timely(now).map_err(late)?;
            return timely(facts);
        }
        use CertificateError::{BadSignature, Expired, ExpiredContext, UnknownIssuer};
        match by_library() {
            // BadSignature: another CA of the same name, such as one from before it was made anew.
            Err(Error::InvalidCertificate(UnknownIssuer | BadSignature)) => Err(self.stranger()),
            Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
                facts.as_ref().map_or(Ok(()), timely)?;
                Err(unfit(format!("a CA's certificate in {} has expired", self.from)))
            }
            other => other,
        }
    }

    fn stranger(&self) -> Error {
        let Self { from, whose, remedy, .. } = self;
        unfit(format!("{whose} certificate is not signed by a CA in {from}: {remedy}"))
    }
}

impl Verifier {
    fn chain(
        &self,
        trust: &Trust,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Trust { chain, roots, from, remedy } = trust;
        let whose = "the server's";
        let roots = Roots { all: roots, from, known: &self.known, whose, remedy };
        roots.check(shown, now, || {
            match chain.verify_server_cert(shown, others, name, &[], now) {
                // Looked at elsewhere; the name is compared after the chain.
                Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                    Ok(())
                }
                other => other.map(drop),
            }
        })
    }

    fn names(&self, hosts: &[String], shown: &CertificateDer<'_>) -> Result<(), Error> {
        let facts = Facts::read(shown);
        let common = facts.as_ref().and_then(Facts::common_name);
        let parsed = ParsedCertificate::try_from(shown);
        let fits = |host: &String| {
            let name = ServerName::try_from(host.as_str());
            let alternative = parsed.as_ref().ok().zip(name.ok()).is_some_and(|(shown, name)| {
                rustls::client::verify_server_name(shown, &name).is_ok()
            });
            alternative || common.as_ref().is_some_and(|common| stands_for(common, host))
        };
        if hosts.iter().any(fits) {
            return Ok(());
        }
        let host = hosts.first().map_or("", String::as_str);
        Err(unfit(format!("the server's certificate is not for \"{host}\": {}", self.remedy)))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            self.chain(trust, shown, others, name, now)?;
        }
        match &self.names {
            Names::Any => {}
            Names::Of(hosts) => self.names(hosts, shown)?,
            Names::Called => self.names(&[name.to_str().into_owned()], shown)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, shown, signed, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature_13(message, shown, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}

impl CallerVerifier {
    /// `required`: a caller without a certificate is turned away.
    ///
    /// # Errors
    /// No certificate of `roots` can be used.
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        from: String,
        required: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for root in &roots {
            // One that the library cannot use may still be the very one that a caller shows.
            let _ = store.add(root.clone());
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone());
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let chain = builder.build().map_err(|error| format!("{from}: {error}"))?;
        let known = provider.signature_verification_algorithms;
        Ok(Self { chain, roots, from, required, known })
    }
}

impl ClientCertVerifier for CallerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Callers that pick by them would leave out a certificate that is itself in the list.
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Self { roots, from, known, .. } = self;
        let (whose, remedy) = ("the caller's", "give the CA that signed it as restapi.cafile");
        let roots = Roots { all: roots, from, known, whose, remedy };
        let by_library = || self.chain.verify_client_cert(shown, others, now).map(drop);
        roots.check(shown, now, by_library)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, shown, signed, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature_13(message, shown, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}

/// As [`signature`], without what TLS 1.3 does not have any more.
fn signature_13(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if matches!(
        signed.scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    ) {
        let why = rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
        return Err(Error::PeerMisbehaved(why));
    }
    signature(message, shown, signed, known)
}

/// Whoever shows it has the key of the certificate that it shows. (The library's own function takes none of
/// version 1.)
fn signature(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let facts = Facts::read(shown).ok_or(CertificateError::BadEncoding)?;
    let by_scheme = known.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    let mut algorithms = by_scheme.flat_map(|(_, algorithms)| algorithms.iter());
    if algorithms.any(|way| facts.verifies(*way, message, signed.signature())) {
        return Ok(HandshakeSignatureValid::assertion());
    }
    Err(CertificateError::BadSignature.into())
}
