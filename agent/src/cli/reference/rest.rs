//! The page of the REST API.

use super::markdown::{code, codes, section, table, title};
use crate::api::{Reference, RouteDoc, reference};

pub(super) fn page() -> String {
    let Reference { reads, checks, changes } = reference();
    let mut page = title("REST API", "`agent/src/api/table.rs` and `agent/src/api/checks.rs`");
    page.push_str(
        "\nPaths, status codes and texts are Patroni's; hart's own part is under the key `hart`. \
         Wherever `GET` is, `HEAD` and `OPTIONS` answer with the same status and no body. A body is \
         JSON of at most 64 KiB.\n",
    );
    let about = "The first part of the path counts: `/patroni/x` is `/patroni`.";
    page.push_str(&section("Status and probes", about));
    page.push_str(&routes(&reads));
    let about = "For load balancers. The first check that fits counts, in this order; most fit any \
                 path that contains their name. A path that is not known is a check that fails \
                 (503).";
    page.push_str(&section("Health checks", about));
    page.push_str(&routes(&checks));
    let about = "Only for callers that `restapi.allowlist`, `restapi.verify_client` and \
                 `restapi.authentication` admit (403, 403, 401 otherwise); where none is set, for this host and the members' addresses \
                 (403), or with `restapi.open` for everybody. Web pages of other sites are \
                 refused: a foreign `Origin`, a `Host` that is neither an address nor a member's \
                 name beside an `Origin`, `Sec-Fetch-Site` other than `same-origin`, a body of \
                 `text/plain` or `multipart/…` (403). 501 for a path or method that is not known. \
                 Where a body is required, 411 without one, 400 for what is no JSON object, 413 \
                 for one that is too long.";
    page.push_str(&section("Calls that change something", about));
    page.push_str(&routes(&changes));
    page
}

fn routes(docs: &[RouteDoc]) -> String {
    let rows = docs.iter().map(|doc| {
        let (path, others) = doc.paths.split_first().unwrap_or((&"", &[]));
        let call = code(&format!("{} {path}", doc.method));
        let also = if others.is_empty() { String::new() } else { " also ".to_owned() };
        let call = format!("{call}{also}{}", codes(others.iter().copied()));
        [call, doc.doc.to_owned(), doc.takes.to_owned(), doc.answers.to_owned()]
    });
    table(["Call", "What it is for", "Takes", "Answers"], rows)
}
