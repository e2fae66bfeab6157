//! A cluster whose members reach each other over TLS only, and verify whom they reach.

use std::fs;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Node, Options};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

/// Signs the certificate of each node for its address.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the test's CA");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The node's configuration: the roles that go to other members may do so over TLS alone.
    fn configure(&self, cluster: &Cluster, node: &Node) -> Result<String> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![node.config().address.to_string()])?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        let dir = cluster.dir().make(&format!("tls-{}", node.name()), "postgres")?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = dir.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            let owner = fs::metadata(&dir)?;
            let (uid, gid) = (
                std::os::unix::fs::MetadataExt::uid(&owner),
                std::os::unix::fs::MetadataExt::gid(&owner),
            );
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
            Ok(path.display().to_string())
        };
        let (ca, cert) = (file("ca.crt", &self.pem)?, file("server.crt", &cert)?);
        let key = file("server.key", &key.serialize_pem())?;
        let tls = format!(", sslmode: verify-full, sslrootcert: {ca}}}");
        let edits = [
            ("password: rep}", format!("password: rep{tls}")),
            ("password: rew}", format!("password: rew{tls}")),
            (
                "parameters: {unix_",
                format!(
                    "parameters: {{ssl: \"on\", ssl_cert_file: {cert}, ssl_key_file: {key}, unix_"
                ),
            ),
            (
                "\"host all all 0.0.0.0/0 md5\", \"host replication replicator 0.0.0.0/0 md5\"",
                "\"hostssl all rewinder 0.0.0.0/0 scram-sha-256\", \
                 \"hostssl replication replicator 0.0.0.0/0 scram-sha-256\", \
                 \"host all postgres 0.0.0.0/0 md5\""
                    .to_owned(),
            ),
        ];
        let mut yaml = node.config().render();
        for (from, to) in edits {
            ensure!(yaml.matches(from).count() == 1, "{from} is not once in {yaml}");
            yaml = yaml.replace(from, &to);
        }
        Ok(yaml)
    }
}

/// From nothing by base backups, through a switchover, the loss of the primary and its rewind, to a
/// copy that somebody asks for; and all that streams does so over TLS.
#[tokio::test]
async fn a_cluster_lives_over_tls_alone() -> Result<()> {
    let mut cluster = Cluster::prepare(3, &Options::default()).await?;
    let ca = Ca::new()?;
    let all: Result<Vec<(String, String)>> = cluster
        .nodes()
        .iter()
        .map(|node| Ok((node.name().to_owned(), ca.configure(&cluster, node)?)))
        .collect();
    for (name, yaml) in all? {
        cluster.node_mut(&name)?.start_with(&yaml)?;
    }
    let mut drill = Drill::around(cluster).await?;
    let first = drill.write().await?;
    let second = drill.other_than(&first)?;
    drill.cluster.switchover(Some(&second)).await?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    ensure!(drill.cluster.primary().await? == second, "another one leads\n{}", drill.logs());

    let host = drill.cluster.host(&second)?;
    drill.cluster.lab().cut(&host)?;
    let third = drill.cluster.wait_new_primary(&second, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.mend().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let node = drill.cluster.node(&second)?;
    ensure!(node.log_contains("begin: rewind"), "not rewound\n{}", node.log());
    ensure!(node.log().matches("begin: base backup").count() <= 1, "copied\n{}", node.log());

    let replica = drill.other_than(&third)?;
    hart(&drill.cluster, &third, &["reinit", "ha", &replica, "--force", "--wait"])?;
    let announced = [
        "thrown away and copied anew",
        "PostgreSQL was fenced",
        "Consul cannot be read",
        "failsafe",
        "lease",
    ];
    let last = drill.finish(Loss::Some, &announced).await?;
    let sql = drill.cluster.sql(&last).await?;
    let plain = "select count(*) filter (where not ssl) || ' of ' || count(*) \
                 from pg_stat_replication join pg_stat_ssl using (pid)";
    let found = sql.value(plain).await?.context("no answer")?;
    ensure!(found == "0 of 2", "{found} stream without TLS\n{}", drill.logs());
    Ok(())
}
