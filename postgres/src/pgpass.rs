//! The libpq password file.

use crate::error::Result;
use crate::files;
use crate::quote::pgpass_field;
use crate::settings::{Settings, Upstream};

/// The lines of the file: passwords for the one server that is followed or copied from, and for
/// nobody else. The superuser's is needed only where it stands in for the rewind role.
fn lines(settings: &Settings, upstream: Option<&Upstream>) -> String {
    let Some(Upstream { host, port }) = upstream else { return String::new() };
    let mut seen = Vec::new();
    let mut out = String::new();
    let host = pgpass_field(host);
    for role in [&settings.replication, settings.rewind_credentials()] {
        let Some(password) = &role.password else { continue };
        if seen.contains(&role.username.as_str()) {
            continue;
        }
        seen.push(role.username.as_str());
        let (user, word) = (pgpass_field(&role.username), pgpass_field(password.expose()));
        out.push_str(&format!("{host}:{port}:*:{user}:{word}\n"));
    }
    out
}

/// Writes the password file (0600; libpq ignores it with any other mode).
pub(crate) fn write(settings: &Settings, upstream: Option<&Upstream>) -> Result<bool> {
    let text = lines(settings, upstream);
    files::write_atomic(&settings.pgpass, text.as_bytes(), 0o600, settings.run_as)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Credentials;

    #[test]
    fn one_line_for_each_role_and_only_for_the_upstream() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        settings.superuser = Credentials::new("postgres").with_password("a:b\\c");
        settings.replication = Credentials::new("repl").with_password("r");
        assert_eq!(lines(&settings, None), "");
        let upstream = Upstream { host: "fd00::1".into(), port: 5433 };
        let written = |settings: &Settings| lines(settings, Some(&upstream));
        let host = "fd00\\:\\:1:5433:*";
        let expected = format!("{host}:repl:r\n{host}:postgres:a\\:b\\\\c\n");
        assert_eq!(written(&settings), expected);
        settings.rewind = Some(Credentials::new("rewinder").with_password("w"));
        assert_eq!(written(&settings), format!("{host}:repl:r\n{host}:rewinder:w\n"));
        settings.rewind = Some(Credentials::new("repl").with_password("other"));
        assert_eq!(written(&settings), format!("{host}:repl:r\n"));
    }
}
