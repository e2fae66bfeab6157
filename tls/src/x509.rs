//! What a certificate says, beyond what the TLS library tells: certificates of version 1 and names in
//! the common name, which PostgreSQL's own documentation has people make, are good for libpq.

use ring::digest::{SHA256, SHA384, SHA512, digest};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::der::oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::BasicConstraints;

/// A certificate that could be read.
#[derive(Debug)]
pub struct Facts(Certificate);

impl Facts {
    /// `None`: it is none.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        Certificate::from_der(der).ok().map(Self)
    }

    /// Whether it is of version 1, which has no extensions.
    pub(crate) fn is_old(&self) -> bool {
        self.0.tbs_certificate.version == x509_cert::Version::V1
    }

    /// Whether it is valid at this time, in words where it is not.
    pub(crate) fn timely(&self, now: UnixTime) -> Result<(), String> {
        let validity = &self.0.tbs_certificate.validity;
        let now = now.as_secs();
        if validity.not_after.to_unix_duration().as_secs() < now {
            return Err(format!("it expired at {}", validity.not_after));
        }
        if validity.not_before.to_unix_duration().as_secs() > now {
            return Err(format!("it is valid from {} on only", validity.not_before));
        }
        Ok(())
    }

    /// Until when it is valid, for people.
    pub(crate) fn valid_until(&self) -> String {
        self.0.tbs_certificate.validity.not_after.to_string()
    }

    /// Until when it is valid, in seconds since 1970.
    pub(crate) fn expires(&self) -> u64 {
        self.0.tbs_certificate.validity.not_after.to_unix_duration().as_secs()
    }

    /// Whether it is for this public key, a `SubjectPublicKeyInfo` in DER.
    pub(crate) fn has_key(&self, public: &[u8]) -> bool {
        let key = self.0.tbs_certificate.subject_public_key_info.to_der();
        key.is_ok_and(|key| key == public)
    }

    /// The subject's common name, for logs.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        let parts = self.0.tbs_certificate.subject.0.iter().flat_map(|rdn| rdn.0.iter());
        text(&parts.into_iter().find(|part| part.oid == CN)?.value)
    }

    /// The common name, which counts where there are no alternative names.
    pub(crate) fn common_name(&self) -> Option<String> {
        let tbs = &self.0.tbs_certificate;
        let extensions = tbs.extensions.iter().flatten();
        if extensions.into_iter().any(|e| e.extn_id == ID_CE_SUBJECT_ALT_NAME) {
            return None;
        }
        self.subject()
    }

    /// Whether it may sign others: it says so, or is too old to say anything.
    fn is_ca(&self) -> bool {
        let constraints = self.0.tbs_certificate.get::<BasicConstraints>();
        self.is_old() || constraints.is_ok_and(|found| found.is_some_and(|(_, found)| found.ca))
    }

    /// Whether `other` has signed it.
    pub(crate) fn is_signed_by(
        &self,
        other: &Self,
        known: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let (Ok(message), Some(signature)) =
            (self.0.tbs_certificate.to_der(), self.0.signature.as_bytes())
        else {
            return false;
        };
        let Ok(way) = inner_der(&self.0.signature_algorithm) else { return false };
        other.is_ca()
            && self.0.tbs_certificate.issuer == other.0.tbs_certificate.subject
            && self.0.signature_algorithm == self.0.tbs_certificate.signature
            && known
                .iter()
                .filter(|known| known.signature_alg_id().as_ref() == way)
                .any(|known| other.verifies(*known, &message, signature))
    }

    /// Whether this signature is that of the certificate's key.
    pub(crate) fn verifies(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let key = &self.0.tbs_certificate.subject_public_key_info;
        let kind = inner_der(&key.algorithm);
        let Some(bits) = key.subject_public_key.as_bytes() else { return false };
        kind.is_ok_and(|kind| kind == algorithm.public_key_alg_id().as_ref())
            && algorithm.verify_signature(bits, message, signature).is_ok()
    }

    /// `tls-server-end-point` (RFC 5929): a hash of the certificate, by that of its signature.
    #[must_use]
    pub fn end_point(&self, der: &CertificateDer<'_>) -> Option<Vec<u8>> {
        /// MD5 and SHA-1 are replaced by SHA-256.
        const OIDS_256: [&str; 4] = [
            "1.2.840.113549.1.1.4",
            "1.2.840.113549.1.1.5",
            "1.2.840.113549.1.1.11",
            "1.2.840.10045.4.3.2",
        ];
        const OIDS_384: [&str; 2] = ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
        const OIDS_512: [&str; 2] = ["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];
        let signed = self.0.signature_algorithm.oid;
        let is = |oids: &[&str]| oids.iter().any(|oid| ObjectIdentifier::new(oid) == Ok(signed));
        let hash = match () {
            () if is(&OIDS_256) => &SHA256,
            () if is(&OIDS_384) => &SHA384,
            () if is(&OIDS_512) => &SHA512,
            // The others have no hash of their own, or have it in parameters.
            () => return None,
        };
        Some(digest(hash, der).as_ref().to_vec())
    }
}

fn text(value: &x509_cert::der::Any) -> Option<String> {
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable =
        || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).ok()
}

/// The content of an `AlgorithmIdentifier`, as the TLS library names algorithms.
fn inner_der(
    algorithm: &x509_cert::spki::AlgorithmIdentifierOwned,
) -> x509_cert::der::Result<Vec<u8>> {
    let mut content = algorithm.oid.to_der()?;
    if let Some(parameters) = &algorithm.parameters {
        content.extend(parameters.to_der()?);
    }
    Ok(content)
}

/// Whether a common name stands for this host, as libpq compares: case does not count, and `*` as
/// the first label stands for one label.
pub(crate) fn stands_for(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(rest) = name.strip_prefix('*').filter(|rest| rest.starts_with('.')) else {
        return false;
    };
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let domain = host.find('.').filter(|at| *at > 0).map(|at| &host[at..]);
    !is_address && domain.is_some_and(|domain| domain.eq_ignore_ascii_case(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_compared_as_libpq_does() {
        for (name, host, fits) in [
            ("db1", "DB1", true),
            ("*.example.com", "db1.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*", "db1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("*.0.0.1", "10.0.0.1", false),
            ("db1\0.evil", "db1", false),
        ] {
            assert_eq!(stands_for(name, host), fits, "{name} {host}");
        }
    }

    #[test]
    fn nonsense_is_no_certificate() {
        for bytes in [&b""[..], b"0", b"0\x82\xff\xff", b"\x30\x03\x02\x01\x05"] {
            assert!(Facts::read(&CertificateDer::from(bytes)).is_none());
        }
    }
}
