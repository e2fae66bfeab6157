//! Lines of `pg_hba.conf` that PostgreSQL would not take: with one of them it does not start.

use std::net::IpAddr;

use super::item::Item;

const SUBJECT: &str = "pg_hba";

const TYPES: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
const METHODS: [&str; 14] = [
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "gss",
    "sspi",
    "ident",
    "peer",
    "ldap",
    "radius",
    "cert",
    "pam",
    "bsd",
];
/// From PostgreSQL 18 on.
const OAUTH: &str = "oauth";

/// Looks at `postgresql.pg_hba`.
pub fn check(lines: &[String]) -> Vec<Item> {
    let wrong = |(at, line): (usize, &String)| {
        let why = fault(line)?;
        let found = format!("postgresql.pg_hba, line {}: {why}: {line}", at + 1);
        Some(Item::fail(SUBJECT, found, "mend it: PostgreSQL does not start with it"))
    };
    lines.iter().enumerate().filter_map(wrong).collect()
}

/// What is wrong with it, as far as it can be told without the server.
fn fault(line: &str) -> Option<String> {
    let text = line.trim();
    if text.is_empty() || text.starts_with('#') || text.starts_with("include") || text.contains('"')
    {
        return None;
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let kind = fields[0];
    if !TYPES.contains(&kind) {
        return Some(format!("\"{kind}\" is no connection type"));
    }
    let rest = if kind == "local" { fields.get(3..) } else { fields.get(4..) };
    let Some(mut rest) = rest else { return Some("it ends before the method".to_owned()) };
    if kind != "local" {
        match address(fields[3]) {
            Err(why) => return Some(why),
            // The mask is a field of its own.
            Ok(true) => {
                if rest.first().is_some_and(|mask| mask.parse::<IpAddr>().is_ok()) {
                    rest = &rest[1..];
                } else {
                    return Some(format!("{} has neither a length (/32) nor a mask", fields[3]));
                }
            }
            Ok(false) => {}
        }
    }
    match rest.first() {
        None => Some("it has no method".to_owned()),
        Some(method) if METHODS.contains(method) || *method == OAUTH => None,
        Some(method) => Some(format!("\"{method}\" is no method")),
    }
}

/// Is it an address that needs a mask behind it?
fn address(field: &str) -> Result<bool, String> {
    let (host, length) = match field.split_once('/') {
        None => return Ok(field.parse::<IpAddr>().is_ok()),
        Some(parts) => parts,
    };
    let ip: IpAddr = host.parse().map_err(|_| format!("\"{host}\" is no address"))?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match length.parse::<u8>() {
        Ok(length) if length <= most => Ok(false),
        _ => Err(format!("/{length} is no length of a network of {host}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_takes_is_taken() {
        for line in [
            "local all all trust",
            "# a comment",
            "host all all 127.0.0.1/32 md5",
            "host all all 10.0.0.0 255.0.0.0 scram-sha-256",
            "hostssl replication replicator all cert clientcert=verify-full map=m",
            "host all all .example.com gss include_realm=0",
            "host all all samenet scram-sha-256",
            "host all +admins,app ::1/128 ldap ldapserver=a",
            "include_if_exists more.conf",
        ] {
            assert_eq!(fault(line), None, "{line}");
        }
    }

    #[test]
    fn what_keeps_it_from_starting_is_named() {
        for (line, part) in [
            ("hosst all all 127.0.0.1/32 md5", "connection type"),
            ("host all all 127.0.0.1/332 md5", "/332"),
            ("host all all 127.0.0.1 md5", "mask"),
            ("host all all 300.0.0.1/8 md5", "no address"),
            ("host all all 127.0.0.1/32", "method"),
            ("host all all 127.0.0.1/32 md6", "md6"),
            ("local all all", "method"),
            ("local all", "method"),
        ] {
            let found = fault(line).unwrap_or_default();
            assert!(found.contains(part), "{line}: {found}");
        }
        assert_eq!(check(&["local all all trust".into(), "nonsense".into()]).len(), 1);
    }
}
