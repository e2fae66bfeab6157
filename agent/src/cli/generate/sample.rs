//! The packaged example, with this machine's name and address.

use std::net::IpAddr;

const EXAMPLE: &str = include_str!("../../../../packaging/etc/node.yml.example");

/// What stands for them in the example.
const ADDRESS: &str = "10.0.0.21";
const NAME: &str = "name: n1\n";

/// The text; without an address that of the example stays.
pub fn text(name: &str, address: Option<IpAddr>) -> String {
    let begin = EXAMPLE.find("# The cluster's name").unwrap_or_default();
    let text = EXAMPLE[begin..].replacen(NAME, &format!("name: {}\n", super::yaml::word(name)), 1);
    let text = match address {
        Some(address) => text.replace(ADDRESS, &address.to_string()),
        None => text,
    };
    format!(
        "# A node of hart. Put your names, addresses and programs in, passwords into the environment, and look it over\n\
         # with `hart check FILE`.\n\n{text}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_configuration() {
        let text = text("db-7.example", "192.0.2.7".parse().ok());
        let env = [("HART_RESTAPI_PASSWORD".to_owned(), "p".to_owned())];
        let loaded = hart_config::load_text("s.yml", &text, env).unwrap();
        assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
        assert_eq!(loaded.config.name, "db-7.example");
        assert_eq!(loaded.config.restapi.connect_address.to_string(), "192.0.2.7:8008");
        assert!(!text.contains(ADDRESS), "{text}");
    }
}
