//! `postgresql.authentication`: the roles that hart connects as.

use std::collections::BTreeMap;

use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;
use crate::secret::Secret;
use crate::warning::WarningKind;

/// A role of PostgreSQL and how to connect as it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Role name.
    pub username: String,
    /// Password.
    pub password: Option<Secret>,
    /// Other connection parameters by libpq's names, such as `sslmode`. (Patroni's `gssencmode` is
    /// the same name in libpq.)
    pub options: BTreeMap<String, String>,
}

/// The roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// Made by initdb.
    pub superuser: Account,
    /// For streaming and base backups.
    pub replication: Account,
    /// For `pg_rewind`; absent: the superuser.
    pub rewind: Option<Account>,
}

impl Authentication {
    /// The role for `pg_rewind`.
    #[must_use]
    pub fn rewind_or_superuser(&self) -> &Account {
        self.rewind.as_ref().unwrap_or(&self.superuser)
    }
}

const SSLMODE: Kind =
    Kind::Words(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]);

/// What an option is, beyond libpq's own words.
const fn said(option: &str) -> &'static str {
    match option.as_bytes() {
        b"sslcert" => "Our certificate, PEM; absent: ~/.postgresql/postgresql.crt, if there.",
        b"sslkey" => "Its key, PEM, without a password, readable for its owner alone.",
        b"sslrootcert" => {
            "CAs of servers, PEM, or `system`; absent: ~/.postgresql/root.crt, if there."
        }
        b"sslcrl" => "Revoked certificates, PEM.",
        b"sslcrldir" => "A directory of such lists.",
        b"sslnegotiation" => "`direct` (PostgreSQL 17): TLS without asking for it.",
        b"gssencmode" => "As in libpq; hart's own connections do without GSSAPI.",
        b"channel_binding" => "`disable`, `prefer` or `require`, as in libpq.",
        b"require_auth" => "Ways of authentication that are good enough, as in libpq 16.",
        _ => "As in libpq.",
    }
}

macro_rules! account {
    ($name:literal, $env:literal, $user:literal, $doc:literal) => {
        [
            key(concat!("postgresql.authentication.", $name), Kind::Section, $doc),
            key(concat!("postgresql.authentication.", $name, ".username"), Kind::Text, "Role.")
                .default($user)
                .env(concat!($env, "_USERNAME")),
            key(concat!("postgresql.authentication.", $name, ".password"), Kind::Secret, "Password.")
                .env(concat!($env, "_PASSWORD")),
            key(
                concat!("postgresql.authentication.", $name, ".sslmode"),
                SSLMODE,
                "As in libpq, also for hart's own connections (over the Unix socket there is no TLS); \
                 absent: prefer.",
            )
            .env(concat!($env, "_SSLMODE")),
            key(
                concat!("postgresql.authentication.", $name, ".sslpassword"),
                Kind::Secret,
                "store sslkey without a password (openssl pkey -in FILE -out NEW), mode 0600.",
            )
            .env(concat!($env, "_SSLPASSWORD"))
            .unused(),
            account!(option $name, $env, "sslkey", "_SSLKEY"),
            account!(option $name, $env, "sslcert", "_SSLCERT"),
            account!(option $name, $env, "sslrootcert", "_SSLROOTCERT"),
            account!(option $name, $env, "sslcrl", "_SSLCRL"),
            account!(option $name, $env, "sslcrldir", "_SSLCRLDIR"),
            account!(option $name, $env, "sslnegotiation", "_SSLNEGOTIATION"),
            account!(option $name, $env, "gssencmode", "_GSSENCMODE"),
            account!(option $name, $env, "channel_binding", "_CHANNEL_BINDING"),
            account!(option $name, $env, "require_auth", "_REQUIRE_AUTH"),
        ]
    };
    (option $name:literal, $env:literal, $option:literal, $suffix:literal) => {
        key(concat!("postgresql.authentication.", $name, ".", $option), Kind::Text, said($option))
            .env(concat!($env, $suffix))
    };
}

const OPTIONS: [&str; 10] = [
    "sslmode",
    "sslkey",
    "sslcert",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "gssencmode",
    "channel_binding",
    "require_auth",
];

const SUPERUSER: [KeyDoc; 14] =
    account!("superuser", "SUPERUSER", "postgres", "The role made by initdb.");
const REPLICATION: [KeyDoc; 14] = account!(
    "replication",
    "REPLICATION",
    "replicator",
    "The role for streaming and base backups."
);
const REWIND: [KeyDoc; 14] =
    account!("rewind", "REWIND", "", "The role for pg_rewind; absent: the superuser.");

pub(crate) const KEYS: &[KeyDoc] = &{
    let head = key("postgresql.authentication", Kind::Section, "Roles that hart connects as.");
    let mut all = [head; 43];
    let mut at = 0;
    while at < 14 {
        all[1 + at] = SUPERUSER[at];
        all[15 + at] = REPLICATION[at];
        all[29 + at] = REWIND[at];
        at += 1;
    }
    all
};

impl Authentication {
    pub(crate) fn read(postgresql: &Section<'_>) -> Self {
        let section = postgresql.section("authentication");
        let rewind = section.section("rewind");
        let account = Account::read(&rewind);
        if rewind.is_given() && account.username.is_empty() {
            rewind.missing("username");
        }
        let superuser = Account::read(&section.section("superuser"));
        if !rewind.is_given() && superuser.password.is_some() {
            warn_of_superuser(&section);
        }
        Self {
            superuser,
            replication: Account::read(&section.section("replication")),
            rewind: rewind.is_given().then_some(account),
        }
    }
}

impl Account {
    fn read(section: &Section<'_>) -> Self {
        Self {
            username: username(section).unwrap_or_default(),
            password: section.secret("password"),
            options: OPTIONS.iter().filter_map(|name| option(section, name)).collect(),
        }
    }
}

/// Whoever can write members' addresses in Consul would be sent its login.
fn warn_of_superuser(authentication: &Section<'_>) {
    let Some(node) = authentication.given("superuser") else { return };
    let text = "there is no rewind role, so the superuser logs in to other members over the network; \
                add postgresql.authentication.rewind (hart makes the role)";
    authentication.warn("superuser", &node.place, WarningKind::Note { text: text.to_owned() });
}

fn username(section: &Section<'_>) -> Option<String> {
    section.scalar("username", |text| (!text.is_empty()).then(|| text.to_owned()))
}

fn option(section: &Section<'_>, name: &str) -> Option<(String, String)> {
    let known = |text: &str| match SSLMODE {
        Kind::Words(words) if name == "sslmode" => words.contains(&text),
        _ => true,
    };
    let value = section.scalar(name, |text| known(text).then(|| text.to_owned()))?;
    Some((name.to_owned(), value))
}
