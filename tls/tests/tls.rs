//! Certificates that OpenSSL and rcgen make, in files; both ends over loopback.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use hart_tls::{
    Asked, Client, ClientFiles, ClientSide, Pair, PairFiles, Server, ServerFiles, ServerSide,
    in_words, valid_now,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A directory with certificates.
struct Dir {
    path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hart-tls-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the test's CA");
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let dir = Self { path, issuer: Issuer::new(params, key) };
        dir.write("ca.crt", &ca);
        dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Signed by the CA, as NAME.crt and NAME.key.
    fn make(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> PairFiles {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        self.write(&format!("{name}.key"), &key.serialize_pem());
        let certfile = self.write(&format!("{name}.crt"), &cert);
        self.pair(certfile, Some(self.file(&format!("{name}.key"))), None)
    }

    fn pair(
        &self,
        certfile: PathBuf,
        keyfile: Option<PathBuf>,
        password: Option<&str>,
    ) -> PairFiles {
        let password = password.map(str::to_owned);
        PairFiles { section: "restapi", certfile, keyfile, password }
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What is wrong, which must name the file and nothing secret.
fn wrong(pair: &PairFiles, file: &Path) -> String {
    let text = Pair::read(pair).unwrap_err().to_string();
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("MII"), "{text}");
    text
}

#[test]
fn each_fault_of_a_file_has_its_own_words() {
    let dir = Dir::new();
    let good = dir.make("n1", |_| {});
    Pair::read(&good).unwrap();
    let with =
        |certfile: &Path, keyfile: &Path| dir.pair(certfile.into(), Some(keyfile.into()), None);
    let (cert, key) = (good.certfile.clone(), good.keyfile.clone().unwrap());

    let absent = dir.file("absent.crt");
    assert!(wrong(&with(&absent, &key), &absent).starts_with("restapi.certfile: cannot read"));
    let absent = dir.file("absent.key");
    assert!(wrong(&with(&cert, &absent), &absent).starts_with("restapi.keyfile: cannot read"));
    assert!(wrong(&with(&dir.path, &key), &dir.path).contains("no regular file"));
    let empty = dir.write("empty", "");
    assert!(wrong(&with(&empty, &key), &empty).contains("no certificate in PEM format"));
    assert!(wrong(&with(&cert, &empty), &empty).contains("no private key in PEM format"));
    // The two mixed up.
    assert!(wrong(&with(&key, &key), &key).contains("no certificate in PEM format"));
    assert!(wrong(&with(&cert, &cert), &cert).contains("no private key in PEM format"));

    let text = fs::read_to_string(&cert).unwrap();
    let cut = dir.write("cut.crt", &text[..text.len() / 2]);
    assert!(wrong(&with(&cut, &key), &cut).contains("cut off or damaged"));
    let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let noise = dir.write("noise.crt", noise);
    assert!(wrong(&with(&noise, &key), &noise).contains("no certificate (X.509)"));

    let other = dir.make("n2", |_| {});
    let text = wrong(&with(&cert, other.keyfile.as_ref().unwrap()), &cert);
    assert!(text.contains("n2.key is not that of the certificate in"), "{text}");
    let text = wrong(&dir.pair(cert.clone(), None, None), &cert);
    assert!(text.contains("restapi.keyfile is not given"), "{text}");

    let weak = dir.file("weak.key");
    openssl(&["genrsa", "-out", weak.to_str().unwrap(), "1024"]);
    assert!(wrong(&with(&cert, &weak), &weak).contains("of a kind that is not supported"));
}

#[test]
fn both_may_be_in_one_file() {
    let dir = Dir::new();
    let pair = dir.make("n1", |_| {});
    let text = fs::read_to_string(pair.keyfile.unwrap()).unwrap()
        + &fs::read_to_string(&pair.certfile).unwrap();
    let both = dir.write("both.pem", &text);
    let pair = Pair::read(&dir.pair(both.clone(), None, None)).unwrap();
    assert_eq!(pair.warning, None);
    fs::set_permissions(&both, fs::Permissions::from_mode(0o644)).unwrap();
    let warning = Pair::read(&dir.pair(both, None, None)).unwrap().warning.unwrap();
    assert!(warning.contains("mode 0644") && warning.contains("chmod 0600"), "{warning}");
}

#[test]
fn expired_and_early_is_said_with_the_day() {
    let dir = Dir::new();
    for (from, to, words) in
        [(2001, 2002, "it expired at 2002"), (2090, 2091, "it is valid from 2090")]
    {
        let files = dir.make("n1", |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        });
        let text = valid_now(&Pair::read(&files).unwrap()).unwrap_err().to_string();
        assert!(text.contains("restapi.certfile") && text.contains("n1.crt"), "{text}");
        assert!(text.contains(words), "{text}");
    }
    valid_now(&Pair::read(&dir.make("n1", |_| {})).unwrap()).unwrap();
}

/// As OpenSSL's versions have written them by default.
#[test]
fn keys_with_a_password() {
    let dir = Dir::new();
    let good = dir.make("n1", |_| {});
    let (plain, sealed) = (good.keyfile.clone().unwrap(), dir.file("sealed.key"));
    let (from, to) = (plain.to_str().unwrap(), sealed.to_str().unwrap());
    let with = |password| dir.pair(good.certfile.clone(), Some(sealed.clone()), password);
    for way in [
        &["-v2", "aes-256-cbc"][..],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"],
        &["-v2", "des3", "-v2prf", "hmacWithSHA1"],
        &["-scrypt"],
    ] {
        let fixed = ["pkcs8", "-topk8", "-in", from, "-out", to, "-passout", "pass:s3cret"];
        openssl(&[&fixed[..], way].concat());
        Pair::read(&with(Some("s3cret"))).unwrap_or_else(|error| panic!("{way:?}: {error}"));
        assert!(wrong(&with(Some("s3cret!")), &sealed).contains("the password is wrong"));
        assert!(wrong(&with(None), &sealed).contains("restapi.keyfile_password is not given"));
    }
    let text = fs::read_to_string(&sealed).unwrap();
    fs::write(&sealed, &text[..text.len() / 2]).unwrap();
    assert!(wrong(&with(Some("s3cret")), &sealed).contains("damaged"));
    // One without a password, and a password that is of no use.
    fs::copy(&plain, &sealed).unwrap();
    Pair::read(&with(Some("s3cret"))).unwrap();

    let old = ["ec", "-in", from, "-out", to, "-aes128", "-passout", "pass:s3cret"];
    openssl(&old);
    let text = wrong(&with(Some("s3cret")), &sealed);
    assert!(
        text.contains("Proc-Type: 4,ENCRYPTED") && text.contains("openssl pkcs8 -topk8"),
        "{text}"
    );
}

/// Keys in the forms that OpenSSL writes without a password.
#[test]
fn keys_of_each_kind() {
    let dir = Dir::new();
    let (key, cert) = (dir.file("k.key"), dir.file("k.crt"));
    let (k, c) = (key.to_str().unwrap(), cert.to_str().unwrap());
    for make in [
        &["genrsa", "-traditional", "-out", k, "2048"][..],
        &["ecparam", "-name", "prime256v1", "-genkey", "-out", k],
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", k],
        &["genpkey", "-algorithm", "ed25519", "-out", k],
    ] {
        openssl(make);
        openssl(&["req", "-new", "-x509", "-key", k, "-out", c, "-subj", "/CN=x"]);
        let pair = Pair::read(&dir.pair(cert.clone(), Some(key.clone()), None));
        pair.unwrap_or_else(|error| panic!("{make:?}: {error}"));
    }
}

fn server(dir: &Dir, pair: PairFiles, asked: Asked) -> ServerSide {
    let cafile = Some(dir.file("ca.crt"));
    ServerSide::read(&ServerFiles { pair, cafile, asked, ciphers: None }).unwrap()
}

fn client(ca: Option<PathBuf>, pair: Option<PairFiles>, insecure: bool) -> ClientSide {
    let ca = ca.map(|file| ("ctl.cacert", file));
    ClientSide::read(&ClientFiles { ca, pair, insecure }).unwrap()
}

/// One byte there and one back, or why not, in words. True: the server has seen a certificate.
async fn talk(server: &Server, client: &Client) -> Result<bool, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = tokio_rustls::TlsAcceptor::from(server.config());
    let there = tokio::spawn(async move {
        let mut stream = accept.accept(listener.accept().await.unwrap().0).await?;
        stream.read_u8().await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        let shown = stream.get_ref().1.peer_certificates().is_some();
        Ok::<_, std::io::Error>(shown)
    });
    let connect = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.config()));
    let here = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connect.connect(name, stream).await?;
        stream.write_u8(1).await?;
        stream.read_u8().await
    };
    let here = here.await;
    let there = there.await.unwrap();
    let words = |error: &std::io::Error| in_words(error).unwrap_or_else(|| error.to_string());
    match (here, there) {
        (Ok(_), Ok(shown)) => Ok(shown),
        (Err(here), there) => Err(format!(
            "{}; {}",
            words(&here),
            there.err().as_ref().map(words).unwrap_or_default()
        )),
        (_, Err(there)) => Err(words(&there)),
    }
}

