//! The libpq password file.

use crate::error::Result;
use crate::files;
use crate::quote::pgpass_field;
use crate::settings::Settings;

/// The lines of the file: one for each role with a password, for any host, port and database, so
/// that it does not depend on how a peer is addressed. The first match counts.
fn lines(settings: &Settings) -> String {
    let mut seen = Vec::new();
    let mut out = String::new();
    let roles = [Some(&settings.replication), settings.rewind.as_ref(), Some(&settings.superuser)];
    for role in roles.into_iter().flatten() {
        let Some(password) = &role.password else { continue };
        if seen.contains(&role.username.as_str()) {
            continue;
        }
        seen.push(role.username.as_str());
        let (user, word) = (pgpass_field(&role.username), pgpass_field(password.expose()));
        out.push_str(&format!("*:*:*:{user}:{word}\n"));
    }
    out
}

/// Writes the password file (0600; libpq ignores it with any other mode).
pub(crate) fn write(settings: &Settings) -> Result<bool> {
    files::write_atomic(&settings.pgpass, lines(settings).as_bytes(), 0o600, settings.run_as)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Credentials;

    #[test]
    fn one_line_for_each_role_with_a_password() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        settings.superuser = Credentials::new("postgres").with_password("a:b\\c");
        settings.replication = Credentials::new("repl").with_password("r");
        settings.rewind = Some(Credentials::new("postgres").with_password("other"));
        assert_eq!(lines(&settings), "*:*:*:repl:r\n*:*:*:postgres:other\n");
        settings.rewind = Some(Credentials::new("cert_only"));
        assert_eq!(lines(&settings), "*:*:*:repl:r\n*:*:*:postgres:a\\:b\\\\c\n");
    }
}
