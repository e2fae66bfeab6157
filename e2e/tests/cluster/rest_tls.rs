//! A cluster whose REST API is HTTPS and has everybody show a certificate.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, line_after, run_program};
use hart_testkit::{Cluster, Options, Rest, eventually};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

/// As long as several leases.
const WHILE: Duration = Duration::from_secs(20);

/// What the agents may say: Consul's agent has no certificate here, which they say at their start.
const ANNOUNCED: [&str; 7] = [
    "enable_agent_tls_for_checks",
    "no TLS connection of",
    "Consul",
    "lease",
    "failsafe",
    "reload",
    "refused a call",
];

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

    /// Certificate and key.
    fn sign(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// Makes the certificate of a node (anew).
    fn renew(&self, cluster: &Cluster, node: &str) -> Result<[String; 2]> {
        let address = cluster.node(node)?.config().address.to_string();
        let (cert, key) = self.sign(&address)?;
        let file = |end: &str, text: &str| -> Result<String> {
            let path = cluster.dir().write(&format!("{node}-rest.{end}"), "postgres", text)?;
            Ok(path.display().to_string())
        };
        Ok([file("crt", &cert)?, file("key", &key)?])
    }

    /// HTTPS with certificates of everybody; `hart` on that host, and members among themselves, show one
    /// whose key has a password.
    fn configure(&self, cluster: &mut Cluster, node: &str, verify: &str) -> Result<()> {
        let [cert, key] = self.renew(cluster, node)?;
        let ca = cluster.dir().write("ca.crt", "postgres", &self.pem)?;
        let (own, own_key) = self.sign("operator.example")?;
        let own = cluster.dir().write(&format!("{node}-ctl.crt"), "postgres", &own)?;
        let plain = cluster.dir().write("plain.key", "postgres", &own_key)?;
        let mut seal = Command::new("openssl");
        seal.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:s3cret", "-in"]);
        let sealed = run_program(seal.arg(&plain))?;
        let own_key = cluster.dir().write(&format!("{node}-ctl.key"), "postgres", &sealed)?;
        let config = cluster.node_mut(node)?.config_mut();
        config.rest_tls = format!(
            "certfile: {cert}, keyfile: {key}, cafile: {}, verify_client: {verify}",
            ca.display()
        );
        config.extra = format!(
            "ctl: {{certfile: {}, keyfile: {}, keyfile_password: s3cret}}\n",
            own.display(),
            own_key.display()
        );
        Ok(())
    }
}

async fn start(verify: &str) -> Result<(Drill, Ca)> {
    let mut cluster = Cluster::prepare(3, &Options { open: false, ..Options::default() }).await?;
    let ca = Ca::new()?;
    let names: Vec<String> = cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    for name in &names {
        ca.configure(&mut cluster, name, verify)?;
    }
    let (cert, key) = ca.sign("test.example")?;
    cluster.ask_with(Rest::with_certificate(&ca.pem, &(cert + &key))?);
    cluster.start_nodes()?;
    Ok((Drill::around(cluster).await?, ca))
}

