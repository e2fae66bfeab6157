//! The reference and what really answers.

use std::collections::BTreeSet;

use hart_consul_dev::Server;

use super::{Node, View, replica, snapshot};
use crate::api::{Reference, reference};

/// A replica whose loop has ended: whatever is asked of it fails at once.
async fn node() -> (Node, Server) {
    let server = Server::start("127.0.0.1:0").await.unwrap();
    let keys =
        [("leader", "n9"), ("status", r#"{"optime":1000}"#), ("config", "{}"), ("failsafe", "{}")];
    let observation = Some(std::sync::Arc::default());
    let view = View { snapshot: Some(snapshot(&keys)), observation, ..replica() };
    let mut node = Node::with("", &server.url(), view);
    node.asks.close();
    (node, server)
}

#[tokio::test]
async fn every_documented_call_is_answered_and_no_other() {
    let (node, _server) = node().await;
    let Reference { reads, checks, changes } = reference();
    for path in reads.iter().flat_map(|doc| doc.paths) {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    let documented: BTreeSet<_> =
        changes.iter().flat_map(|doc| doc.paths.iter().map(|path| (doc.method, *path))).collect();
    let all = reads.iter().chain(&checks).chain(&changes).flat_map(|doc| doc.paths);
    for path in all.copied().chain(["/failsafe", "/sigterm", "/citus", "/nonsense"]) {
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE"] {
            // Not JSON, so that nothing is done.
            let answer = node.call(method, path, Some("{")).await;
            let routed = documented.contains(&(method, path));
            assert_eq!(answer.status != 501, routed, "{method} {path}: {}", answer.status);
        }
    }
}
