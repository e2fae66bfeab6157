//! Who may change something.

use axum::http::Request;

use super::{Answer, Node, call, primary, replica, request, snapshot};

const LOCKED: &str = "  authentication: {username: admin, password: s3cret}\n";

async fn with_header(node: &Node, header: &str) -> Answer {
    let mut request = request("DELETE", "/restart", None);
    request.headers_mut().insert("authorization", header.parse().unwrap());
    call(node.handle.clone(), request).await
}

#[tokio::test]
async fn changes_need_the_password_and_reading_does_not() {
    let node = Node::with(LOCKED, super::NO_CONSUL, primary());
    for path in ["/", "/patroni", "/cluster", "/history"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    for (method, path) in [
        ("POST", "/switchover"),
        ("POST", "/failover"),
        ("POST", "/restart"),
        ("POST", "/reinitialize"),
        ("POST", "/reload"),
        ("POST", "/upgrade"),
        ("PATCH", "/config"),
        ("PUT", "/config"),
        ("DELETE", "/switchover"),
        ("POST", "/nonsense"),
        ("BREW", "/"),
    ] {
        let answer = node.call(method, path, Some("{}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, "no auth header received"));
        assert_eq!(answer.headers["www-authenticate"], "Basic realm=\"Patroni\"");
    }
    // admin:s3cret, admin:s3cre, admin:s3cret!, rubbish
    assert_eq!(with_header(&node, "Basic YWRtaW46czNjcmV0").await.status, 404);
    assert_eq!(with_header(&node, "basic YWRtaW46czNjcmV0").await.status, 404);
    for wrong in [
        "Basic YWRtaW46czNjcmU=",
        "Basic YWRtaW46czNjcmV0IQ==",
        "Basic ?",
        "Basic",
        "Bearer YWRtaW46czNjcmV0",
    ] {
        let answer = with_header(&node, wrong).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, "not authenticated"), "{wrong}");
    }
}

#[tokio::test]
async fn only_listed_addresses_may_change_something() {
    let table = [
        ("  allowlist: [10.0.0.0/8]\n", 403),
        ("  allowlist: [10.0.0.0/8, 127.0.0.0/8]\n", 404),
        ("  allowlist: [localhost]\n", 404),
        ("  allowlist_include_members: true\n", 403),
        ("", 404),
    ];
    for (lines, expected) in table {
        let node = Node::with(lines, super::NO_CONSUL, replica());
        let answer = node.call("DELETE", "/restart", None).await;
        assert_eq!(answer.status, expected, "{lines}");
        assert_eq!(node.get("/health").await.status, 200);
    }
    let member = r#"{"api_url":"http://127.0.0.1:8009/patroni"}"#;
    let mut view = replica();
    view.snapshot = Some(snapshot(&[("members/n2", member)]));
    let node = Node::with("  allowlist_include_members: true\n", super::NO_CONSUL, view);
    assert_eq!(node.call("DELETE", "/restart", None).await.status, 404);
    // Nobody knows where this comes from.
    let request = Request::delete("/restart").body(axum::body::Body::empty()).unwrap();
    assert_eq!(call(node.handle.clone(), request).await.status, 403);
}

#[tokio::test]
async fn answers_carry_the_extra_headers() {
    let lines = "  http_extra_headers: {X-Frame-Options: deny}\n";
    let node = Node::with(lines, super::NO_CONSUL, primary());
    for (method, path) in [("GET", "/"), ("HEAD", "/replica"), ("DELETE", "/restart")] {
        let answer = node.call(method, path, None).await;
        assert_eq!(answer.headers["x-frame-options"], "deny", "{method} {path}");
    }
}

fn from(peer: &str, headers: &[(&'static str, &str)]) -> Request<axum::body::Body> {
    let mut request = request("DELETE", "/restart", None);
    let peer: std::net::SocketAddr = peer.parse().unwrap();
    request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// As a Patroni file has it that says nothing about access.
#[tokio::test]
async fn without_a_word_about_access_this_host_and_the_members_may_change_something() {
    let member = r#"{"api_url":"http://10.0.0.22:8008/patroni",
        "conn_url":"postgres://192.0.2.22:5432/postgres"}"#;
    let list = r#"{"n3":"http://[fd00::23]:8008/patroni"}"#;
    let mut view = replica();
    view.snapshot = Some(snapshot(&[("members/n2", member), ("failsafe", list)]));
    let node = Node::with("", super::NO_CONSUL, view.clone());
    let table = [
        ("127.0.0.1:4000", 404),
        ("[::1]:4000", 404),
        ("10.0.0.22:4000", 404),
        ("192.0.2.22:4000", 404),
        ("[::ffff:10.0.0.22]:4000", 404),
        ("[fd00::23]:4000", 404),
        ("10.0.0.23:4000", 403),
        ("203.0.113.1:4000", 403),
        ("[fd00::24]:4000", 403),
    ];
    for (peer, expected) in table {
        let answer = call(node.handle.clone(), from(peer, &[])).await;
        assert_eq!(answer.status, expected, "{peer}: {}", answer.body);
        let named = answer.body.contains("restapi.authentication");
        assert_eq!(named, expected == 403, "the remedy: {}", answer.body);
    }
    let open = Node::with("  open: true\n", super::NO_CONSUL, view);
    assert_eq!(call(open.handle.clone(), from("203.0.113.1:4000", &[])).await.status, 404);
}

/// A call to one of this host's own addresses comes from that address.
#[tokio::test]
async fn whoever_calls_from_this_host_is_near() {
    let node = Node::new(replica());
    for (here, expected) in [("198.51.100.7", 404), ("198.51.100.8", 403)] {
        let mut request = from("198.51.100.7:4000", &[]);
        request.extensions_mut().insert(crate::api::doors::Here(here.parse().unwrap()));
        assert_eq!(call(node.handle.clone(), request).await.status, expected);
    }
}

#[tokio::test]
async fn the_old_form_of_authentication_locks_the_door() {
    let node = Node::with("  auth: 'admin:s3c:ret'\n", super::NO_CONSUL, primary());
    assert_eq!(node.call("DELETE", "/restart", None).await.status, 401);
    // admin:s3c:ret
    assert_eq!(with_header(&node, "Basic YWRtaW46czNjOnJldA==").await.status, 404);
}

#[tokio::test]
async fn a_web_page_of_another_site_changes_nothing() {
    let node = Node::new(replica());
    for (headers, expected) in [
        (&[("content-type", "application/x-www-form-urlencoded")][..], 404),
        (&[("origin", "http://evil.example"), ("host", "127.0.0.1:8008")], 403),
        (&[("origin", "http://evil.example:8008"), ("host", "evil.example:8008")], 403),
        (&[("content-type", "text/plain")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
    ] {
        let answer = call(node.handle.clone(), from("127.0.0.1:4000", headers)).await;
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.body);
    }
}

/// The password is changed from node to node: those that have not read it again are not locked out.
#[tokio::test]
async fn the_former_password_is_good_for_a_while_after_a_reload() {
    let node = Node::with(LOCKED, super::NO_CONSUL, primary());
    let new = hart_config::Credentials {
        username: "admin".into(),
        password: hart_config::Secret::new("new"),
    };
    // admin:new, admin:s3cret
    let (with_new, with_old) = ("Basic YWRtaW46bmV3", "Basic YWRtaW46czNjcmV0");
    assert_eq!(with_header(&node, with_new).await.status, 401);
    node.handle.logins.renew(Some(&new), hart_clock::now());
    assert_eq!(with_header(&node, with_new).await.status, 404);
    assert_eq!(with_header(&node, with_old).await.status, 404);
}

/// The other side of it: a member that has not read the new password yet refuses it.
#[tokio::test]
async fn a_member_that_knows_only_the_former_password_is_asked_with_that() {
    let node = Node::with(LOCKED, super::NO_CONSUL, primary());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/nonsense", listener.local_addr().unwrap());
    let app = crate::api::router(node.handle.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let login = |word: &str| hart_config::Credentials {
        username: "admin".into(),
        password: hart_config::Secret::new(word),
    };
    let logins = crate::node::logins::Logins::new(Some(login("s3cret")));
    let http = crate::node::http::client(&hart_tls::Client::default()).build().unwrap();
    let status = async || logins.send(http.post(&url)).await.unwrap().status().as_u16();
    assert_eq!(status().await, 501);
    logins.renew(Some(&login("new")), hart_clock::now());
    assert_eq!(status().await, 501, "with the former one");
    logins.renew(Some(&login("newer")), hart_clock::now());
    assert_eq!(status().await, 401);
}
