//! What TLS says in words for people.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// What is wrong with TLS in this error, if it is that: which certificate, and what to do.
#[must_use]
pub fn in_words(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(say(found));
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(words) = inner.and_then(|inner| in_words(inner)) {
            return Some(words);
        }
        next = error.source();
    }
    None
}

fn say(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "the certificate is made for another \
            purpose (extendedKeyUsage): a caller's needs clientAuth, a server's serverAuth"
            .to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate of the caller: give ctl.certfile and ctl.keyfile"
                .to_owned()
        }
        Error::AlertReceived(alert) => {
            format!("the other side refuses ({alert:?}); its log may say why")
        }
        Error::NoCertificatesPresented => "the caller showed no certificate".to_owned(),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the other side does not speak TLS".to_owned()
        }
        other => other.to_string(),
    }
}
