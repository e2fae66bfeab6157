//! Certificates of a test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A CA with its files in a directory.
pub struct Ca {
    dir: PathBuf,
    owner: Option<(u32, u32)>,
    issuer: Issuer<'static, KeyPair>,
    pub file: String,
    key_file: PathBuf,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
    pub serial: u64,
}

impl Ca {
    pub fn new(dir: &Path, name: &str, owner: Option<(u32, u32)>) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let file = put(dir, &format!("{name}.crt"), &cert.pem(), owner);
        let key_file = put(dir, &format!("{name}.key"), &key.serialize_pem(), owner);
        let issuer = Issuer::new(params, key);
        let (dir, file) = (dir.to_owned(), file.display().to_string());
        Self { dir, owner, issuer, file, key_file }
    }

    /// Signed by this CA, for these names; without any only the common name has the first.
    pub fn sign(&self, file: &str, edit: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let serial = u64::from(self.dir.read_dir().unwrap().count() as u32) + 100;
        params.serial_number = Some(serial.into());
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        self.pair(file, &cert, &key, serial)
    }

    fn pair(&self, file: &str, cert: &Certificate, key: &KeyPair, serial: u64) -> Pair {
        let cert = put(&self.dir, &format!("{file}.crt"), &cert.pem(), self.owner);
        let key = put(&self.dir, &format!("{file}.key"), &key.serialize_pem(), self.owner);
        Pair { cert: cert.display().to_string(), key: key.display().to_string(), serial }
    }

    /// Signed by itself.
    pub fn alone(&self, file: &str, edit: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        self.pair(file, &cert, &key, 0)
    }

    /// A certificate of version 1, as `openssl x509 -req` makes it by PostgreSQL's documentation.
    pub fn sign_as_documented(&self, file: &str, host: &str) -> Pair {
        let path = |end: &str| self.dir.join(format!("{file}.{end}"));
        let openssl = |args: &[&str], files: &[(&str, PathBuf)]| {
            let mut command = Command::new("openssl");
            command.args(args);
            for (option, file) in files {
                command.arg(option).arg(file);
            }
            let output = command.output().expect("openssl is installed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let subject = format!("/CN={host}");
        let request = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", &subject];
        openssl(&request, &[("-keyout", path("key")), ("-out", path("csr"))]);
        let ca = [("-CA", PathBuf::from(&self.file)), ("-CAkey", self.key_file.clone())];
        let [cert, key] = ca;
        let sign = ["x509", "-req", "-days", "30", "-CAcreateserial"];
        openssl(&sign, &[("-in", path("csr")), ("-out", path("crt")), cert, key]);
        for end in ["crt", "key"] {
            give(&path(end), self.owner);
        }
        let text = |end: &str| path(end).display().to_string();
        Pair { cert: text("crt"), key: text("key"), serial: 0 }
    }

    /// A list of what is revoked.
    pub fn revoke(&self, file: &str, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        put(&self.dir, file, &pem, self.owner).display().to_string()
    }
}

fn give(path: &Path, owner: Option<(u32, u32)>) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((uid, gid)) = owner {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn put(dir: &Path, name: &str, text: &str, owner: Option<(u32, u32)>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    give(&path, owner);
    path
}