#[tokio::test]
async fn callers_are_asked_for_certificates() {
    let dir = Dir::new();
    let ca = || Some(dir.file("ca.crt"));
    let own = dir.make("n1", |_| {});
    let nobody = Client::new(client(ca(), None, false));
    let known = Client::new(client(ca(), Some(dir.make("n2", |_| {})), false));
    let stranger_dir = Dir::new();
    let stranger = Client::new(client(ca(), Some(stranger_dir.make("evil", |_| {})), false));
    let late = dir.make("late", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let late = Client::new(client(ca(), Some(late), false));
    for (asked, without, with) in [
        (Asked::Nobody, Some(false), false),
        (Asked::Changing, Some(false), true),
        (Asked::Everybody, None, true),
    ] {
        let server = Server::new(server(&dir, own.clone(), asked));
        assert_eq!(talk(&server, &nobody).await.ok(), without, "{asked:?}");
        assert_eq!(talk(&server, &known).await, Ok(with), "{asked:?}");
        // Who shows one shows a good one, also where none is needed.
        let seen = talk(&server, &stranger).await;
        assert_eq!(seen.is_ok(), asked == Asked::Nobody, "{asked:?} {seen:?}");
    }
    let server = Server::new(server(&dir, own, Asked::Everybody));
    let why = talk(&server, &nobody).await.unwrap_err();
    assert!(why.contains("give ctl.certfile") && why.contains("showed no certificate"), "{why}");
    let why = talk(&server, &stranger).await.unwrap_err();
    assert!(
        why.contains("the caller's certificate is not signed by a CA in restapi.cafile"),
        "{why}"
    );
    let why = talk(&server, &late).await.unwrap_err();
    assert!(why.contains("the caller's certificate: it expired at 2002"), "{why}");
}

#[tokio::test]
async fn servers_are_believed_by_ca_and_name() {
    let dir = Dir::new();
    let ca = || Some(dir.file("ca.crt"));
    let good = dir.make("n1", |_| {});
    let elsewhere = dir.make("n2", |params| {
        params.subject_alt_names =
            CertificateParams::new(vec!["db2.example".to_owned()]).unwrap().subject_alt_names;
    });
    let other = Dir::new();
    let serve = |pair: &PairFiles| Server::new(server(&dir, pair.clone(), Asked::Nobody));
    let call = |side| Client::new(side);
    assert_eq!(talk(&serve(&good), &call(client(ca(), None, false))).await, Ok(false));
    let why = talk(&serve(&elsewhere), &call(client(ca(), None, false))).await.unwrap_err();
    assert!(why.contains("not for \"127.0.0.1\"") && why.contains("subjectAltName"), "{why}");
    let stranger = || Some(other.file("ca.crt"));
    let why = talk(&serve(&good), &call(client(stranger(), None, false))).await.unwrap_err();
    assert!(why.contains("not signed by a CA in ctl.cacert"), "{why}");
    // Not among the system's.
    talk(&serve(&good), &Client::default()).await.unwrap_err();
    // insecure: everything; with a certificate of the caller's, any name.
    assert_eq!(talk(&serve(&good), &call(client(stranger(), None, true))).await, Ok(false));
    assert_eq!(talk(&serve(&elsewhere), &call(client(None, None, true))).await, Ok(false));
    let shows = || Some(good.clone());
    assert_eq!(talk(&serve(&elsewhere), &call(client(ca(), shows(), true))).await, Ok(false));
    talk(&serve(&good), &call(client(stranger(), shows(), true))).await.unwrap_err();
}

/// `openssl req -x509`, as most try-outs and Patroni's own tests have it: a CA that is its own server and
/// its own client.
#[tokio::test]
async fn one_certificate_that_signed_itself_is_everything() {
    let dir = Dir::new();
    let (key, cert) = (dir.file("one.key"), dir.file("one.crt"));
    openssl(&[
        "req",
        "-nodes",
        "-new",
        "-x509",
        "-subj",
        "/CN=patroni",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        cert.to_str().unwrap(),
    ]);
    let pair = dir.pair(cert.clone(), Some(key), None);
    let files = ServerFiles {
        pair: pair.clone(),
        cafile: Some(cert.clone()),
        asked: Asked::Everybody,
        ciphers: Some("ECDHE-RSA-AES128-GCM-SHA256:RC4".to_owned()),
    };
    let server = ServerSide::read(&files).unwrap();
    assert!(server.warnings[0].contains("RC4 is ignored"), "{:?}", server.warnings);
    let side = client(Some(cert.clone()), Some(pair), false);
    server.takes(&side).unwrap();
    side.believes(server.pair(), "127.0.0.1").unwrap();
    let why = side.believes(server.pair(), "10.0.0.1").unwrap_err();
    assert!(why.contains("not for \"10.0.0.1\""), "{why}");
    let why = server.takes(&client(Some(cert), None, false)).unwrap_err();
    assert!(why.contains("ctl.certfile"), "{why}");
    assert_eq!(talk(&Server::new(server), &Client::new(side)).await, Ok(true));
}

#[test]
fn a_certificate_for_another_purpose_is_told_apart() {
    let dir = Dir::new();
    let only = dir.make("n1", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let server = server(&dir, only.clone(), Asked::Everybody);
    let why = server.takes(&client(Some(dir.file("ca.crt")), Some(only), false)).unwrap_err();
    assert!(why.contains("clientAuth"), "{why}");
}

/// Both ends follow what was read again; a CA that is not believed any more is not by resumption either.
#[tokio::test]
async fn what_was_renewed_counts_for_the_next_connection() {
    let (dir, new) = (Dir::new(), Dir::new());
    let server = Server::new(server(&dir, dir.make("n1", |_| {}), Asked::Everybody));
    let side = |dir: &Dir| client(Some(dir.file("ca.crt")), Some(dir.make("n2", |_| {})), false);
    let client = Client::new(side(&dir));
    assert_eq!(talk(&server, &client).await, Ok(true));
    server.renew(self::server(&new, new.make("n1", |_| {}), Asked::Everybody));
    talk(&server, &client).await.unwrap_err();
    client.renew(side(&new));
    assert_eq!(talk(&server, &client).await, Ok(true));
}
