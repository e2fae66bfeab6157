use std::error::Error as _;
use std::fs;
use std::time::Duration;

use hart_consul::{Client, Config, Error, Outcome, PutOptions, Result, Tls};

use crate::consul::{Consul, Dir, client_tls, consul as run};

async fn put(address: &str, tls: Tls) -> Result<bool> {
    let endpoints = vec![format!("https://{address}")];
    let config =
        Config { endpoints, tls, connect_timeout: Duration::from_secs(30), ..Config::default() };
    let client = Client::new(config)?.with_timeout(Duration::from_secs(60));
    client.kv().put("k", "v", &PutOptions::default()).await
}

#[tokio::test]
async fn certificates_decide() {
    let dir = Dir::new();
    let (consul, _) = Consul::start_with_tls(&dir).await;
    let good = client_tls(&dir);
    assert!(put(&consul.address, good.clone()).await.unwrap());

    let named = |name: &str| Tls { server_name: Some(name.into()), ..good.clone() };
    assert!(put(&consul.address, named("server.dc1.consul")).await.unwrap());
    let wrong = put(&consul.address, named("server.dc2.consul")).await.unwrap_err();
    assert!(matches!(wrong, Error::Connect { .. }), "{wrong:?}");

    let pem = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let both = dir.join("both.pem");
    let text = pem("dc1-client-consul-0.pem") + &pem("dc1-client-consul-0-key.pem");
    fs::write(&both, text).unwrap();
    let one_file = Tls { client_cert: Some(both), client_key: None, ..good.clone() };
    assert!(put(&consul.address, one_file).await.unwrap());

    let other = Dir::new();
    run(&other.join("."), "tls ca create");
    let stranger = Tls { ca_cert: Some(other.join("consul-agent-ca.pem")), ..good.clone() };
    let error = put(&consul.address, stranger.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.source().is_some());
    assert!(put(&consul.address, Tls { verify: false, ..stranger }).await.unwrap());
    let unverified = Tls { ca_cert: None, verify: false, ..good };
    assert!(put(&consul.address, unverified).await.unwrap());
}

#[tokio::test]
async fn unusable_files_are_named() {
    let dir = Dir::new();
    let file = dir.join("nonsense.pem");
    fs::write(&file, "nonsense").unwrap();
    let missing = Some(dir.join("missing.pem"));
    let cases = [
        Tls { ca_cert: missing.clone(), ..Tls::default() },
        Tls { ca_cert: Some(file.clone()), ..Tls::default() },
        Tls { client_cert: missing.clone(), verify: false, ..Tls::default() },
        Tls { client_cert: Some(file), verify: false, ..Tls::default() },
        Tls { client_key: missing, verify: false, ..Tls::default() },
        Tls { server_name: Some("192.0.2.1".into()), verify: false, ..Tls::default() },
    ];
    for tls in cases {
        let error = put("127.0.0.1:1", tls.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{tls:?} {error}");
    }
}
