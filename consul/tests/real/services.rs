use std::collections::BTreeMap;
use std::time::Duration;

use hart_consul::catalog::CatalogRegistration;
use hart_consul::health::{AgentService, HealthCheck};
use hart_consul::registration::Headers;
use hart_consul::{Check, Error, HealthStatus, ReadOptions, ServiceRegistration};

use crate::consul::Consul;

fn service(checks: Vec<Check>) -> ServiceRegistration {
    ServiceRegistration {
        name: "db".into(),
        id: Some("db/1".into()),
        tags: vec!["replica".into()],
        address: Some("127.0.0.9".into()),
        port: 5432,
        meta: BTreeMap::from([("version".into(), "15".into())]),
        checks,
        replace_existing_checks: true,
        ..ServiceRegistration::default()
    }
}

fn ttl_check() -> Check {
    Check {
        name: "reported".into(),
        id: Some("db/1:ttl".into()),
        ttl: Some(Duration::from_secs(3600)),
        status: Some(HealthStatus::Warning),
        notes: "a note".into(),
        ..Check::default()
    }
}

fn http_check() -> Check {
    Check {
        name: "fetched".into(),
        id: Some("db/1:http".into()),
        http: Some("https://127.0.0.1:1/health".into()),
        interval: Some(Duration::from_secs(3600)),
        timeout: Some(Duration::from_millis(1500)),
        method: Some("OPTIONS".into()),
        header: Headers(BTreeMap::from([("Authorization".into(), vec!["s3cr3t".into()])])),
        tls_skip_verify: true,
        deregister_critical_service_after: Some(Duration::from_secs(7200)),
        ..Check::default()
    }
}

#[tokio::test]
async fn a_service_from_registration_to_removal() {
    let (consul, client) = Consul::start().await;
    let agent = client.agent();
    let registration = service(vec![ttl_check(), http_check()]);
    assert!(!format!("{registration:?}").contains("s3cr3t"));
    agent.register_service(&registration).await.unwrap();
    let known = agent.services().await.unwrap();
    assert_eq!((known["db/1"].service.as_str(), known["db/1"].port), ("db", 5432));
    assert_eq!(known["db/1"].meta["version"], "15");
    let checks = agent.checks().await.unwrap();
    assert_eq!(checks.len(), 2);
    assert_eq!(checks["db/1:ttl"].status, HealthStatus::Warning);
    assert_eq!(checks["db/1:http"].status, HealthStatus::Critical);

    agent.register_service(&service(vec![ttl_check()])).await.unwrap();
    assert_eq!(agent.checks().await.unwrap().len(), 1, "the other check was replaced");

    let states: [(HealthStatus, &str); 3] = [
        (HealthStatus::Critical, "bad ü\n?&"),
        (HealthStatus::Warning, "so so"),
        (HealthStatus::Passing, "good"),
    ];
    for (status, note) in states {
        match status {
            HealthStatus::Critical => agent.check_fail("db/1:ttl", note).await.unwrap(),
            HealthStatus::Warning => agent.check_warn("db/1:ttl", note).await.unwrap(),
            HealthStatus::Passing => agent.check_pass("db/1:ttl", note).await.unwrap(),
        }
        let check = agent.checks().await.unwrap().remove("db/1:ttl").unwrap();
        assert_eq!((check.status, check.output.as_str()), (status, note));
    }
    assert!(agent.check_pass("unknown", "").await.is_err());

    // The agent brings it to the catalogue in its own time: watch until it is there.
    let health = client.health();
    let mut read = ReadOptions::default();
    let found = loop {
        let found = health.service("db", Some("replica"), true, &read).await.unwrap();
        if !found.value.is_empty() {
            break found.value;
        }
        read = read.wait_for(found.index, Duration::from_secs(30));
    };
    assert_eq!(found[0].node.node, consul.node);
    assert_eq!(
        (found[0].service.address.as_str(), found[0].status()),
        ("127.0.0.9", HealthStatus::Passing)
    );
    let none = health.service("db", Some("primary"), false, &ReadOptions::default()).await;
    assert_eq!(none.unwrap().value, []);
    let all = client.catalog().services(&ReadOptions::default()).await.unwrap().value;
    assert_eq!(all["db"], ["replica"]);
    let instances = client.catalog().service("db", &ReadOptions::default()).await.unwrap().value;
    assert_eq!((instances[0].service_id.as_str(), instances[0].service_port), ("db/1", 5432));

    agent.deregister_service("db/1").await.unwrap();
    agent.deregister_service("db/1").await.unwrap();
    assert!(agent.services().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_external_node() {
    let (_consul, client) = Consul::start().await;
    let catalog = client.catalog();
    let check = HealthCheck {
        node: "outside".into(),
        check_id: "alive".into(),
        name: "alive".into(),
        status: HealthStatus::Critical,
        notes: String::new(),
        output: "no".into(),
        service_id: "vip-1".into(),
        service_name: "vip".into(),
    };
    let registration = CatalogRegistration {
        node: "outside".into(),
        address: "192.0.2.7".into(),
        node_meta: BTreeMap::from([("external-node".into(), "true".into())]),
        service: Some(AgentService {
            id: "vip-1".into(),
            service: "vip".into(),
            tags: vec!["a".into(), "b".into()],
            port: 5433,
            ..AgentService::default()
        }),
        checks: vec![check],
        ..CatalogRegistration::default()
    };
    catalog.register(&registration).await.unwrap();
    let nodes = catalog.nodes(&ReadOptions::consistent()).await.unwrap().value;
    let node = nodes.iter().find(|node| node.node == "outside").unwrap();
    assert_eq!((node.address.as_str(), node.meta["external-node"].as_str()), ("192.0.2.7", "true"));
    let health = client.health();
    let all = health.service("vip", None, false, &ReadOptions::default()).await.unwrap().value;
    assert_eq!((all.len(), all[0].status()), (1, HealthStatus::Critical));
    assert_eq!(all[0].service.tags, ["a", "b"]);
    let passing = health.service("vip", None, true, &ReadOptions::default()).await.unwrap();
    assert_eq!(passing.value, []);
    catalog.deregister("outside", Some("vip-1")).await.unwrap();
    assert!(catalog.service("vip", &ReadOptions::default()).await.unwrap().value.is_empty());
    catalog.deregister("outside", None).await.unwrap();
    let nodes = catalog.nodes(&ReadOptions::default()).await.unwrap().value;
    assert_eq!(nodes.len(), 1);
}

#[tokio::test]
async fn who_leads() {
    let (consul, client) = Consul::start().await;
    let leader = client.status().leader().await.unwrap().unwrap();
    assert_eq!(client.status().peers().await.unwrap(), [leader]);
    let info = client.agent().self_().await.unwrap();
    assert_eq!((info.node_name.as_str(), info.datacenter.as_str()), (consul.node.as_str(), "dc1"));
    assert!(info.server && info.version.starts_with("1."), "{info:?}");
    let elsewhere = hart_consul::Config {
        endpoints: vec![consul.address.clone()],
        datacenter: Some("mars".into()),
        ..Default::default()
    };
    let elsewhere = hart_consul::Client::new(elsewhere).unwrap();
    let error = elsewhere.catalog().nodes(&ReadOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}
