//! Is this the server that we mean? As far as `sslmode` wants to know.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::x509::{Facts, stands_for};

/// Which certificates are good.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// For the chain up to a root.
    pub chain: Arc<WebPkiServerVerifier>,
    /// The roots themselves: a server may show one of them, where it was made to sign itself.
    pub roots: Vec<CertificateDer<'static>>,
    /// Where they come from.
    pub from: String,
}

/// As [`ServerCertVerifier`].
#[derive(Debug)]
pub(crate) struct Verifier {
    /// `None`: any certificate.
    pub trust: Option<Trust>,
    /// One of them must be in the certificate; `None`: it may have any name.
    pub hosts: Option<Vec<String>>,
    pub known: WebPkiSupportedAlgorithms,
}

/// Why a certificate is not good, for people.
#[derive(Debug)]
struct Unfit(String);

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

impl Verifier {
    fn chain(
        &self,
        trust: &Trust,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let facts = Facts::read(shown);
        let timely = |facts: &Facts| {
            facts.timely(now).map_err(|why| unfit(format!("the server's certificate: {why}")))
        };
        if let Some(facts) = &facts
            && trust.roots.iter().any(|root| root == shown)
        {
            return timely(facts);
        }
        if let Some(facts) = facts.as_ref().filter(|facts| facts.is_old()) {
            let roots = trust.roots.iter().filter_map(Facts::read);
            let known = self.known.all;
            let mut signers = roots.filter(|root| facts.is_signed_by(root, known));
            let signer = signers.next().ok_or_else(|| stranger(trust))?;
            let late = |why| unfit(format!("the certificate in {}: {why}", trust.from));
            signer.timely(now).map_err(late)?;
            return timely(facts);
        }
        use CertificateError::{
            Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
        };
        match trust.chain.verify_server_cert(shown, others, name, &[], now) {
            // Looked at elsewhere; the name is compared after the chain.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(())
            }
            Err(Error::InvalidCertificate(UnknownIssuer)) => Err(stranger(trust)),
            Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
                facts.as_ref().map_or(Ok(()), timely)?;
                Err(unfit(format!("a CA's certificate in {} has expired", trust.from)))
            }
            other => other.map(drop),
        }
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
        Err(unfit(format!(
            "the server's certificate is not for \"{host}\": make one with that name in \
             subjectAltName, or use the certificate's name in postgresql.connect_address"
        )))
    }
}

fn stranger(trust: &Trust) -> Error {
    unfit(format!(
        "the server's certificate is not signed by a CA in {}: give the CA that signed it as \
         sslrootcert",
        trust.from
    ))
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
        if let Some(hosts) = &self.hosts {
            self.names(hosts, shown)?;
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
        if matches!(
            signed.scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        ) {
            let why = rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
            return Err(Error::PeerMisbehaved(why));
        }
        signature(message, shown, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}

/// The server has the key of the certificate that it shows. (The library's own function takes none of
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
