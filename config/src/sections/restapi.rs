//! `restapi` and `ctl`: the REST API and the access to other nodes' REST API.

use std::path::PathBuf;

use crate::address::Address;
use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::secret::Secret;
use crate::words::words;

words! {
    /// Must callers of the REST API show a certificate?
    VerifyClient {
        /// No.
        #[default]
        None = "none" | "false" | "off" | "no",
        /// For calls that change something.
        Optional = "optional",
        /// For every call.
        Required = "required",
    }
}

/// User and password for HTTP Basic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// The REST API of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestApi {
    /// Where it listens; the host may be `*`.
    pub listen: Address,
    /// Where others reach it.
    pub connect_address: Address,
    /// Needed for calls that change something.
    pub authentication: Option<Credentials>,
    /// PEM certificate; with it the API speaks HTTPS.
    pub certfile: Option<PathBuf>,
    /// PEM key, where it is not in `certfile`.
    pub keyfile: Option<PathBuf>,
    /// The key's password.
    pub keyfile_password: Option<Secret>,
    /// CA of the callers' certificates.
    pub cafile: Option<PathBuf>,
    /// Must callers show a certificate?
    pub verify_client: VerifyClient,
    /// OpenSSL's list of cipher suites, for what there is of TLS 1.2.
    pub ciphers: Option<String>,
    /// Calls that change something are taken from everybody, where nothing else limits them.
    pub open: bool,
    /// Hosts and networks that may make calls that change something; see [`RestApi::has_allowlist`].
    pub allowlist: Vec<String>,
    /// Members may do so too.
    pub allowlist_include_members: bool,
    /// Headers of every answer.
    pub http_extra_headers: Vec<(String, String)>,
    /// Headers of every answer over HTTPS.
    pub https_extra_headers: Vec<(String, String)>,
}

/// How the command line reaches other nodes' REST API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ctl {
    /// Do not verify certificates.
    pub insecure: bool,
    /// CA of the nodes' certificates.
    pub cacert: Option<PathBuf>,
    /// Client certificate.
    pub certfile: Option<PathBuf>,
    /// Its key.
    pub keyfile: Option<PathBuf>,
    /// The key's password.
    pub keyfile_password: Option<Secret>,
    /// User and password, where they differ from `restapi.authentication`.
    pub authentication: Option<Credentials>,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("restapi", Kind::Section, "The node's REST API."),
    key("restapi.listen", Kind::Address, "Where it listens.").required().env("RESTAPI_LISTEN"),
    key(
        "restapi.connect_address",
        Kind::Address,
        "Where others reach it; listen, if that names a host.",
    )
    .env("RESTAPI_CONNECT_ADDRESS"),
    key("restapi.authentication", Kind::Section, "HTTP Basic for calls that change something."),
    key("restapi.authentication.username", Kind::Text, "User.").env("RESTAPI_USERNAME"),
    key("restapi.authentication.password", Kind::Secret, "Password.").env("RESTAPI_PASSWORD"),
    key(
        "restapi.auth",
        Kind::Secret,
        "The old form of authentication: 'user:password'. authentication wins.",
    )
    .env("RESTAPI_AUTH"),
    key("restapi.certfile", Kind::Path, "PEM certificate, with those of the CAs between it and the root; turns on HTTPS. Read again at each reload.").env("RESTAPI_CERTFILE"),
    key("restapi.keyfile", Kind::Path, "PEM key, where it is not in certfile.").env("RESTAPI_KEYFILE"),
    key("restapi.keyfile_password", Kind::Secret, "The password of an encrypted key (PKCS #8).")
        .env("RESTAPI_KEYFILE_PASSWORD"),
    key(
        "restapi.cafile",
        Kind::Path,
        "CAs of the callers' certificates, and of the members' where ctl.cacert is not given.",
    )
    .env("RESTAPI_CAFILE"),
    key(
        "restapi.verify_client",
        Kind::Words(VerifyClient::WORDS),
        "Whether callers must show a certificate that cafile has signed: nobody, whoever changes \
         something (optional), everybody (required).",
    )
    .default("none")
    .env("RESTAPI_VERIFY_CLIENT"),
    key(
        "restapi.open",
        Kind::Flag,
        "Take changing calls from everybody where neither authentication nor an allowlist is set; \
         else this host and the members may make them.",
    )
    .default("false")
    .env("RESTAPI_OPEN"),
    key("restapi.allowlist", Kind::List, "Hosts and networks that may make changing calls.")
        .env("RESTAPI_ALLOWLIST"),
    key("restapi.allowlist_include_members", Kind::Flag, "Members may make changing calls.")
        .default("false")
        .env("RESTAPI_ALLOWLIST_INCLUDE_MEMBERS"),
    key("restapi.http_extra_headers", Kind::Map, "Headers of every answer.")
        .env("RESTAPI_HTTP_EXTRA_HEADERS"),
    key("restapi.https_extra_headers", Kind::Map, "Headers of every answer over HTTPS.")
        .env("RESTAPI_HTTPS_EXTRA_HEADERS"),
    key(
        "restapi.ciphers",
        Kind::Text,
        "OpenSSL's list of cipher suites for TLS 1.2; what it names beyond ECDHE with AES-GCM or ChaCha20 is \
         ignored with a warning.",
    )
    .env("RESTAPI_CIPHERS"),
    ignored("restapi.request_queue_size").env("RESTAPI_REQUEST_QUEUE_SIZE"),
    ignored("restapi.thread_pool_size").env("RESTAPI_THREAD_POOL_SIZE"),
    ignored("restapi.server_tokens").env("RESTAPI_SERVER_TOKENS"),
];

