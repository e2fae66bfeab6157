//! What is read from files, and what is wrong with them.

use std::fs;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// What is wrong with a file or setting, for people: which one, what, and what to do. Never a part of
/// the file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// A longer file is no certificate: it would be read into memory whole.
const LONGEST: u64 = 16 << 20;

pub(crate) fn read(what: &str, file: &Path) -> Result<Vec<u8>, Fault> {
    let failed = |why: &dyn std::fmt::Display| {
        Fault(format!("{what}: cannot read {}: {why}", file.display()))
    };
    let found = fs::metadata(file).map_err(|error| failed(&error))?;
    if !found.is_file() {
        return Err(failed(&"it is no regular file"));
    }
    if found.len() > LONGEST {
        return Err(failed(&format!("it has {} bytes", found.len())));
    }
    fs::read(file).map_err(|error| failed(&error))
}

/// All certificates of a PEM file.
pub(crate) fn certificates(
    what: &str,
    file: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(Fault(format!(
            "{what}: {} holds no certificate in PEM format (-----BEGIN CERTIFICATE-----)",
            file.display()
        ))),
        Err(_) => Err(Fault(format!(
            "{what}: the certificate in {} is cut off or damaged (PEM)",
            file.display()
        ))),
    }
}
