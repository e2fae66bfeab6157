//! TLS of the REST API, and of the calls to other members': from the configuration to what is in force,
//! again at each reload.

use hart_config::{Config, VerifyClient};
use hart_tls::{
    Asked, Client, ClientFiles, ClientSide, Fault, Pair, PairFiles, Server, ServerFiles,
    ServerSide, valid_now,
};

/// What the agent's parts share.
#[derive(Clone, Default)]
pub struct Tls {
    /// `None`: the REST API speaks plain HTTP.
    pub server: Option<Server>,
    /// For calls to others.
    pub client: Client,
}

/// What was read from files, and is not in force yet.
pub struct Fresh {
    server: Option<ServerSide>,
    client: ClientSide,
    /// Its certificate is not valid by this machine's clock.
    pub late: Option<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

impl Fresh {
    /// Reads what the configuration names. A certificate that is not valid now is no error.
    ///
    /// # Errors
    /// A file cannot be read or used: which, and what is wrong.
    pub fn read(config: &Config) -> Result<Self, Fault> {
        let server = server_files(config).map(|files| ServerSide::read(&files)).transpose()?;
        let client = ClientSide::read(&client_files(config))?;
        let mut warnings: Vec<String> = server.iter().flat_map(|it| it.warnings.clone()).collect();
        // The same file may serve both ends.
        warnings.extend(
            client
                .warnings
                .iter()
                .filter(|text| !warnings.contains(text))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let late = server.as_ref().and_then(|it| valid_now(it.pair()).err()).map(|fault| fault.0);
        if late.is_none() {
            warnings.extend(server.as_ref().and_then(|server| unmet(config, server, &client)));
        }
        warnings.extend(unchecked(config));
        Ok(Self { server, client, late, warnings })
    }

    /// Until when the REST API's certificate is valid, for people; `None`: it has none.
    #[must_use]
    pub fn valid_until(&self) -> Option<String> {
        self.server.as_ref().map(|server| server.pair().valid_until())
    }
}

/// Why this node, asked as it asks others, would not be understood: the others are like it, most often.
fn unmet(config: &Config, server: &ServerSide, client: &ClientSide) -> Option<String> {
    let host = &config.restapi.connect_address.host;
    let first = client.believes(server.pair(), host).map_err(|why| {
        format!(
            "members with this node's settings do not believe its certificate at {host}, so it takes \
             no part in failover and failsafe, and hart's commands do not reach it: {why}"
        )
    });
    let second = || {
        server.takes(client).map_err(|why| {
            format!(
                "with restapi.verify_client members refuse this node's calls, so it takes no part in \
                 failover and failsafe: {why}"
            )
        })
    };
    first.and_then(|()| second()).err()
}

/// Consul's agent shows a certificate only where it is told to.
fn unchecked(config: &Config) -> Option<String> {
    let required = config.restapi.verify_client == VerifyClient::Required;
    (required && config.consul.register_service).then(|| {
        "consul.register_service with restapi.verify_client: required: Consul's check of the service \
         fails unless the Consul agent shows a certificate (enable_agent_tls_for_checks = true in its \
         configuration, with one that restapi.cafile has signed); or set verify_client: optional"
            .to_owned()
    })
}

impl Tls {
    /// With what was read at the start. What is not right but does not keep the agent from starting is
    /// said: a database that runs is worth more than a REST API that some do not believe.
    #[must_use]
    pub fn begin(fresh: Fresh) -> Self {
        let Fresh { server, client, late, warnings } = fresh;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if let Some(late) = late {
            tracing::error!(
                "{late}; members do not believe it, so there is no failover to this node and no failsafe: \
                 renew the certificate and reload (SIGHUP, or POST /reload)"
            );
        }
        Self { server: server.map(Server::new), client: Client::new(client) }
    }

    /// What a reload would bring into force.
    ///
    /// # Errors
    /// Why it is refused, for people: a file cannot be used, or there is another certificate now, which
    /// is not valid.
    pub fn check(&self, config: &Config) -> Result<Fresh, String> {
        let kept = |fault: &str| match self.server {
            Some(_) => format!("{fault}; the REST API goes on with the certificate that it has"),
            None => fault.to_owned(),
        };
        let fresh = Fresh::read(config).map_err(|fault| kept(&fault.0))?;
        let old = self.server.as_ref().map(Server::pair);
        let is_new = |new: &ServerSide| !old.as_ref().is_some_and(|old| old.is_same(new.pair()));
        match &fresh.late {
            Some(late) if fresh.server.as_ref().is_some_and(is_new) => Err(kept(late)),
            _ => Ok(fresh),
        }
    }

    /// From the next connection on.
    pub fn renew(&self, fresh: Fresh) {
        let Fresh { server, client, late, warnings } = fresh;
        for warning in warnings.iter().chain(&late) {
            tracing::warn!("{warning}");
        }
        self.client.renew(client);
        match (&self.server, server) {
            (Some(running), Some(new)) => {
                if !running.pair().is_same(new.pair()) {
                    say_new(new.pair());
                }
                running.renew(new);
            }
            (None, None) => {}
            (Some(_), None) => tracing::warn!(
                "restapi.certfile is gone from the configuration: the REST API speaks HTTPS until the \
                 agent's next start"
            ),
            (None, Some(_)) => tracing::warn!(
                "restapi.certfile is new in the configuration: the REST API speaks plain HTTP until the \
                 agent's next start"
            ),
        }
    }
}

fn say_new(pair: &Pair) {
    tracing::info!("the REST API has a new certificate, valid until {}", pair.valid_until());
}

/// What the REST API serves with; `None`: plain HTTP.
#[must_use]
pub fn server_files(config: &Config) -> Option<ServerFiles> {
    let api = &config.restapi;
    Some(ServerFiles {
        pair: own_pair(config)?,
        cafile: api.cafile.clone(),
        asked: match api.verify_client {
            VerifyClient::None => Asked::Nobody,
            VerifyClient::Optional => Asked::Changing,
            VerifyClient::Required => Asked::Everybody,
        },
        ciphers: api.ciphers.clone(),
    })
}

fn own_pair(config: &Config) -> Option<PairFiles> {
    let api = &config.restapi;
    Some(PairFiles {
        section: "restapi",
        certfile: api.certfile.clone()?,
        keyfile: api.keyfile.clone(),
        password: api.keyfile_password.as_ref().map(|secret| secret.expose().to_owned()),
    })
}

/// How others' REST API is called: by `ctl`, as in Patroni, and for what it leaves open by `restapi`.
/// Where certificates are asked for and `ctl` names none, the node's own is shown.
#[must_use]
pub fn client_files(config: &Config) -> ClientFiles {
    let (ctl, api) = (&config.ctl, &config.restapi);
    let ours = ctl.cacert.clone().map(|file| ("ctl.cacert", file));
    let ca = ours.or_else(|| api.cafile.clone().map(|file| ("restapi.cafile", file)));
    let pair = match &ctl.certfile {
        Some(certfile) => Some(PairFiles {
            section: "ctl",
            certfile: certfile.clone(),
            keyfile: ctl.keyfile.clone(),
            password: ctl.keyfile_password.as_ref().map(|secret| secret.expose().to_owned()),
        }),
        None => own_pair(config).filter(|_| api.verify_client != VerifyClient::None),
    };
    ClientFiles { ca, pair, insecure: ctl.insecure }
}

#[cfg(test)]
pub mod pki;
#[cfg(test)]
mod tests;
