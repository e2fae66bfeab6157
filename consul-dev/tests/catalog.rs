//! Services, checks and health on this and on a real Consul.

mod support;

use std::time::Duration;

use hart_consul_dev::model::Settings;
use hart_consul_dev::{Options, Server};
use serde_json::Value;
use support::client::{Client, Req, Res};
use support::consul::{NODE, RealConsul};

struct Both {
    real: Client,
    own: Client,
}

/// Takes out what differs by nature: indexes, the node's id, what only a real cluster has.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(name, value)| {
                let is_node_id = *name == "ID" && value.as_str().is_some_and(|id| id.len() == 36);
                !is_node_id
                    && !name.ends_with("Index")
                    && !["consul", "ContentHash"].contains(&name.as_str())
            });
            Value::Object(kept.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

impl Both {
    async fn send(&mut self, request: &Req) -> (Res, Res) {
        tokio::join!(self.real.send(request), self.own.send(request))
    }

    /// Both must answer the same at once.
    async fn put(&mut self, path: &str, body: &str) {
        let (real, own) = self.send(&Req::new("PUT", path, body)).await;
        assert_eq!(
            (real.status, &real.body.trim()),
            (own.status, &own.body.trim()),
            "{path} {body}"
        );
    }

    /// Both must answer the same in the end (the real agent tells its catalog later).
    async fn same(&mut self, path: &str) {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let (real, own) = self.send(&Req::get(path)).await;
            let body = |r: &Res| r.json().map_or(Value::String(r.body.clone()), |v| plain(&v));
            if (real.status, body(&real)) == (own.status, body(&own)) {
                return;
            }
            if tokio::time::Instant::now() > until {
                panic!(
                    "{path}\n real {}: {}\n own {}: {}",
                    real.status,
                    body(&real),
                    own.status,
                    body(&own)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn same_all(&mut self) {
        for path in [
            "/v1/agent/services",
            "/v1/agent/checks",
            "/v1/agent/service/db-1",
            "/v1/agent/service/nope",
            "/v1/health/service/db",
            "/v1/health/service/db?passing",
            "/v1/health/service/db?passing=false",
            "/v1/health/service/db?passing=zz",
            "/v1/health/service/db?tag=primary",
            "/v1/health/service/db?tag=PRIMARY&passing=1",
            "/v1/health/service/nope",
            "/v1/health/service/",
            "/v1/health/checks/db",
            "/v1/health/node/nope",
            &format!("/v1/health/node/{NODE}"),
            "/v1/health/state/critical",
            "/v1/health/state/any",
            "/v1/catalog/services",
            "/v1/catalog/service/db",
            "/v1/catalog/service/ext",
            "/v1/catalog/service/nope",
            "/v1/catalog/service/",
            "/v1/catalog/node/ext",
            "/v1/catalog/node/nope",
            "/v1/catalog/nodes",
            "/v1/catalog/datacenters",
        ] {
            self.same(path).await;
        }
    }

    /// Runs `request` while both block on `path`; both must come back.
    async fn wakes(&mut self, path: &str, method: &'static str, at: &str, body: &str) {
        let (real, own) = self.send(&Req::get(path)).await;
        let block = |client: &Client, index: Option<u64>| {
            let mut client = Client::new(client.address());
            let mark = if path.contains('?') { '&' } else { '?' };
            let request = Req::get(format!("{path}{mark}index={}&wait=60s", index.unwrap_or(0)));
            tokio::spawn(async move { client.send(&request).await })
        };
        let waiting = (block(&self.real, real.index()), block(&self.own, own.index()));
        let (before_real, before_own) = (real.index(), own.index());
        let (real, own) = self.send(&Req::new(method, at, body)).await;
        assert_eq!(real.status, own.status, "{at}");
        let (real, own) = (waiting.0.await.expect("real"), waiting.1.await.expect("own"));
        assert!(real.index() > before_real && own.index() > before_own, "{path}: {real:?} {own:?}");
        self.same(path).await;
    }
}

async fn start() -> (RealConsul, Server, Both) {
    let real = RealConsul::start().await;
    let settings = Settings { node: NODE.to_owned(), ..Settings::default() };
    let own = Server::start_with("127.0.0.1:0", Options { settings, token: None });
    let own = own.await.expect("a free port");
    let both = Both { real: Client::new(real.address), own: Client::new(own.addr()) };
    (real, own, both)
}

const FULL: &str = r#"{"ID":"db-1","Name":"db","Tags":["primary","x"],"Port":5432,
    "Address":"10.0.0.1","Meta":{"k":"v"},"Check":{"TTL":"30s","Name":"nm","Notes":"no",
    "Status":"passing","DeregisterCriticalServiceAfter":"1m"}}"#;

#[tokio::test]
async fn services_and_checks() {
    let (_real, _own, mut both) = start().await;
    let register = "/v1/agent/service/register";
    for body in [
        "",
        "{}",
        r#"{"Name":"db"}"#,
        r#"{"Name":"db","Check":{}}"#,
        r#"{"Name":"db","Check":{"Interval":"5s"}}"#,
        r#"{"Name":"db","Check":{"HTTP":"http://127.0.0.1:1/"}}"#,
        r#"{"Name":"db","Check":{"TTL":"zz"}}"#,
        r#"{"Name":"db","Check":{"TTL":"10s","HTTP":"http://x","Interval":"1s"}}"#,
        r#"{"Name":"db","Check":{"TTL":"5s","Status":"zz"}}"#,
        r#"{"Name":"a","Port":"x"}"#,
        r#"{"Name":"a","Foo":1}"#,
        r#"{"Name":"a","Check":{"TTL":"5s","check_id":"a"}}"#,
        FULL,
        r#"{"id":"db-2","name":"db","tags":["replica"],"port":5433,"enable_tag_override":true,
            "checks":[{"ttl":"20s","CheckID":"mine","deregister_critical_service_after":"2m"},{"TTL":"20s"}]}"#,
    ] {
        both.put(register, body).await;
    }
    both.same_all().await;
    for (path, body) in [
        ("check/fail/service:db-1?note=bad", ""),
        ("check/pass/mine", ""),
        ("check/warn/service:db-2:2?note=hm", ""),
        ("check/fail/nope", ""),
        ("check/update/mine", r#"{"Status":"warning","Output":"o"}"#),
        ("check/update/mine", r#"{"Status":"zz"}"#),
        ("check/register", "{}"),
        ("check/register", r#"{"Name":"x"}"#),
        ("check/register", r#"{"Name":"x","TTL":"10s","ServiceID":"zz"}"#),
        ("check/register", r#"{"Name":"node check","TTL":"60s","Status":"passing"}"#),
        ("check/deregister/nope", ""),
        ("service/deregister/", ""),
        ("service/deregister/nope", ""),
        ("service/maintenance/db-2", ""),
        ("service/maintenance/nope?enable=true", ""),
        ("service/maintenance/db-2?enable=true&reason=why", ""),
    ] {
        both.put(&format!("/v1/agent/{path}"), body).await;
    }
    both.same_all().await;
    // A repeated registration keeps the state of its checks.
    both.put(register, FULL).await;
    both.put("/v1/agent/service/maintenance/db-2?enable=false", "").await;
    both.same_all().await;
    both.put(&format!("{register}?replace-existing-checks"), r#"{"ID":"db-2","Name":"db"}"#).await;
    both.put("/v1/agent/service/deregister/db-1", "").await;
    both.same_all().await;
}

#[tokio::test]
async fn external_nodes_and_blocking() {
    let (_real, _own, mut both) = start().await;
    let ext = r#"{"Node":"ext","Address":"10.1.1.1","NodeMeta":{"a":"b"},"Service":{"ID":"e1",
        "Service":"ext","Port":80,"Tags":["x"]},"Check":{"CheckID":"c1","Name":"c1",
        "Status":"passing","ServiceID":"e1"}}"#;
    let (register, deregister) = ("/v1/catalog/register", "/v1/catalog/deregister");
    both.put(register, "{}").await;
    both.put(register, r#"{"Node":"ext"}"#).await;
    both.put(register, r#"{"Node":"ext","Address":"10.1.1.1","Foo":1}"#).await;
    both.put(deregister, r#"{"Node":"ext","Foo":1}"#).await;
    both.put(deregister, "{}").await;
    both.wakes("/v1/catalog/nodes", "PUT", register, ext).await;
    both.same_all().await;
    let failed = ext.replace("passing", "critical");
    both.wakes("/v1/health/service/ext?passing", "PUT", register, &failed).await;
    let agent = "/v1/agent/service/register";
    both.wakes("/v1/catalog/services", "PUT", agent, FULL).await;
    let fail = "/v1/agent/check/fail/service:db-1";
    both.wakes("/v1/health/service/db", "PUT", fail, "").await;
    let node = format!("/v1/health/node/{NODE}");
    both.wakes(&node, "PUT", "/v1/agent/check/pass/service:db-1", "").await;
    both.wakes("/v1/catalog/service/db", "PUT", agent, &FULL.replace("5432", "5439")).await;
    both.wakes("/v1/health/service/db", "PUT", "/v1/agent/service/deregister/db-1", "").await;
    both.put(deregister, r#"{"Node":"ext","CheckID":"c1"}"#).await;
    both.same_all().await;
    both.wakes("/v1/catalog/nodes", "PUT", deregister, r#"{"Node":"ext"}"#).await;
    both.same_all().await;
}

/// A session that hangs on a check, or on a node, ends with it.
#[tokio::test]
async fn sessions_end_with_their_checks_and_nodes() {
    let (_real, _own, mut both) = start().await;
    let node = r#"{"Node":"ext","Address":"10.1.1.1","Check":{"CheckID":"c1","Name":"c1","Status":"passing"}}"#;
    both.put("/v1/catalog/register", node).await;
    for (body, end) in [
        (
            r#"{"Node":"ext","NodeChecks":["c1"],"Checks":["c1"],"LockDelay":"0s"}"#,
            ("register", node.replace("passing", "critical")),
        ),
        (
            r#"{"Node":"ext","Checks":[],"LockDelay":"0s"}"#,
            ("deregister", r#"{"Node":"ext"}"#.to_owned()),
        ),
    ] {
        let (real, own) = both.send(&Req::new("PUT", "/v1/session/create", body)).await;
        for (client, answer) in [(&mut both.real, real), (&mut both.own, own)] {
            let id = answer.json().and_then(|v| v["ID"].as_str().map(str::to_owned));
            let path = format!("/v1/kv/lock?acquire={}", id.expect("a session"));
            assert_eq!(client.send(&Req::new("PUT", path, "x")).await.body.trim(), "true");
        }
        both.same("/v1/session/node/ext").await;
        both.wakes("/v1/kv/lock", "PUT", &format!("/v1/catalog/{}", end.0), &end.1).await;
        both.same("/v1/session/list").await;
    }
    for refused in [r#"{"Node":"ext"}"#, r#"{"Node":"ext","Checks":["c1"]}"#] {
        both.put("/v1/session/create", refused).await;
    }
}

/// Which checks a session hangs on, as the three fields for it say.
#[tokio::test]
async fn checks_of_sessions() {
    let (_real, _own, mut both) = start().await;
    let check = r#"{"Name":"cc","TTL":"600s","Status":"passing"}"#;
    both.put("/v1/agent/check/register", check).await;
    both.same(&format!("/v1/health/node/{NODE}")).await;
    for body in [
        "",
        "{}",
        r#"{"Checks":null}"#,
        r#"{"Checks":["cc"]}"#,
        r#"{"Checks":["serfHealth"]}"#,
        r#"{"NodeChecks":[]}"#,
        r#"{"NodeChecks":["cc"]}"#,
        r#"{"NodeChecks":["cc"],"Checks":["serfHealth"]}"#,
        r#"{"NodeChecks":["cc"],"Checks":[]}"#,
        r#"{"NodeChecks":[],"Checks":["cc"]}"#,
        r#"{"NodeChecks":["serfHealth"],"Checks":["serfHealth","cc"]}"#,
        r#"{"ServiceChecks":[{"ID":"cc"}]}"#,
        r#"{"ServiceChecks":[{"ID":"cc"}],"Checks":[]}"#,
        r#"{"LockDelay":"90s","Name":"nm","Behavior":"delete","TTL":"15.0s"}"#,
        r#"{"lockdelay":5,"ID":"xx","Foo":1}"#,
        r#"{"LockDelay":1500}"#,
        r#"{"LockDelay":"-5s"}"#,
        r#"{"LockDelay":"0.001s","TTL":"0s","checks":[]}"#,
    ] {
        let (real, own) = both.send(&Req::new("PUT", "/v1/session/create", body)).await;
        let mut shown = Vec::new();
        for (client, created) in [(&mut both.real, real), (&mut both.own, own)] {
            let id = created.json().and_then(|v| v["ID"].as_str().map(str::to_owned));
            let id = id.unwrap_or_else(|| panic!("{body}: {created:?}"));
            let info = client.send(&Req::get(format!("/v1/session/info/{id}"))).await;
            shown.push(info.json().map(|v| plain(&v)));
        }
        assert_eq!(shown[0], shown[1], "{body}");
    }
}

/// Probes: the agent asks, here itself.
#[tokio::test]
async fn probes_and_expired_ttls() {
    let (_real, _own, mut both) = start().await;
    for client in [&mut both.real, &mut both.own] {
        let at = client.address();
        let body = format!(
            r#"{{"Name":"web","Checks":[
                {{"CheckID":"up","HTTP":"http://{at}/v1/status/leader","Interval":"1s","Timeout":"5s"}},
                {{"CheckID":"lost","HTTP":"http://{at}/v1/nope","Interval":"1s","Status":"passing"}},
                {{"CheckID":"port","TCP":"{at}","Interval":"1s"}},
                {{"CheckID":"late","TTL":"2s","Status":"passing"}}]}}"#
        );
        assert_eq!(
            client.send(&Req::new("PUT", "/v1/agent/service/register", body)).await.status,
            200
        );
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let wanted =
            [("up", "passing"), ("lost", "critical"), ("port", "passing"), ("late", "critical")];
        loop {
            let seen =
                client.send(&Req::get("/v1/health/checks/web")).await.json().unwrap_or_default();
            let seen: Vec<&Value> = seen.as_array().into_iter().flatten().collect();
            let is = |(id, status): &(&str, &str)| {
                seen.iter()
                    .any(|c| c["CheckID"] == *id && c["Status"] == *status && c["Output"] != "")
            };
            if wanted.iter().all(is) {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "{at}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let checks = client.send(&Req::get("/v1/agent/checks")).await.json().unwrap_or_default();
        let output = |id: &str| checks[id]["Output"].as_str().unwrap_or_default().to_owned();
        assert!(
            output("up")
                .starts_with(&format!("HTTP GET http://{at}/v1/status/leader: 200 OK Output: \""))
        );
        assert_eq!(output("lost"), format!("HTTP GET http://{at}/v1/nope: 404 Not Found Output: "));
        assert_eq!(output("port"), format!("TCP connect {at}: Success"));
        assert_eq!(output("late"), "TTL expired");
    }
}
