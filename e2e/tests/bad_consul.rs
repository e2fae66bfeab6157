//! A Consul that is away, or that does not let the agent in: the agent waits, says why once, and
//! goes on by itself when it can.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, line_after};
use hart_testkit::{Consul, LocalNode, Rest, eventually};
use serde_json::json;

const ROOT: &str = "6d5ea1a2-8f9c-4a4e-9f4c-0c9a3b0a7a01";
const AWAY: &str = "Consul cannot be read";

#[tokio::test]
async fn an_absent_consul_is_waited_for() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    local.consul().kill();
    local.node_mut("n1")?.start()?;
    line_after(local.node("n1")?, 0, AWAY).await?;
    // Long enough for several attempts.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let node = local.node("n1")?;
    assert_eq!(node.log().matches(AWAY).count(), 1, "{}", node.log());
    assert!(!node.data_dir().exists(), "nothing is done without Consul");
    let health = Rest::new()?.get(&node.url("/liveness")).await?;
    assert_eq!(health.status, 200, "it lives, and says so: {}", health.text);

    local.consul().start_again().await?;
    assert_eq!(local.wait_healthy(1).await?, "n1");
    let node = local.node("n1")?;
    assert!(node.log_contains("Consul answers again"), "{}", node.log());
    assert_eq!(node.unexpected_lines(&[AWAY]), [""; 0]);
    Ok(())
}

fn with_token(node: &LocalNode, token: &str) -> String {
    let with = format!("register_service: true, token: \"{token}\"}}");
    node.config().render().replace("register_service: true}", &with)
}

/// A policy and a token that has it; their identifiers.
async fn grant(consul: &Consul, rest: &Rest, rules: &str) -> Result<(String, String)> {
    let policy = json!({ "Name": "hart", "Rules": rules });
    let policy = rest.call("PUT", &consul.url("/v1/acl/policy"), Some(&policy)).await?.json()?;
    let policy = policy["ID"].as_str().context("no policy")?.to_owned();
    let token = json!({ "Policies": [{ "ID": policy }] });
    let token = rest.call("PUT", &consul.url("/v1/acl/token"), Some(&token)).await?.json()?;
    Ok((policy, token["SecretID"].as_str().context("no token")?.to_owned()))
}

async fn change(consul: &Consul, rest: &Rest, policy: &str, rules: &str) -> Result<()> {
    let body = json!({ "ID": policy, "Name": "hart", "Rules": rules });
    let url = consul.url(&format!("/v1/acl/policy/{policy}"));
    rest.call("PUT", &url, Some(&body)).await?.json().map(drop)
}

#[tokio::test]
async fn a_wrong_token_is_answered_with_the_missing_permission() -> Result<()> {
    let consul = Consul::on_loopback_with_acl(ROOT).await?;
    let rest = Rest::with_token(ROOT)?;
    let mut node = LocalNode::new("n1", &consul.address())?;

    // Consul does not know this one.
    let unknown = "00000000-1111-2222-3333-444444444444";
    let yaml = with_token(&node, unknown);
    node.start_with(&yaml)?;
    line_after(&node, 0, "key_prefix \"service/ha/\"").await?;
    line_after(&node, 0, "session_prefix").await?;
    assert!(node.log_contains("ACL not found"), "{}", node.log());
    assert!(!node.log_contains(unknown), "a token is a secret");
    assert_eq!(node.stop()?.code(), Some(0));

    // Each permission in turn; the agent goes on as far as it can.
    let reading = "key_prefix \"service/ha/\" { policy = \"read\" }";
    let (policy, token) = grant(&consul, &rest, reading).await?;
    let from = node.log().len();
    let yaml = with_token(&node, &token);
    node.start_with(&yaml)?;
    line_after(&node, from, "session_prefix").await?;

    let sessions = format!("{reading}\nsession_prefix \"\" {{ policy = \"write\" }}");
    change(&consul, &rest, &policy, &sessions).await?;
    let rule = "key_prefix \"service/ha/initialize\" { policy = \"write\" }";
    line_after(&node, from, rule).await?;
    assert!(!node.data_dir().exists(), "nothing is made without the right to bootstrap");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let said = node.log()[from..].matches(rule).count();
    assert_eq!(said, 1, "said once\n{}", node.log());

    let writing = sessions.replace("\"read\"", "\"write\"");
    change(&consul, &rest, &policy, &writing).await?;
    let primary = async || {
        let answer = rest.get(&node.url("/primary")).await?;
        anyhow::ensure!(answer.status == 200, "{}", answer.text);
        Ok(())
    };
    eventually("a primary", DEADLINE, primary).await.with_context(|| node.log_tail())?;
    line_after(&node, from, "service_prefix \"ha\" { policy = \"write\" }").await?;

    let all = format!(
        "{writing}\nservice \"ha\" {{ policy = \"write\" }}\nagent_prefix \"\" {{ policy = \"read\" }}"
    );
    change(&consul, &rest, &policy, &all).await?;
    let registered = async || {
        let answer = rest.get(&consul.url("/v1/catalog/service/ha")).await?;
        anyhow::ensure!(answer.text.contains("\"ha/n1\""), "{}", answer.text);
        Ok(())
    };
    eventually("the service", DEADLINE, registered).await?;
    assert!(!node.log_contains(&token) && !node.log_contains(ROOT), "a token is a secret");
    assert_eq!(node.stop()?.code(), Some(0));
    Ok(())
}

