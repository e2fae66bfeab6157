//! What the API refuses, and what has no state to be random about: the same requests to this and
//! to a real Consul.

mod support;

use hart_consul_dev::model::Settings;
use hart_consul_dev::{Options, Server};
use support::client::Req;
use support::consul::{NODE, RealConsul};
use support::run::Pair;

const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Requests that must get the same answer.
fn same() -> Vec<Req> {
    let get = |path: &str| Req::get(path);
    let put = |path: &str, body: &str| Req::new("PUT", path, body);
    let delete = |path: &str| Req::new("DELETE", path, "");
    let mut requests = vec![
        get("/v1/kv/"),
        get("/v1/kv/?recurse"),
        get("/v1/kv/?keys"),
        get("/v1/kv/zz?keys"),
        put("/v1/kv/a", "x"),
        get("/v1/kv/?keys"),
        get("/v1/kv/?recurse"),
        get("/v1/kv/a?raw"),
        get("/v1/kv/a?recurse&raw"),
        get("/v1/kv/a?recurse&keys"),
        put("/v1/kv/a?flags=zz", "x"),
        put("/v1/kv/a?flags=99999999999999999999", "x"),
        put("/v1/kv/a?flags=18446744073709551615", "x"),
        put("/v1/kv/a?cas=zz", "x"),
        put("/v1/kv/a?cas=0&acquire=zz", "x"),
        put("/v1/kv/a?cas=0&flags=1&release=zz", "x"),
        put("/v1/kv/a?acquire=zz", "x"),
        put("/v1/kv/a?acquire=", "x"),
        put("/v1/kv/a?release=", "x"),
        put("/v1/kv/a?release=zz", "x"),
        put("/v1/kv/nn?release=zz", "x"),
        put("/v1/kv/a?acquire=00000000-0000-0000-0000-00000000000g", "x"),
        put(&format!("/v1/kv/a?acquire={NOBODY}"), "x"),
        put("/v1/kv/", "x"),
        put("/v1/kv/big", &"x".repeat(524_288)),
        delete("/v1/kv/big"),
        put("/v1/kv/big", &"x".repeat(524_289)),
        delete("/v1/kv/"),
        delete("/v1/kv/nn?cas=5"),
        delete("/v1/kv/a?cas=0"),
        delete("/v1/kv/a?cas=zz"),
        delete("/v1/kv/a?cas=1&recurse"),
        Req::new("POST", "/v1/kv/a", ""),
        Req::new("OPTIONS", "/v1/kv/a", ""),
        get("/v1/txn"),
        get("/v1/kv/a?index=zz"),
        get("/v1/kv/a?index=-1"),
        get("/v1/kv/a?wait=zz"),
        get("/v1/kv/a?wait=10"),
        get("/v1/kv/a?wait=-1s&index=1"),
        get("/v1/kv/a?index=1000000&wait=50ms"),
        get("/v1/kv/nn?index=1000000&wait=50ms"),
        get("/v1/kv/a?stale&consistent"),
        get("/v1/kv/a?dc=zz"),
        put("/v1/kv/a?dc=zz", "x"),
        get("/v1/kv/a?dc=dc1"),
        put("/v1/kv/b/c", ""),
        get("/v1/kv/b/c?raw"),
        get("/v1/kv/b/c"),
        put("/v1/kv/b//c", "x"),
        put("/v1/kv/b/../c", "x"),
        put("/v1/kv/..%2Fa", "x"),
        get("/v1/kv/b%2Fc"),
        get("/v1/kv/?keys&separator=%2F"),
        get("/v1/kv/b/?keys&separator=%2F"),
        get("/v1/zz"),
        get("/zz"),
        get("/v1/session/zz"),
        delete("/v1/kv/?recurse"),
        get("/v1/kv/?recurse"),
        get("/v1/kv/b?recurse"),
    ];
    requests.extend(sessions());
    requests.extend(txns());
    requests
}

