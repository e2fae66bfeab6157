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