/// `hart template consul-policy` is all that a node needs, and no more than its own node's sessions.
#[tokio::test]
async fn the_policy_of_the_template_is_enough_and_ends_no_other_nodes_sessions() -> Result<()> {
    let consul = Consul::on_loopback_with_acl(ROOT).await?;
    let rest = Rest::with_token(ROOT)?;
    let own = rest.get(&consul.url("/v1/agent/self")).await?.json()?;
    let own = own["Config"]["NodeName"].as_str().context("no node name")?.to_owned();
    let rules = std::process::Command::new(hart_testkit::hart_binary()?)
        .args(["template", "consul-policy", "ha", "--set", &format!("nodes={own}")])
        .output()?;
    let said = String::from_utf8_lossy(&rules.stderr).into_owned();
    let rules = String::from_utf8(rules.stdout)?;
    assert!(rules.contains(&format!("session \"{own}\"")), "{rules}{said}");
    let (_, token) = grant(&consul, &rest, &rules).await?;

    let mut node = LocalNode::new("n1", &consul.address())?;
    let yaml = with_token(&node, &token);
    node.start_with(&yaml)?;
    let registered = async || {
        let answer = rest.get(&consul.url("/v1/catalog/service/ha")).await?;
        anyhow::ensure!(answer.text.contains("\"ha/n1\""), "{}", answer.text);
        let primary = rest.get(&node.url("/primary")).await?;
        anyhow::ensure!(primary.status == 200, "{}", primary.text);
        Ok(())
    };
    eventually("the service", DEADLINE, registered).await.with_context(|| node.log_tail())?;

    let other = json!({ "Node": "other", "Address": "10.9.9.9" });
    rest.call("PUT", &consul.url("/v1/catalog/register"), Some(&other)).await?;
    let session = json!({ "Node": "other", "Checks": [] , "NodeChecks": []});
    let made = rest.call("PUT", &consul.url("/v1/session/create"), Some(&session)).await?.json()?;
    let id = made["ID"].as_str().context("no session")?;
    let stranger = Rest::with_token(&token)?;
    let ended = consul.url(&format!("/v1/session/destroy/{id}"));
    assert_eq!(stranger.call("PUT", &ended, None).await?.status, 403);
    assert_eq!(rest.call("PUT", &ended, None).await?.status, 200);
    assert_eq!(node.stop()?.code(), Some(0));
    Ok(())
}

/// Later edits are in no file of the node's: without its own memory `bootstrap.dcs` would be back, of the day on
/// which the cluster was made.
#[tokio::test]
async fn the_shared_settings_survive_a_consul_that_has_lost_everything() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let url = local.node("n1")?.url("/config");
    let edit = json!({ "maximum_lag_on_failover": 77, "mine": ["kept"] });
    let rest = Rest::new()?;
    assert_eq!(rest.call("PATCH", &url, Some(&edit)).await?.status, 200);
    let kept = local.node("n1")?.data_dir().with_extension("hart").join("settings.json");
    eventually("it is on the disk", DEADLINE, async || {
        ensure!(std::fs::read_to_string(&kept)?.contains("\"maximum_lag_on_failover\": 77"));
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    local.node_mut("n1")?.stop()?;
    let keys = local.consul().url("/v1/kv/service/ha?recurse");
    assert_eq!(rest.call("DELETE", &keys, None).await?.status, 200);
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let stored: serde_json::Value = serde_json::from_str(&local.key("config").await?)?;
    assert_eq!(
        (&stored["maximum_lag_on_failover"], &stored["mine"]),
        (&json!(77), &json!(["kept"]))
    );
    let said = "as this node knew them last";
    assert_eq!(local.node("n1")?.log().matches(said).count(), 1, "{}", local.logs());
    Ok(())
}
