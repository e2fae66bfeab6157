//! `-d URL`: where Consul is.

use crate::cli::Fail;

/// A Consul endpoint and, where the URL has a path, the folder below which the clusters are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcsUrl {
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// Without slashes at its ends.
    pub namespace: Option<String>,
}

/// Reads `consul://host:8500/service`, `http://host:8500`, `https://host:8501` or `host:8500`.
///
/// # Errors
/// It is something else, or another store that Patroni knows.
pub fn parse(text: &str) -> Result<DcsUrl, Fail> {
    let trimmed = text.trim();
    let (scheme, rest) = trimmed.split_once("://").unwrap_or(("consul", trimmed));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "consul" | "http" | "" => "http",
        "https" | "consul+https" | "consuls" => "https",
        other @ ("etcd" | "etcd3" | "zookeeper" | "exhibitor" | "raft" | "kubernetes") => {
            return Err(Fail::usage(format!(
                "\"{other}\" is not supported; hart works with Consul"
            ))
            .hint("give the URL of a Consul, such as consul://127.0.0.1:8500"));
        }
        _ => return Err(wrong(text)),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        // Never repeat what may be a password.
        return Err(Fail::usage("the Consul URL holds a user name or password")
            .hint("give an ACL token in the file or in HART_CONSUL_TOKEN"));
    }
    if authority.is_empty() || rest.contains(['?', '#']) || rest.contains(char::is_whitespace) {
        return Err(wrong(text));
    }
    let namespace = Some(path.trim_matches('/')).filter(|path| !path.is_empty());
    Ok(DcsUrl {
        endpoint: format!("{scheme}://{}", with_port(authority).ok_or_else(|| wrong(text))?),
        namespace: namespace.map(str::to_owned),
    })
}

/// Adds Consul's port where none is given.
fn with_port(authority: &str) -> Option<String> {
    let after_host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.1,
        None => authority.find(':').map_or("", |at| &authority[at..]),
    };
    match after_host.strip_prefix(':') {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).map(|_| authority.into()),
        None if after_host.is_empty() => Some(format!("{authority}:8500")),
        None => None,
    }
}

fn wrong(text: &str) -> Fail {
    Fail::usage(format!("\"{}\" is not the URL of a Consul", text.escape_debug()))
        .hint("write it such as consul://127.0.0.1:8500/service or https://consul.example:8501")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        let table = [
            ("consul://127.0.0.1:8500/service", "http://127.0.0.1:8500", Some("service")),
            ("consul://consul.lan", "http://consul.lan:8500", None),
            ("http://h:80/", "http://h:80", None),
            ("https://h:8501/db/prod/", "https://h:8501", Some("db/prod")),
            ("127.0.0.1:8500", "http://127.0.0.1:8500", None),
            ("consul://[::1]", "http://[::1]:8500", None),
            ("http://[::1]:8501", "http://[::1]:8501", None),
        ];
        for (text, endpoint, namespace) in table {
            let namespace = namespace.map(str::to_owned);
            assert_eq!(parse(text), Ok(DcsUrl { endpoint: endpoint.into(), namespace }), "{text}");
        }
    }

    #[test]
    fn what_is_no_consul_is_refused() {
        for text in ["", "consul://", "ftp://h", "h:0", "h:99999", "h:x", "etcd3://h:2379", "h?x"] {
            assert_eq!(parse(text).unwrap_err().code(), 64, "{text}");
        }
        let secret = parse("http://u:s3cr3t@h:8500").unwrap_err();
        assert!(!secret.to_string().contains("s3cr3t"));
    }
}
