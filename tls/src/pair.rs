//! A certificate and its key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::files::{self, Fault};
use crate::x509::Facts;
use crate::{key, provider};

/// Where a certificate and its key are.
#[derive(Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The section with `certfile`, `keyfile` and `keyfile_password`, for messages.
    pub section: &'static str,
    /// The certificate, and those of the CAs between it and the root.
    pub certfile: PathBuf,
    /// The key, where it is not in the same file.
    pub keyfile: Option<PathBuf>,
    /// Its password.
    pub password: Option<String>,
}

/// A certificate and its key, which belong together.
#[derive(Clone, Debug)]
pub struct Pair {
    whole: Arc<CertifiedKey>,
    facts: Arc<Facts>,
    file: PathBuf,
    section: &'static str,
    /// Others can read the key: how to mend that.
    pub warning: Option<String>,
}

impl Pair {
    /// Reads both. Whether the certificate is valid now is another question: see [`Pair::timely`].
    ///
    /// # Errors
    /// One cannot be read or used, or they do not belong together.
    pub fn read(files: &PairFiles) -> Result<Self, Fault> {
        let PairFiles { section, certfile, keyfile, password } = files;
        let (cert_name, key_name) = (format!("{section}.certfile"), format!("{section}.keyfile"));
        let text = files::read(&cert_name, certfile)?;
        let chain = files::certificates(&cert_name, certfile, &text)?;
        let first = chain.first().and_then(|first| Facts::read(first));
        let facts = first.ok_or_else(|| {
            let file = certfile.display();
            Fault(format!("{cert_name}: what {file} holds is no certificate (X.509)"))
        })?;
        let (key_file, key_text) = match keyfile {
            Some(file) => (file, files::read(&key_name, file)?),
            None if !key::is_in(&text) => {
                return Err(Fault(format!(
                    "{key_name} is not given, and {} holds no private key; give the file of the key",
                    certfile.display()
                )));
            }
            None => (certfile, text),
        };
        let key = key::read(&key_name, key_file, &key_text, password.as_deref())?;
        let signer = provider().key_provider.load_private_key(key).map_err(|_| {
            Fault(format!(
                "{key_name}: the key in {} is of a kind that is not supported; make one of RSA (2048 to \
                 8192 bits), ECDSA (P-256 or P-384) or Ed25519",
                key_file.display()
            ))
        })?;
        let belongs = signer.public_key().is_some_and(|public| facts.has_key(&public));
        if !belongs {
            return Err(Fault(format!(
                "{key_name}: the key in {} is not that of the certificate in {}",
                key_file.display(),
                certfile.display()
            )));
        }
        let whole = Arc::new(CertifiedKey::new(chain, signer));
        let warning = open_to_others(&key_name, key_file);
        Ok(Self { whole, facts: Arc::new(facts), file: certfile.clone(), section, warning })
    }

    /// Whether the certificate is valid at this time.
    ///
    /// # Errors
    /// It has expired, or is not valid yet; for people.
    pub fn timely(&self, now: UnixTime) -> Result<(), Fault> {
        self.facts.timely(now).map_err(|why| {
            let file = self.file.display();
            Fault(format!(
                "{}.certfile: the certificate in {file} is not valid: {why}",
                self.section
            ))
        })
    }

    /// Until when the certificate is valid, for people.
    #[must_use]
    pub fn valid_until(&self) -> String {
        self.facts.valid_until()
    }

    /// Until when the certificate is valid, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.facts.expires()
    }

    /// Is it the same certificate, with the same others after it?
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.whole.cert == other.whole.cert
    }

    pub(crate) fn resolver(&self) -> SingleCertAndKey {
        SingleCertAndKey::from(CertifiedKey::clone(&self.whole))
    }

    pub(crate) fn whole(&self) -> &Arc<CertifiedKey> {
        &self.whole
    }

    /// The certificate itself.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.whole.cert.first()
    }
}

/// Is the pair's certificate valid by this machine's clock?
///
/// # Errors
/// As [`Pair::timely`].
pub fn valid_now(pair: &Pair) -> Result<(), Fault> {
    pair.timely(UnixTime::now())
}

fn open_to_others(what: &str, file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    (mode & 0o007 != 0).then(|| {
        let file = file.display();
        format!(
            "{what}: everybody on this machine can read {file} (mode {mode:04o}): chmod 0600 {file}"
        )
    })
}
