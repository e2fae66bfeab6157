//! Who may change the cluster over this node's REST API.

use std::net::IpAddr;

use hart_config::Config;

use super::item::Item;
use crate::node::tls::Fresh;

const SUBJECT: &str = "restapi";
const TLS: &str = "certificates";
const COMMANDS: &str = "commands";
const REMEDY: &str = "guard REST and Consul's keys, or set postgresql.allow_commands_from_dcs to false and \
                      give them in each node's file";

/// Looks at the configuration only.
pub fn check(config: &Config) -> Vec<Item> {
    let mut items = certificates(config);
    items.extend([changes(config), commands(config)]);
    items
}

/// What the agent would say of its certificates at its start.
fn certificates(config: &Config) -> Vec<Item> {
    let fresh = match Fresh::read(config) {
        Ok(fresh) => fresh,
        Err(fault) => return vec![Item::fail(TLS, fault.0, "correct the file or the setting")],
    };
    let until = fresh.valid_until().map(|until| {
        Item::ok(TLS, format!("the REST API has a certificate that is valid until {until}"))
    });
    let late = fresh.late.iter().map(|late| Item::fail(TLS, late.as_str(), "renew it"));
    let warnings = fresh.warnings.iter().map(|text| Item::warn(TLS, text.as_str(), ""));
    until.into_iter().filter(|_| fresh.late.is_none()).chain(late).chain(warnings).collect()
}

/// Whoever may change the shared settings may then run programs here.
fn commands(config: &Config) -> Item {
    if !config.postgresql.allow_commands_from_dcs {
        let found = "programs, libraries and logins come from this file only, never from Consul";
        return Item::ok(COMMANDS, found);
    }
    let found = "the shared settings may name programs, libraries and logins \
                 (postgresql.allow_commands_from_dcs): whoever may write hart's keys in Consul, or PATCH \
                 /config, can run commands here as PostgreSQL's user";
    if config.restapi.is_guarded() {
        Item::ok(COMMANDS, found)
    } else {
        Item::warn(COMMANDS, found, REMEDY)
    }
}

fn changes(config: &Config) -> Item {
    let (api, remedy) =
        (&config.restapi, "set restapi.authentication, restapi.allowlist or restapi.verify_client");
    let host = &api.listen.host;
    let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if loopback {
        return Item::ok(SUBJECT, "listens on this host only");
    }
    if api.is_guarded() {
        let by = match () {
            () if api.authentication.is_some() => "a password",
            () if api.has_allowlist() => "restapi.allowlist",
            () => "a certificate (restapi.verify_client)",
        };
        return Item::ok(SUBJECT, format!("calls that change something need {by}"));
    }
    if api.open {
        let found = format!(
            "whoever reaches {} may change settings, and so run commands as PostgreSQL's user on all \
             nodes (restapi.open)",
            api.listen
        );
        return Item::warn(SUBJECT, found, remedy);
    }
    let found =
        "calls that change something are taken from this host and the members' addresses only";
    Item::warn(SUBJECT, found, format!("{remedy}, so that it does not rest on addresses"))
}

#[cfg(test)]
mod tests {
    use super::super::item::Level;
    use super::*;

    #[test]
    fn an_unguarded_api_is_warned_of() {
        let level = |restapi: &str| {
            let text = format!(
                "scope: ha\nname: n1\nconsul: {{}}\nrestapi: {{{restapi}}}\n\
                 postgresql: {{listen: '127.0.0.1:5432', data_dir: /d}}\n"
            );
            changes(&hart_config::load_text("t.yml", &text, []).unwrap().config).level
        };
        let lan = "listen: '10.0.0.21:8008'";
        assert_eq!(level("listen: '127.0.0.1:8008'"), Level::Ok);
        assert_eq!(level(lan), Level::Warn);
        assert_eq!(level(&format!("{lan}, open: true")), Level::Warn);
        assert_eq!(level(&format!("{lan}, allowlist: [10.0.0.0/8]")), Level::Ok);
        assert_eq!(level(&format!("{lan}, auth: 'a:b'")), Level::Ok);
    }
}
