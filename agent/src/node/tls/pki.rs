//! Certificates for tests, in a directory that goes with the value.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A CA, and what it has signed for 127.0.0.1.
pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// `ca.crt`, and NAME.crt and NAME.key for each.
    pub fn new(names: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("hart-pki-{:x}", fastrand::u64(..)));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("CA {}", dir.display()));
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let pki = Self { dir, issuer: Issuer::new(params, key) };
        pki.write("ca.crt", &ca);
        names.iter().for_each(|name| pki.sign(name, 2090));
        pki
    }

    /// Makes NAME.crt and NAME.key anew, valid until the first day of `year`.
    pub fn sign(&self, name: &str, year: i32) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) =
            (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.crt"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    pub fn at(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    /// Lines of `restapi` with the certificate of this name.
    pub fn restapi(&self, name: &str) -> String {
        let (cert, key) = (self.at(&format!("{name}.crt")), self.at(&format!("{name}.key")));
        format!("  certfile: {cert}\n  keyfile: {key}\n  cafile: {}\n", self.at("ca.crt"))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
