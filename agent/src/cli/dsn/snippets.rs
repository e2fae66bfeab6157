//! For drivers that no string helps: functions that try each host in turn. What such a driver does with several
//! hosts is measured in `docs/clients.md`.

use std::fmt::Display;

use super::Dsn;
use super::formats::{CONNECT, IDLE};
use crate::cli::members::RoleFilter;

impl Dsn {
    /// Postgres.js cuts the hosts of a URL at every colon, so IPv6 addresses need its other form.
    pub(super) fn postgres_js(&self) -> String {
        let options = self.postgres_js_options();
        if !self.hosts.iter().any(|(host, _)| host.contains(':')) {
            return self.uri("postgres", &options);
        }
        let hosts: Vec<_> = self.hosts.iter().map(|(host, _)| literal(host)).collect();
        let ports: Vec<_> = self.hosts.iter().map(|(_, port)| port.to_string()).collect();
        let user = self.username.as_ref().map(|user| format!(" username: {},", literal(user)));
        let more: Vec<_> =
            options.iter().map(|(key, value)| format!("{key}: {}", bare(value))).collect();
        format!(
            "postgres({{ host: [{}], port: [{}], database: {},{} {} }})",
            hosts.join(", "),
            ports.join(", "),
            literal(&self.dbname),
            user.unwrap_or_default(),
            more.join(", "),
        )
    }

    /// `pg` takes one host: of a URL with several it says that it is none.
    pub(super) fn node_postgres(&self) -> String {
        let (check, what) = match self.role {
            RoleFilter::Primary => ("!rows[0].standby", "primary"),
            RoleFilter::Replica | RoleFilter::StandbyLeader => ("rows[0].standby", "replica"),
            RoleFilter::Any => ("rows.length", "member"),
        };
        let hosts = self.places('[', ']');
        let order = if self.spreads() { ".sort(() => Math.random() - 0.5)" } else { "" };
        let user = self.username.as_ref().map(|user| format!(" user: {},", literal(user)));
        let (user, database) = (user.unwrap_or_default(), literal(&self.dbname));
        let (connect, idle) = (CONNECT * 1000, IDLE * 1000);
        format!(
            "const {{ Client }} = require('pg')\n\
             const hosts = [{hosts}]\n\
             \n\
             // Give query_timeout, above your longest query: nothing else gives a silent host up in time.\n\
             async function connect(more = {{}}) {{\n  \
               let why\n  \
               for (const [host, port] of hosts{order}) {{\n    \
                 const client = new Client({{ host, port, database: {database},{user}\n      \
                   connectionTimeoutMillis: {connect}, keepAlive: true, keepAliveInitialDelayMillis: {idle}, ...more }})\n    \
                 client.on('error', () => {{}})\n    \
                 try {{\n      \
                   await client.connect()\n      \
                   const {{ rows }} = await client.query('SELECT pg_is_in_recovery() AS standby')\n      \
                   if ({check}) return client\n    \
                 }} catch (error) {{ why = error }}\n    \
                 client.end().catch(() => {{}})\n  \
               }}\n  \
               throw new Error('no {what} among the hosts', {{ cause: why }})\n\
             }}"
        )
    }

    /// asyncpg spends the whole of its `timeout` on a first host that is silent, and ends at one that refuses
    /// the login.
    pub(super) fn asyncpg(&self) -> String {
        let target = match self.role {
            RoleFilter::Primary => "primary",
            RoleFilter::Replica | RoleFilter::StandbyLeader => "standby",
            RoleFilter::Any => "any",
        };
        let hosts = self.places('(', ')');
        let (import, order) = match self.spreads() {
            true => ("import random\n\n", "random.sample(HOSTS, len(HOSTS))"),
            false => ("", "HOSTS"),
        };
        let user = self.username.as_ref().map(|user| format!("user={}, ", literal(user)));
        let (user, database) = (user.unwrap_or_default(), literal(&self.dbname));
        format!(
            "{import}import asyncpg\n\
             \n\
             HOSTS = [{hosts}]\n\
             \n\
             # Give command_timeout, above your longest statement: nothing else gives a silent host up in time.\n\
             async def connect(**more):\n    \
                 why = None\n    \
                 for host, port in {order}:\n        \
                     try:\n            \
                         return await asyncpg.connect(\n                \
                             host=host, port=port, {user}database={database},\n                \
                             target_session_attrs=\"{target}\", timeout={CONNECT}, **more)\n        \
                     except Exception as error:\n            \
                         why = error\n    \
                 raise ConnectionError(\"no {target} among the hosts\") from why"
        )
    }

    /// Pairs of host and port.
    fn places(&self, open: char, close: char) -> String {
        let one = |(host, port): &(String, u16)| format!("{open}{}, {port}{close}", literal(host));
        self.hosts.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// A number as it is.
fn bare(value: &str) -> String {
    if value.parse::<u32>().is_ok() { value.to_owned() } else { literal(value) }
}

/// A string as JavaScript and Python both read it.
fn literal(text: impl Display) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}
