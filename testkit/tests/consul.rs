//! A real Consul starts, answers, and comes back with its data.

use hart_testkit::{Consul, Lab, Rest};

#[tokio::test]
async fn a_server_on_loopback_keeps_its_data_over_a_restart() {
    let mut consul = Consul::on_loopback().await.expect("Consul");
    let rest = Rest::new().expect("client");
    let key = consul.url("/v1/kv/test?raw");
    let put = rest.call("PUT", &key, Some(&"hello".into())).await.expect("answer");
    assert_eq!((put.status, put.text.trim()), (200, "true"));
    consul.kill();
    assert!(rest.get(&key).await.is_err(), "nobody listens after the kill");
    consul.start_again().await.expect("started again");
    assert_eq!(rest.get(&key).await.expect("answer").text, "\"hello\"");
}

#[tokio::test]
async fn two_servers_do_not_meet() {
    let (a, b) = (Consul::on_loopback().await, Consul::on_loopback().await);
    let (a, b) = (a.expect("first"), b.expect("second"));
    assert_ne!(a.address(), b.address());
    let rest = Rest::new().expect("client");
    for consul in [&a, &b] {
        let members = rest.get(&consul.url("/v1/agent/members")).await.expect("members");
        assert_eq!(members.json().expect("JSON").as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn acls_are_enforced() {
    let token = "e95b599e-166e-7d80-08ad-aee76e7ddf19";
    let consul = Consul::on_loopback_with_acl(token).await.expect("Consul");
    for (rest, expected) in [(Rest::new(), 403), (Rest::with_token(token), 200)] {
        let url = consul.url("/v1/kv/test");
        let answer = rest.expect("client").call("PUT", &url, Some(&1.into())).await;
        assert_eq!(answer.expect("answer").status, expected);
    }
}

#[tokio::test]
async fn a_client_agent_on_a_host_speaks_for_the_server() {
    let mut lab = Lab::new(1).expect("lab");
    let _in_hub = lab.enter_hub().expect("hub");
    let server_host = lab.add_host("consul").expect("host").clone();
    let server = Consul::on_host(&server_host).await.expect("server");
    let host = lab.host("n1").expect("host");
    let client = Consul::client_on_host(host, std::slice::from_ref(&server)).await.expect("client");
    let rest = Rest::new().expect("client");
    rest.call("PUT", &client.url("/v1/kv/test"), Some(&7.into())).await.expect("put");
    let read = rest.get(&server.url("/v1/kv/test?raw")).await.expect("read");
    assert_eq!(read.text, "7");
}
