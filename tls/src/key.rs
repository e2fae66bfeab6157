//! Private keys, with a password where they have one.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::files::Fault;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// Is there any private key in this text?
pub(crate) fn is_in(text: &[u8]) -> bool {
    has(text, b"PRIVATE KEY-----")
}

/// The key in `text`. `what` names the setting, as in `restapi.keyfile`.
pub(crate) fn read(
    what: &str,
    file: &Path,
    text: &[u8],
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, Fault> {
    let fault = |why: String| Err(Fault(format!("{what}: {} {why}", file.display())));
    let shown = file.display();
    if has(text, b"Proc-Type: 4,ENCRYPTED") {
        return fault(format!(
            "is encrypted in OpenSSL's old way (Proc-Type: 4,ENCRYPTED), which is not supported: convert \
             it with \"openssl pkcs8 -topk8 -v2 aes-256-cbc -in {shown} -out NEW\" and name the new file"
        ));
    }
    if has(text, BEGIN.as_bytes()) {
        let Some(password) = password else {
            return fault(format!("is encrypted, and {what}_password is not given"));
        };
        return decrypt(text, password).or_else(|why| fault(why.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(text).or_else(|_| {
        fault("holds no private key in PEM format (-----BEGIN PRIVATE KEY-----)".to_owned())
    })
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn decrypt(text: &[u8], password: &str) -> Result<PrivateKeyDer<'static>, &'static str> {
    const DAMAGED: &str = "holds an encrypted key that is cut off or damaged (PEM)";
    let text = String::from_utf8_lossy(text);
    let (_, rest) = text.split_once(BEGIN).ok_or(DAMAGED)?;
    let (body, _) = rest.split_once(END).ok_or(DAMAGED)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| DAMAGED)?;
    let sealed = EncryptedPrivateKeyInfoRef::try_from(&der[..]).map_err(|_| {
        "is encrypted in a way that is not supported: convert it with \"openssl pkcs8 -topk8 -v2 \
         aes-256-cbc\" and name the new file"
    })?;
    let key = sealed.decrypt(password).map_err(|_| {
        "cannot be decrypted: the password is wrong, or the key is encrypted in a way that is not supported \
         (\"openssl pkcs8 -topk8 -v2 aes-256-cbc\" makes one that is)"
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}
