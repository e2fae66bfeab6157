//! `postgresql.authentication`: the roles that hart connects as.

use std::collections::BTreeMap;

use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;
use crate::secret::Secret;

/// A role of PostgreSQL and how to connect as it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Role name.
    pub username: String,
    /// Password.
    pub password: Option<Secret>,
    /// Password of `sslkey`.
    pub sslpassword: Option<Secret>,
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

macro_rules! account {
    ($name:literal, $env:literal, $user:literal, $doc:literal) => {
        [
            key(concat!("postgresql.authentication.", $name), Kind::Section, $doc),
            key(concat!("postgresql.authentication.", $name, ".username"), Kind::Text, "Role.")
                .default($user)
                .env(concat!($env, "_USERNAME")),
            key(concat!("postgresql.authentication.", $name, ".password"), Kind::Secret, "Password.")
                .env(concat!($env, "_PASSWORD")),
            key(concat!("postgresql.authentication.", $name, ".sslmode"), SSLMODE, "As in libpq.")
                .env(concat!($env, "_SSLMODE")),
            key(concat!("postgresql.authentication.", $name, ".sslpassword"), Kind::Secret, "As in libpq.")
                .env(concat!($env, "_SSLPASSWORD")),
            account!(option $name, $env, "sslkey", "_SSLKEY"),
            account!(option $name, $env, "sslcert", "_SSLCERT"),
            account!(option $name, $env, "sslrootcert", "_SSLROOTCERT"),
            account!(option $name, $env, "sslcrl", "_SSLCRL"),
            account!(option $name, $env, "sslcrldir", "_SSLCRLDIR"),
            account!(option $name, $env, "sslnegotiation", "_SSLNEGOTIATION"),
            account!(option $name, $env, "gssencmode", "_GSSENCMODE"),
            account!(option $name, $env, "channel_binding", "_CHANNEL_BINDING"),
        ]
    };
    (option $name:literal, $env:literal, $option:literal, $suffix:literal) => {
        key(concat!("postgresql.authentication.", $name, ".", $option), Kind::Text, "As in libpq.")
            .env(concat!($env, $suffix))
    };
}

const OPTIONS: [&str; 9] = [
    "sslmode",
    "sslkey",
    "sslcert",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "gssencmode",
    "channel_binding",
];

const SUPERUSER: [KeyDoc; 13] =
    account!("superuser", "SUPERUSER", "postgres", "The role made by initdb.");
const REPLICATION: [KeyDoc; 13] = account!(
    "replication",
    "REPLICATION",
    "replicator",
    "The role for streaming and base backups."
);
const REWIND: [KeyDoc; 13] =
    account!("rewind", "REWIND", "", "The role for pg_rewind; absent: the superuser.");

pub(crate) const KEYS: &[KeyDoc] = &{
    let head = key("postgresql.authentication", Kind::Section, "Roles that hart connects as.");
    let mut all = [head; 40];
    let mut at = 0;
    while at < 13 {
        all[1 + at] = SUPERUSER[at];
        all[14 + at] = REPLICATION[at];
        all[27 + at] = REWIND[at];
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
        Self {
            superuser: Account::read(&section.section("superuser")),
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
            sslpassword: section.secret("sslpassword"),
            options: OPTIONS.iter().filter_map(|name| option(section, name)).collect(),
        }
    }
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