pub(crate) const CTL_KEYS: &[KeyDoc] = &[
    key("ctl", Kind::Section, "How the command line reaches other nodes' REST API."),
    key(
        "ctl.insecure",
        Kind::Flag,
        "Do not verify members' certificates; with certfile and a CA the names in them only.",
    )
    .default("false")
    .env("CTL_INSECURE"),
    key(
        "ctl.cacert",
        Kind::Path,
        "CAs of the members' certificates; restapi.cafile, or the system's, where it is not given.",
    )
    .env("CTL_CACERT"),
    key(
        "ctl.certfile",
        Kind::Path,
        "Certificate that commands, and members among themselves, show; where it is not given and \
         restapi.verify_client is set: restapi.certfile.",
    )
    .env("CTL_CERTFILE"),
    key("ctl.keyfile", Kind::Path, "Its key, where it is not in certfile.").env("CTL_KEYFILE"),
    key("ctl.keyfile_password", Kind::Secret, "The key's password.").env("CTL_KEYFILE_PASSWORD"),
    key("ctl.authentication", Kind::Section, "HTTP Basic, where it differs from restapi."),
    key("ctl.authentication.username", Kind::Text, "User.").env("CTL_USERNAME"),
    key("ctl.authentication.password", Kind::Secret, "Password.").env("CTL_PASSWORD"),
];

impl RestApi {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("restapi");
        let listen: Address = section.address("listen").unwrap_or_default();
        let api = Self {
            connect_address: connect_address(&section, &listen),
            listen,
            authentication: credentials(&section).or_else(|| old_credentials(&section)),
            certfile: section.file("certfile"),
            keyfile: section.file("keyfile"),
            keyfile_password: section.secret("keyfile_password"),
            cafile: section.file("cafile"),
            verify_client: section.word("verify_client").unwrap_or_default(),
            ciphers: section.text("ciphers"),
            open: section.flag("open").unwrap_or(false),
            allowlist: section.list("allowlist"),
            allowlist_include_members: section.flag("allowlist_include_members").unwrap_or(false),
            http_extra_headers: section.texts("http_extra_headers").into_iter().collect(),
            https_extra_headers: section.texts("https_extra_headers").into_iter().collect(),
        };
        needs(&section, "keyfile", "certfile");
        if api.verify_client != VerifyClient::None {
            needs(&section, "verify_client", "certfile");
            needs(&section, "verify_client", "cafile");
        }
        api
    }

    /// Is it limited who may make calls that change something?
    #[must_use]
    pub fn has_allowlist(&self) -> bool {
        !self.allowlist.is_empty() || self.allowlist_include_members
    }

    /// Does everybody who reaches it have to be somebody: by password, address, certificate, or as a member?
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        let certificates = self.certfile.is_some() && self.verify_client != VerifyClient::None;
        self.authentication.is_some() || self.has_allowlist() || certificates
    }

    /// `https` with a certificate, else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.certfile.is_some() { "https" } else { "http" }
    }

    /// The URL of `path` for others, such as `http://10.0.0.21:8008/patroni`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}/{}", self.scheme(), self.connect_address, path.trim_start_matches('/'))
    }
}

/// As given, else `listen` where that is an address to connect to.
fn connect_address(section: &Section<'_>, listen: &Address) -> Address {
    if let Some(address) = section.address::<Address>("connect_address") {
        refuse_wildcard(section, &address);
        return address;
    }
    let listening = section.given("listen").is_some();
    if listening && listen.is_wildcard() && section.given("connect_address").is_none() {
        section.missing("connect_address");
    }
    listen.clone()
}

/// Others cannot connect to `*`.
pub(super) fn refuse_wildcard(section: &Section<'_>, address: &Address) {
    if address.is_wildcard()
        && let Some(node) = section.given("connect_address")
    {
        let what = format!("expected one address that others reach, found {}", node.found());
        section.problem("connect_address", node, what, Kind::Address.hint());
    }
}

/// Reports `key` where it is given without `other`.
fn needs(section: &Section<'_>, key: &str, other: &str) {
    if let (Some(node), None) = (section.given(key), section.given(other)) {
        let (key_path, other_path) = (section.path(key), section.path(other));
        let what = format!("is of no use without {other_path}");
        section.problem(key, node, what, format!("give {other_path}, or remove {key_path}"));
    }
}

fn credentials(parent: &Section<'_>) -> Option<Credentials> {
    let section = parent.section("authentication");
    match (section.text("username"), section.secret("password")) {
        (Some(username), Some(password)) => return Some(Credentials { username, password }),
        (Some(_), None) => section.missing("password"),
        (None, Some(_)) => section.missing("username"),
        (None, None) => {}
    }
    None
}

/// `user:password` in one text, as old files have it. Whoever wrote it wanted a locked door: what
/// cannot be read is refused, not passed over.
fn old_credentials(section: &Section<'_>) -> Option<Credentials> {
    let given = section.secret("auth")?;
    let pair =
        given.expose().split_once(':').filter(|(user, word)| !user.is_empty() && !word.is_empty());
    let Some((username, password)) = pair else {
        if let Some(node) = section.given("auth") {
            let what = "expected 'user:password', found ***".to_owned();
            section.problem(
                "auth",
                node,
                what,
                "give restapi.authentication.username and password",
            );
        }
        return None;
    };
    Some(Credentials { username: username.to_owned(), password: Secret::new(password) })
}

impl Ctl {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("ctl");
        Self {
            insecure: section.flag("insecure").unwrap_or(false),
            cacert: section.file("cacert"),
            certfile: section.file("certfile"),
            keyfile: section.file("keyfile"),
            keyfile_password: section.secret("keyfile_password"),
            authentication: credentials(&section),
        }
    }
}
