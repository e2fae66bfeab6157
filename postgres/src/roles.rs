//! The roles that a cluster needs.

use std::time::Duration;

use postgres_protocol::password;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::link::Session;
use crate::postgres::Postgres;
use crate::quote::{ident, literal};
use crate::settings::{Credentials, Settings};

/// What `pg_rewind` calls on its source (its documentation lists them).
const REWIND_FUNCTIONS: &[&str] = &[
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

impl Postgres {
    /// Creates the replication and the rewind role, or brings them and the superuser's password in
    /// line with the settings. Only verifiers are sent, and the statements are not logged.
    ///
    /// # Errors
    /// The server is a standby, or refused a statement.
    pub async fn ensure_roles(&self, within: Duration) -> Result<()> {
        let settings = self.settings();
        let until = Instant::now() + within;
        let failed = || Error::sql("creating the roles");
        let session = Session::open(&settings, self.major(), within).await.map_err(failed())?;
        // The session's options keep statements out of the log; this does so for failed ones.
        let quiet = "SET log_min_error_statement TO panic; SET log_min_messages TO panic";
        session.query(quiet, until, within).await.map_err(failed())?;
        for (who, attributes) in roles(&settings) {
            let sql = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(&who.username));
            let is_there = session.value(&sql, until, within).await.map_err(failed())?.is_some();
            let sql = role_sql(&settings, who, attributes, is_there);
            session.query(&sql, until, within).await.map_err(failed())?;
        }
        if let Some(rewind) = &settings.rewind {
            session.query(&grants(rewind), until, within).await.map_err(failed())?;
        }
        Ok(())
    }
}

/// Roles with their attributes. A role that serves twice keeps the attributes of both.
fn roles(settings: &Settings) -> Vec<(&Credentials, &'static str)> {
    let superuser = &settings.superuser;
    let mut out = vec![(superuser, "LOGIN SUPERUSER")];
    if settings.replication.username != superuser.username {
        out.push((&settings.replication, "LOGIN REPLICATION"));
    }
    if let Some(rewind) = &settings.rewind
        && rewind.username != superuser.username
        && rewind.username != settings.replication.username
    {
        out.push((rewind, "LOGIN"));
    }
    out
}

fn role_sql(settings: &Settings, who: &Credentials, attributes: &str, is_there: bool) -> String {
    let verb = if is_there { "ALTER" } else { "CREATE" };
    let mut sql = format!("{verb} ROLE {} WITH {attributes}", ident(&who.username));
    if let Some(password) = &who.password {
        let md5 = settings.parameters.get("password_encryption").is_some_and(|v| v == "md5");
        let verifier = if md5 {
            password::md5(password.expose().as_bytes(), &who.username)
        } else {
            password::scram_sha_256(password.expose().as_bytes())
        };
        sql.push_str(&format!(" PASSWORD {}", literal(&verifier)));
    }
    sql
}

fn grants(rewind: &Credentials) -> String {
    let grant = |function: &&str| {
        format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {}; ", ident(&rewind.username))
    };
    REWIND_FUNCTIONS.iter().map(grant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_verifiers_are_sent() {
        let settings = Settings::new("demo", "n1", "/nonexistent");
        let who = Credentials::new("re\"pl").with_password("geheim");
        let sql = role_sql(&settings, &who, "LOGIN REPLICATION", false);
        assert!(
            sql.starts_with("CREATE ROLE \"re\"\"pl\" WITH LOGIN REPLICATION PASSWORD 'SCRAM-")
        );
        assert!(!sql.contains("geheim"));
        let sql = role_sql(&settings, &Credentials::new("x"), "LOGIN", true);
        assert_eq!(sql, "ALTER ROLE \"x\" WITH LOGIN");
    }

    #[test]
    fn one_role_may_serve_for_everything() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        settings.replication = Credentials::new("postgres");
        settings.rewind = Some(Credentials::new("postgres"));
        assert_eq!(roles(&settings).len(), 1);
    }
}
