//! A node's configuration file.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::Value;

/// What goes into a node's configuration file, in Patroni's form.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name of the cluster.
    pub scope: String,
    /// Name of the node.
    pub name: String,
    /// Where others reach it.
    pub address: Ipv4Addr,
    /// The name by which others know it, instead of its address.
    pub known_as: Option<String>,
    /// Port of the REST API.
    pub rest_port: u16,
    /// Port of PostgreSQL.
    pub postgres_port: u16,
    /// Consul as `host:port`.
    pub consul: String,
    /// Further endpoints of Consul, asked when the first does not answer.
    pub other_consuls: Vec<String>,
    /// Directory of the node; see [`super::Node::new`].
    pub home: PathBuf,
    /// Directory of PostgreSQL's programs.
    pub bin_dir: PathBuf,
    /// Entries of `bootstrap.dcs`, in order; see [`NodeConfig::dcs`].
    pub dcs: Vec<(String, Value)>,
    /// Entries of `tags`.
    pub tags: Vec<(String, Value)>,
    /// Password of the replication role.
    pub replication_password: String,
    /// REST takes changing calls from everybody: tests call from a host that is no member's.
    pub open: bool,
    /// Further entries of `restapi`, with which it speaks HTTPS: `certfile: /x.crt, …`; empty: HTTP.
    pub rest_tls: String,
    /// PostgreSQL listens on all addresses, also on those that come later.
    pub listen_everywhere: bool,
    /// Server parameters of this node beside its socket's directory.
    pub parameters: Vec<(String, String)>,
    /// Lines appended at the end: further sections in YAML.
    pub extra: String,
}

impl NodeConfig {
    /// A node of the cluster `ha` with the usual ports, ttl 3 s and a loop of 1 s, as the profile
    /// `fast` has it.
    #[must_use]
    pub fn new(name: &str, address: Ipv4Addr, consul: &str, bin_dir: PathBuf) -> Self {
        let mut config = Self {
            scope: "ha".into(),
            name: name.into(),
            address,
            known_as: None,
            rest_port: 8008,
            postgres_port: 5432,
            consul: consul.into(),
            other_consuls: Vec::new(),
            home: PathBuf::new(),
            bin_dir,
            dcs: Vec::new(),
            tags: vec![("nofailover".into(), false.into())],
            replication_password: "rep".into(),
            open: true,
            rest_tls: String::new(),
            listen_everywhere: false,
            parameters: Vec::new(),
            extra: String::new(),
        };
        for (key, value) in [("ttl", 3), ("loop_wait", 1)] {
            config.dcs(key, value.into());
        }
        config.dcs("maximum_lag_on_failover", 1_048_576.into());
        config.dcs("failsafe_mode", true.into());
        config.dcs("synchronous_mode", false.into());
        config
    }

    /// Sets an entry of `bootstrap.dcs`, which the cluster takes over when it is made.
    pub fn dcs(&mut self, key: &str, value: Value) {
        match self.dcs.iter_mut().find(|entry| entry.0 == key) {
            Some(entry) => entry.1 = value,
            None => self.dcs.push((key.into(), value)),
        }
    }

