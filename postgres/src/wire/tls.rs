//! From files to TLS. They are read at each connection, so that a renewed certificate counts at once.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use hart_tls::{Names, Trust, Verifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::options::{Mode, Options, Roots};

/// A file of this member's own is missing or unfit: nothing is known about the server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TlsFault(pub String);

fn fault<T>(text: impl Into<String>) -> Result<T, TlsFault> {
    Err(TlsFault(text.into()))
}

/// What a connection with these options encrypts with; `hosts` are the names by which the server may
/// be known. Reads files.
pub(crate) fn config(options: &Options, hosts: &[String]) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(default_provider());
    let known = provider.signature_verification_algorithms;
    let trust = trust(options, &provider)?;
    if trust.is_none() && options.mode >= Mode::VerifyCa {
        let file = match &options.roots {
            Roots::File(file) | Roots::Default(file) => file.display().to_string(),
            Roots::System | Roots::None => "~/.postgresql/root.crt".to_owned(),
        };
        return fault(format!(
            "sslmode: verify-ca and verify-full need the CA's certificate, and there is no {file}; \
             name the file with sslrootcert"
        ));
    }
    let names = match options.mode {
        Mode::VerifyFull => Names::Of(hosts.to_vec()),
        _ => Names::Any,
    };
    let remedy = "make one with that name in subjectAltName, or use the certificate's name in \
                  postgresql.connect_address";
    let verifier = Arc::new(Verifier { trust, names, remedy, known });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFault(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own(options)? {
        Some((chain, key, named)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                TlsFault(format!("{named}: {error}; do sslcert and sslkey belong together?"))
            })?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    if options.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

/// A root file that is there is used in every mode, as libpq does.
fn trust(
    options: &Options,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Trust>, TlsFault> {
    let (roots, from) = match &options.roots {
        Roots::None => return Ok(None),
        Roots::System if options.mode < Mode::VerifyFull => {
            return fault("sslrootcert: system needs sslmode: verify-full");
        }
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            (found.certs, "the system's list of CAs".to_owned())
        }
        Roots::File(file) | Roots::Default(file) => {
            if is_missing(file) {
                return Ok(None);
            }
            (certificates("sslrootcert", file)?, file.display().to_string())
        }
    };
    let mut store = RootCertStore::empty();
    for root in &roots {
        // One that the library cannot use may still be the very one that the server shows.
        let _ = store.add(root.clone());
    }
    if roots.is_empty() {
        return fault(format!("sslrootcert: there is no certificate in {from}"));
    }
    let crls = revoked(options)?;
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
    let builder = match crls.is_empty() {
        true => builder,
        false => builder.with_crls(crls).enforce_revocation_expiration(),
    };
    let built = builder.build();
    let chain = built.map_err(|error| TlsFault(format!("sslrootcert {from}, sslcrl: {error}")))?;
    let remedy = "give the CA that signed it as sslrootcert";
    Ok(Some(Trust { chain, roots, from, remedy }))
}

fn revoked(options: &Options) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFault> {
    let mut files: Vec<_> = options.crl.iter().cloned().collect();
    if let Some(dir) = &options.crl_dir {
        let entries = fs::read_dir(dir).map_err(|error| unreadable("sslcrldir", dir, &error))?;
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    let mut all = Vec::new();
    for file in files {
        let text = read("sslcrl", &file)?;
        for list in CertificateRevocationListDer::pem_slice_iter(&text) {
            all.push(list.map_err(|_| TlsFault(no_pem("sslcrl", &file)))?);
        }
    }
    Ok(all)
}

/// Our certificate, its key, and the file for messages.
type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, String);

fn own(options: &Options) -> Result<Option<Own>, TlsFault> {
    let Some((cert, key, named)) = &options.own else { return Ok(None) };
    if !named && is_missing(cert) {
        return Ok(None);
    }
    let chain = certificates("sslcert", cert)?;
    is_private(key)?;
    let text = read("sslkey", key)?;
    if text.windows(9).any(|part| part == b"ENCRYPTED") {
        return fault(format!(
            "sslkey: {} is encrypted with a password, which is not supported: store the key without one \
             (openssl pkey -in FILE -out NEW), readable for its owner alone",
            key.display()
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsFault(no_pem("sslkey", key)))?;
    Ok(Some((chain, key, format!("sslcert {}", cert.display()))))
}

/// The same rule as libpq's, which would refuse the file for the tools and for streaming.
fn is_private(key: &Path) -> Result<(), TlsFault> {
    let found = fs::metadata(key).map_err(|error| unreadable("sslkey", key, &error))?;
    let others = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.mode() & others != 0 {
        let mode = if found.uid() == 0 { "0640" } else { "0600" };
        return fault(format!(
            "sslkey: {} can be read by others (mode {:04o}): chmod {mode}",
            key.display(),
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let text = read(what, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => fault(no_pem(what, file)),
    }
}

fn is_missing(file: &Path) -> bool {
    fs::metadata(file).is_err_and(|error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    })
}

fn read(what: &str, file: &Path) -> Result<Vec<u8>, TlsFault> {
    fs::read(file).map_err(|error| unreadable(what, file, &error))
}

fn unreadable(what: &str, file: &Path, error: &io::Error) -> TlsFault {
    TlsFault(format!("{what}: cannot read {}: {error}", file.display()))
}

fn no_pem(what: &str, file: &Path) -> String {
    let kind = match what {
        "sslkey" => "private key",
        "sslcrl" => "revocation list",
        _ => "certificate",
    };
    format!("{what}: {} holds no {kind} in PEM format", file.display())
}