/// Members find each other, a switchover is asked for from a host that is no member's, commands reach all
/// members, and promises go over TLS while Consul is down.
#[tokio::test]
async fn members_commands_and_promises_go_over_tls() -> Result<()> {
    let (mut drill, ca) = start("required").await?;
    let first = drill.write_patiently().await?;
    let url = drill.cluster.node(&first)?.url("/patroni");
    ensure!(url.starts_with("https:"), "{url}");
    ensure!(Rest::new()?.get(&url).await.is_err(), "the CA is believed by everybody");
    ensure!(Rest::new()?.get(&url.replace("https:", "http:")).await.is_err(), "it speaks HTTP");
    let (cert, key) = Ca::new()?.sign("test.example")?;
    let stranger = Rest::with_certificate(&ca.pem, &(cert + &key))?;
    ensure!(stranger.get(&url).await.is_err(), "a certificate of another CA is taken");
    let entry = drill.cluster.rest(&first, "GET", "/cluster", None).await?.json()?;
    let all = entry["members"].as_array().context("no members")?;
    let over = |member: &serde_json::Value| {
        member["api_url"].as_str().is_some_and(|url| url.starts_with("https://"))
    };
    ensure!(all.len() == 3 && all.iter().all(over), "{entry}");

    let second = drill.other_than(&first)?;
    let list = hart(&drill.cluster, &second, &["list", "--extended"])?;
    ensure!(!list.contains("s3cret"), "{list}");
    hart(&drill.cluster, &first, &["switchover", "ha", "--candidate", &second, "--force"])?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    ensure!(drill.cluster.primary().await? == second, "another one leads\n{}", drill.logs());

    let before = drill.postmasters()?;
    drill.cluster.kill_consul();
    tokio::time::sleep(WHILE).await;
    drill.written().await?;
    let said = "have promised to leave it alone (failsafe)";
    ensure!(drill.cluster.node(&second)?.log_contains(said), "{}", drill.logs());
    drill.cluster.start_consul().await?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == second && drill.postmasters()? == before, "{last}\n{}", drill.logs());
    let logs = drill.logs();
    ensure!(!logs.contains("s3cret") && !logs.contains("PRIVATE KEY"), "{logs}");
    Ok(())
}

/// Consul's agent has no CA, and asks all the same. It registers as passing, so its own answer is waited for.
async fn consul_asks(drill: &Drill) -> Result<()> {
    eventually("answers to Consul's checks", DEADLINE, async || {
        let all = drill.cluster.consul_call("GET", "/v1/health/service/ha?passing").await?;
        let output = |entry: &serde_json::Value| entry["Checks"].to_string();
        let all: Vec<String> = all.as_array().context("no list")?.iter().map(output).collect();
        let good = all.iter().filter(|text| text.contains("HTTP GET https:")).count();
        ensure!(good == 3, "{all:?}");
        Ok(())
    })
    .await
}

/// A certificate that is renewed counts after a reload; one that is half renewed is refused in words, and the
/// API goes on with the one before.
#[tokio::test]
async fn renewed_certificates_are_taken_without_a_restart() -> Result<()> {
    let (mut drill, ca) = start("optional").await?;
    let primary = drill.write_patiently().await?;
    let plain = drill.cluster.node(&primary)?.url("/config");
    let client = Rest::with_ca(&ca.pem)?;
    ensure!(client.get(&plain).await?.status == 200, "reading needs no certificate");
    let refused = client.call("PATCH", &plain, Some(&serde_json::json!({}))).await?;
    ensure!(refused.status == 403 && refused.text == "client certificate required", "{refused:?}");
    consul_asks(&drill).await?;
    let before = drill.postmasters()?;
    let names: Vec<String> =
        drill.cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    for name in &names {
        ca.renew(&drill.cluster, name)?;
        let node = drill.cluster.node_mut(name)?;
        let from = node.log().len();
        node.agent()?.signal(Signal::HUP)?;
        line_after(node, from, "the REST API has a new certificate").await?;
    }
    drill.cluster.wait_healthy(3, DEADLINE).await?;

    let (_, key) = ca.sign("other.example")?;
    let name = format!("{primary}-rest.key");
    let path = drill.cluster.dir().path().join(&name);
    let good = fs::read_to_string(&path)?;
    drill.cluster.dir().write(&name, "postgres", &key)?;
    let answer = drill.cluster.rest(&primary, "POST", "/reload", None).await?;
    let words =
        answer.text.contains(&name) && answer.text.contains("is not that of the certificate");
    ensure!(!answer.ok() && words, "{answer:?}");
    ensure!(
        drill.cluster.rest(&primary, "GET", "/primary", None).await?.status == 200,
        "it is gone"
    );
    drill.cluster.dir().write(&name, "postgres", &good)?;
    let answer = drill.cluster.rest(&primary, "POST", "/reload", None).await?;
    ensure!(answer.ok(), "{answer:?}");

    drill.written().await?;
    drill.undisturbed()?;
    let announced = [&ANNOUNCED[..], &["is not that of the certificate"]].concat();
    let last = drill.finish(Loss::None, &announced).await?;
    ensure!(last == primary && drill.postmasters()? == before, "{last}\n{}", drill.logs());
    Ok(())
}