    /// PostgreSQL's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The file's text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.head();
        text.push_str("bootstrap:\n  dcs:\n");
        for (key, value) in &self.dcs {
            // JSON is YAML in flow style. Writing to a String cannot fail.
            let _ = writeln!(text, "    {key}: {value}");
        }
        text.push_str(
            "    postgresql: {use_pg_rewind: true, use_slots: true, \
             parameters: {max_connections: 50, wal_keep_size: 128MB}}\n  \
             initdb: [{encoding: UTF8}, data-checksums]\n",
        );
        text.push_str(&self.postgresql());
        text.push_str("watchdog: {mode: off}\ntags:\n");
        for (key, value) in &self.tags {
            let _ = writeln!(text, "  {key}: {value}");
        }
        text.push_str(&self.extra);
        text
    }

    fn head(&self) -> String {
        let Self { scope, name, address, rest_port, open, .. } = self;
        let tls = match self.rest_tls.as_str() {
            "" => String::new(),
            tls => format!(", {tls}"),
        };
        let (consul, place) = (self.endpoints(), self.place());
        format!(
            "scope: {scope}\n\
             name: {name}\n\
             restapi: {{listen: \"{address}:{rest_port}\", \
             connect_address: \"{place}:{rest_port}\", open: {open}{tls}}}\n\
             consul: {{{consul}, register_service: true}}\n"
        )
    }

    fn place(&self) -> String {
        self.known_as.clone().unwrap_or_else(|| self.address.to_string())
    }

    fn endpoints(&self) -> String {
        if self.other_consuls.is_empty() {
            return format!("host: \"{}\"", self.consul);
        }
        let all = std::iter::once(&self.consul).chain(&self.other_consuls);
        let all: Vec<String> = all.map(|endpoint| format!("\"{endpoint}\"")).collect();
        format!("hosts: [{}]", all.join(", "))
    }

    fn postgresql(&self) -> String {
        let (port, home, data) = (self.postgres_port, self.home.display(), self.data_dir());
        format!(
            "postgresql:\n  \
             listen: \"{listen}:{port}\"\n  \
             connect_address: \"{place}:{port}\"\n  \
             data_dir: {data}\n  \
             bin_dir: {bin}\n  \
             pgpass: {home}/pgpass\n  \
             authentication:\n    \
             superuser: {{username: postgres, password: postgres}}\n    \
             replication: {{username: replicator, password: {replication}}}\n    \
             rewind: {{username: rewinder, password: rew}}\n  \
             parameters: {{unix_socket_directories: {home}{parameters}}}\n  \
             pg_hba: [\"local all all trust\", \"host all all 0.0.0.0/0 md5\", \
             \"host replication replicator 0.0.0.0/0 md5\"]\n",
            listen = self.listen(),
            parameters = self.more_parameters(),
            place = self.place(),
            data = data.display(),
            bin = self.bin_dir.display(),
            replication = self.replication_password,
        )
    }

    fn more_parameters(&self) -> String {
        // A JSON string is one of YAML.
        let entry =
            |(name, value): &(String, String)| format!(", {name}: {}", Value::from(&**value));
        self.parameters.iter().map(entry).collect()
    }

    fn listen(&self) -> String {
        if self.listen_everywhere {
            "*".to_owned()
        } else if self.address.is_loopback() {
            self.address.to_string()
        } else {
            format!("{},127.0.0.1", self.address)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = r#"scope: ha
name: n1
restapi: {listen: "10.0.0.21:8008", connect_address: "10.0.0.21:8008", open: true}
consul: {host: "127.0.0.1:8500", register_service: true}
bootstrap:
  dcs:
    ttl: 5
    loop_wait: 1
    maximum_lag_on_failover: 1048576
    failsafe_mode: true
    synchronous_mode: "quorum"
    postgresql: {use_pg_rewind: true, use_slots: true, parameters: {max_connections: 50, wal_keep_size: 128MB}}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: "10.0.0.21,127.0.0.1:5432"
  connect_address: "10.0.0.21:5432"
  data_dir: /var/lib/hart/n1/data
  bin_dir: /usr/lib/postgresql/15/bin
  pgpass: /var/lib/hart/n1/pgpass
  authentication:
    superuser: {username: postgres, password: postgres}
    replication: {username: replicator, password: rep}
    rewind: {username: rewinder, password: rew}
  parameters: {unix_socket_directories: /var/lib/hart/n1}
  pg_hba: ["local all all trust", "host all all 0.0.0.0/0 md5", "host replication replicator 0.0.0.0/0 md5"]
watchdog: {mode: off}
tags:
  nofailover: false
profile: fast
"#;

    #[test]
    fn is_patronis_form() {
        let address = Ipv4Addr::new(10, 0, 0, 21);
        let bin = "/usr/lib/postgresql/15/bin".into();
        let mut config = NodeConfig::new("n1", address, "127.0.0.1:8500", bin);
        config.home = "/var/lib/hart/n1".into();
        config.dcs("ttl", 5.into());
        config.dcs("synchronous_mode", "quorum".into());
        config.extra = "profile: fast\n".into();
        assert_eq!(config.render(), EXPECTED);
    }

    #[test]
    fn parameters_are_quoted() {
        let mut config = NodeConfig::new("n1", Ipv4Addr::LOCALHOST, "a:1", "/bin".into());
        config.parameters.push(("archive_command".into(), "echo \"%p\"".into()));
        let rendered = config.render();
        let wanted = r#"{unix_socket_directories: , archive_command: "echo \"%p\""}"#;
        assert!(rendered.contains(wanted), "{rendered}");
    }

    #[test]
    fn several_endpoints_are_a_list() {
        let mut config = NodeConfig::new("n1", Ipv4Addr::LOCALHOST, "a:1", "/bin".into());
        config.other_consuls = vec!["b:2".into()];
        assert!(config.render().contains("consul: {hosts: [\"a:1\", \"b:2\"], register_service"));
    }

    #[test]
    fn a_node_on_loopback_listens_there_once() {
        let config = NodeConfig::new("n1", Ipv4Addr::LOCALHOST, "127.0.0.1:1", "/bin".into());
        assert!(config.render().contains("  listen: \"127.0.0.1:5432\"\n"));
    }
}
