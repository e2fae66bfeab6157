//! Certificates for `https` endpoints.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder, Identity};

use crate::config::Tls;
use crate::error::{Error, Result};

/// One TLS provider for the process; whoever installed one earlier wins.
pub(crate) fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Adds certificates and verification to `builder`. Plain HTTP gets an empty list of authorities,
/// so that it works on a machine that has none.
pub(crate) fn apply(builder: ClientBuilder, tls: &Tls, https: bool) -> Result<ClientBuilder> {
    if !https {
        return Ok(builder.tls_certs_only([]));
    }
    let mut builder = builder;
    if let Some(path) = &tls.ca_cert {
        builder = builder.tls_certs_only(authorities(path)?);
    } else if !tls.verify {
        builder = builder.tls_certs_only([]);
    }
    if !tls.verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(identity) = identity(tls)? {
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn authorities(path: &Path) -> Result<Vec<Certificate>> {
    let shown = path.display();
    let found = Certificate::from_pem_bundle(&file(path)?).map_err(|source| {
        Error::config_from(format!("the CA file {shown} is not PEM; convert it"), source)
    })?;
    if found.is_empty() {
        return Err(Error::config(format!("the CA file {shown} holds no PEM certificate")));
    }
    Ok(found)
}

fn identity(tls: &Tls) -> Result<Option<Identity>> {
    let Some(path) = &tls.client_cert else {
        return match &tls.client_key {
            None => Ok(None),
            Some(key) => Err(Error::config(format!(
                "there is a client key ({}) but no client certificate; give both",
                key.display()
            ))),
        };
    };
    let mut pem = file(path)?;
    if let Some(key) = &tls.client_key {
        pem.push(b'\n');
        pem.extend(file(key)?);
    }
    let identity = Identity::from_pem(&pem).map_err(|source| {
        let shown = path.display();
        Error::config_from(
            format!("no usable pair of PEM client certificate and unencrypted key in {shown}"),
            source,
        )
    })?;
    Ok(Some(identity))
}

fn file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|source| Error::config_from(format!("{} cannot be read", path.display()), source))
}