fn sessions() -> Vec<Req> {
    let create = |body: &str| Req::new("PUT", "/v1/session/create", body);
    let mut requests: Vec<Req> = [
        r#"{"TTL":"5s"}"#,
        r#"{"TTL":"zz"}"#,
        r#"{"TTL":"10"}"#,
        r#"{"TTL":"-5s"}"#,
        r#"{"TTL":"90000s"}"#,
        r#"{"TTL":5}"#,
        r#"{"Behavior":"zz"}"#,
        r#"{"Node":"zz"}"#,
        r#"{"Node":""}"#,
        r#"{"Checks":["zz"]}"#,
        r#"{"NodeChecks":["zz"]}"#,
        r#"{"ServiceChecks":[{"ID":"zz"}]}"#,
        r#"{"Checks":["zz"],"NodeChecks":["yy"],"ServiceChecks":[{"ID":"xx"}]}"#,
        r#"{"NodeChecks":["yy"],"ServiceChecks":[{"ID":"xx"}]}"#,
        r#"{"LockDelay":"zz"}"#,
        r#"{"Name":5}"#,
        r#"{"TTL":"zz","Behavior":"zz","Node":"zz"}"#,
        r#"{"TTL":"zz","Behavior":"delete","Node":"zz"}"#,
    ]
    .map(create)
    .into();
    for verb in ["renew", "destroy"] {
        for id in ["", "zz", NOBODY] {
            requests.push(Req::new("PUT", format!("/v1/session/{verb}/{id}"), ""));
        }
    }
    for path in ["info/", "info/zz", &format!("info/{NOBODY}"), "node/", "node/zz", "list"] {
        requests.push(Req::get(format!("/v1/session/{path}")));
    }
    requests.push(Req::get("/v1/session/list?index=zz"));
    requests.push(Req::get(format!("/v1/session/renew/{NOBODY}")));
    requests
}

fn txns() -> Vec<Req> {
    let many = |count: usize| {
        format!("[{}]", vec![r#"{"KV":{"Verb":"set","Key":"t/a"}}"#; count].join(","))
    };
    let bodies = [
        "".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "[{}]".to_owned(),
        r#"[{"KV":{}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"zz","Key":"a"}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set"}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"get","Key":"nope"}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"get-tree","Key":""}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"delete-tree","Key":"nope"}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"delete-tree"}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"t/a","Value":null}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"t/a","Value":""}},{"KV":{"Verb":"get","Key":"t/a"}}]"#
            .to_owned(),
        r#"[{"KV":{"verb":"set","key":"t/a","value":"eA==","flags":7}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"t/a","Value":5}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"t/a","Flags":-1}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"t/a","Flags":"7"}}]"#.to_owned(),
        r#"[{"Zz":{}}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"t/a","Zz":1}}]"#.to_owned(),
        many(64),
        many(65),
    ];
    bodies.into_iter().map(|body| Req::new("PUT", "/v1/txn", body)).collect()
}

/// Requests of which only the status must be the same: the text is Go's JSON parser's.
fn same_status() -> Vec<Req> {
    let put = |path: &str, body: &str| Req::new("PUT", path, body);
    vec![
        Req::get("/v1/kv/%zz"),
        put("/v1/txn", "zz"),
        put("/v1/txn", r#"[{"KV":{"Verb":"set","Key":"t/a","Value":"!!"}}]"#),
        put("/v1/session/create", "zz"),
        put("/v1/session/create", "[]"),
        put("/v1/agent/service/register", "zz"),
        put("/v1/catalog/register", "zz"),
    ]
}

#[tokio::test]
async fn refusals_and_corner_cases() {
    let real = RealConsul::start().await;
    let settings = Settings { node: NODE.to_owned(), ..Settings::default() };
    let own = Server::start_with("127.0.0.1:0", Options { settings, token: None });
    let own = own.await.expect("a free port");
    let mut pair = Pair::new(real.address, &own, "");
    let mut differences = Vec::new();
    for request in same() {
        let shown = Req { body: request.body.chars().take(200).collect(), ..request.clone() };
        let (real, own) = pair.both(&request).await;
        if let Err(why) = pair.mapping.answers(&real, &own) {
            differences.push(format!("{shown:?}: {why}"));
        }
        for header in ["allow", "location", "content-security-policy"] {
            if real.headers.get(header) != own.headers.get(header) {
                differences.push(format!("{shown:?}: {header}: {real:?} and {own:?}"));
            }
        }
    }
    for request in same_status() {
        let (real, own) = pair.both(&request).await;
        if real.status != own.status {
            differences.push(format!("{request:?}: {real:?} and {own:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
