//! The routes: which method and path go where, and what the reference page says of them. Requests
//! are matched by these tables and by [`super::checks`], so that nothing is routed and not
//! documented, or the other way round.

use super::checks::{self, Check};

/// What the reference page says of one way to call the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteDoc {
    /// The method; `GET` stands for `HEAD` and `OPTIONS`, too.
    pub method: &'static str,
    /// The path, then its other names.
    pub paths: &'static [&'static str],
    /// Parameters of the query, or keys of the body; empty where it takes none.
    pub takes: &'static str,
    /// Status codes, and what is in the body.
    pub answers: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

/// A way to call the API and what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<T> {
    pub(super) doc: RouteDoc,
    pub(super) to: T,
}

impl<T: Copy> Route<T> {
    pub(super) const fn new(
        to: T,
        method: &'static str,
        paths: &'static [&'static str],
        doc: &'static str,
    ) -> Self {
        Self { doc: RouteDoc { method, paths, takes: "", answers: "", doc }, to }
    }

    pub(super) const fn takes(self, takes: &'static str) -> Self {
        Self { doc: RouteDoc { takes, ..self.doc }, ..self }
    }

    pub(super) const fn answers(self, answers: &'static str) -> Self {
        Self { doc: RouteDoc { answers, ..self.doc }, ..self }
    }
}

/// A call that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Patroni,
    Cluster,
    History,
    Failsafe,
    Config,
    Liveness,
    Readiness,
    Events,
    Why,
    Observe,
    Metrics,
}

/// A call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    PatchConfig,
    PutConfig,
    Switchover,
    TakeSwitchoverBack,
    Failover,
    Restart,
    TakeRestartBack,
    Reinitialize,
    Reload,
    Upgrade,
    Failsafe,
    PgBouncer,
    Parameters,
}

const GET: &str = "GET";

const READS: &[Route<Read>] = &[
    Route::new(
        Read::Patroni,
        GET,
        &["/patroni"],
        "The status of this node, after a fresh look at PostgreSQL.",
    )
    .answers("200, the status as JSON; hart's own part is under the key `hart`"),
    Route::new(Read::Cluster, GET, &["/cluster"], "All members, as `hart list` shows them.")
        .answers("200, JSON; 503 before Consul has answered for the first time"),
    Route::new(Read::History, GET, &["/history"], "The ends of all timelines, oldest first.")
        .answers(
            "200, the key `history` as JSON; 503 before Consul has answered for the first time",
        ),
    Route::new(
        Read::Failsafe,
        GET,
        &["/failsafe"],
        "The members that a leader without Consul asks, with their REST addresses.",
    )
    .answers("200, the key `failsafe` as JSON; 502 while there is none"),
    Route::new(
        Read::Config,
        GET,
        &["/config"],
        "The settings that all nodes share. Secrets are shown as `***`.",
    )
    .answers("200, JSON; the `ETag` is their version; 502 while the cluster has none"),
    Route::new(
        Read::Liveness,
        GET,
        &["/liveness"],
        "The agent's loop turns: its last turn is `loop_wait` + `ttl` old at most, of a replica \
         `loop_wait` + 2 × `ttl`. A paused cluster always passes.",
    )
    .answers("200 or 503, no body"),
    Route::new(
        Read::Readiness,
        GET,
        &["/readiness"],
        "The leader, or a replica that streams and is not too far behind.",
    )
    .takes(
        "`lag`: bytes, or a number with the unit kB, MB, GB or TB (without it \
         `maximum_lag_on_failover`); `mode`: lag of what is replayed (`apply`, the default) or \
         received (`write`)",
    )
    .answers("200, no body; 503 with the reason"),
    Route::new(
        Read::Events,
        GET,
        &["/events"],
        "This node's journal: what it saw and did, and why. `hart events` merges those of all nodes.",
    )
    .takes(
        "`since`: only lines after this number; `limit`: the newest so many of them (1000, the most)",
    )
    .answers(
        "200, JSON: `node`, `last` (the number of the last line), `now` and `up_ms` (both clocks of the node, \
         for the age of the lines) and `events`, oldest first",
    ),
    Route::new(
        Read::Why,
        GET,
        &["/why"],
        "Whether this node may lead, and if not, which rule forbids it; why it does not stream, and \
         whom it waits for.",
    )
    .answers("200, JSON; as `hart why` shows it"),
    Route::new(
        Read::Observe,
        GET,
        &["/observe"],
        "What this node's decisions rest on, for `hart simulate`. No session ids are in it, and no \
         secrets.",
    )
    .answers("200, JSON; 503 before the first look at the world"),
    Route::new(
        Read::Metrics,
        GET,
        &["/metrics"],
        "For Prometheus: Patroni's metrics by Patroni's names, and `hart_…` for what Patroni has not: \
         what is left of the lease, the loop's and Consul's latency, takeovers by cause, lines of the \
         journal by kind, and the DNS responder's counters where it runs.",
    )
    .answers("200, text of format 0.0.4; each sample has the labels `scope` and `name`"),
];

const CHANGES: &[Route<Change>] = &[
    Route::new(
        Change::PatchConfig,
        "PATCH",
        &["/config"],
        "Merges a change into the shared settings; `null` deletes a key.",
    )
    .takes("a JSON object of settings; with `If-Match`, only if their version is still that one")
    .answers(
        "200, the new settings, and under `hart.left_out` the new parameters that some members' PostgreSQL refuse and they \
         leave out, by member, under `hart.warnings` what of the change nobody reads; 400 if a node could not read them, the \
         PostgreSQL of every member that answers refuses a new parameter, or every member would take a default in its place; 409 if they were changed by \
         somebody else meanwhile, 412 where `If-Match` says so; 502 or 503 if Consul did not take or give them",
    ),
    Route::new(Change::PutConfig, "PUT", &["/config"], "Replaces the shared settings.")
        .takes("as `PATCH /config`")
        .answers("as `PATCH /config`"),
    Route::new(
        Change::Switchover,
        "POST",
        &["/switchover"],
        "Hands the lead over in good order. Any node can be asked.",
    )
    .takes(
        "`leader` (required): who leads now; `candidate` (also `member`): who shall, without it \
         the best one; `scheduled_at`: when, RFC 3339 with an offset",
    )
    .answers(
        "200 when it is done, 202 when it is planned; 400 if the request is wrong; 412 if it does not \
         fit the cluster, with each candidate's reason; 422 for a time in the past; 503 if it failed, or if its outcome is not \
         known after 2 × `loop_wait` seconds, 20 s at least",
    ),
    Route::new(
        Change::TakeSwitchoverBack,
        "DELETE",
        &["/switchover"],
        "Takes a planned switchover back.",
    )
    .answers("200; 404 if there is none; 409 if it was changed meanwhile; 503 without Consul"),
    Route::new(
        Change::Failover,
        "POST",
        &["/failover"],
        "Promotes a named member, also when nobody leads.",
    )
    .takes(
        "`candidate` (required, also `member`); with `leader` it is a switchover; `fenced`: the holder of a \
         lease without an end (left running in a pause), whose PostgreSQL has ended",
    )
    .answers("as `POST /switchover`"),
    Route::new(
        Change::Restart,
        "POST",
        &["/restart"],
        "Restarts this node's PostgreSQL, if the conditions in the body are met.",
    )
    .takes(
        "optional: `role` (`primary`, `replica` or `standby_leader`); `postgres_version`: only if \
         the server is older; `restart_pending`: only if parameters wait for it; `timeout`: how long \
         to wait, in seconds; `schedule`: when, RFC 3339 with an offset",
    )
    .answers(
        "200 when it is done, 202 when it is planned; 400 if the request is wrong; 409 if one is \
         planned already; 422 for a time in the past; 500 for a time while the cluster is paused; 503 if it failed, the conditions are not met, or its outcome is not known in time; after a second where it \
         cannot be begun, with what the node does instead",
    ),
    Route::new(
        Change::TakeRestartBack,
        "DELETE",
        &["/restart"],
        "Takes a planned restart back.",
    )
    .answers("200; 404 if there is none; 503 if the agent is too busy"),
    Route::new(
        Change::Reinitialize,
        "POST",
        &["/reinitialize"],
        "Throws this replica's data away and copies the leader's.",
    )
    .takes("optional: `force`: also while another job runs")
    .answers("200 when it has begun; 503 with the reason if it cannot"),
    Route::new(Change::Reload, "POST", &["/reload"], "Reads the configuration file again.")
        .answers("202; 500 with the reason; 503 if the agent is too busy"),
    Route::new(
        Change::Upgrade,
        "POST",
        &["/upgrade"],
        "Puts the binary at the agent's path in the place of the one that runs, in the same process. PostgreSQL goes \
         on under its guard, and the lease is kept.",
    )
    .takes(
        "optional: `force`: also where `hart check` of the new binary finds fault with the configuration or the \
         machine",
    )
    .answers(
        "202 with the version that takes over; `hart.begun` of `GET /patroni` is another one afterwards. 400 if the \
         request is wrong; 503 with the reason if the binary cannot be executed, is no hart, or its check fails; or \
         if what is under way does not end within 20 s",
    ),
    Route::new(
        Change::Failsafe,
        "POST",
        &["/failsafe"],
        "A leader without Consul asks this member to leave the lease alone for one ttl. For agents, \
         not for people.",
    )
    .takes("`name`: who asks; `hart`: `to` (`name` and `instance` of the member that is asked), `instance` of \
         the one that asks, `term` and `ttl_ms` of its lease, `scope` of its cluster")
    .answers("200 and the promise as JSON, with who gives it; 400 if the question is wrong, or for another \
         cluster's member; 503 with the reason for a no, also where another member is meant"),
    Route::new(
        Change::PgBouncer,
        "POST",
        &["/pgbouncer"],
        "A leader that hands the lead over has this host's PgBouncers paused, or lets them go on. For \
         agents, not for people.",
    )
    .takes(
        "`name`: who asks; `hart`: `to` (`name` and `instance` of who is asked), `instance` and `scope` of who \
         asks, `term` of its lease, `attempt` (a number that grows), `pause_ms`: pause within that time; \
         without it: go on",
    )
    .answers(
        "200 when they are paused, or where there are none, with `hart`: `by`, `instance`, `scope`, `term`, \
         `attempt`, `paused`; 400 if the question is wrong, or meant for another; 503 with the reason \
         for a no",
    ),
    Route::new(
        Change::Parameters,
        "POST",
        &["/parameters"],
        "A member that was given new parameters for all asks what this one's PostgreSQL thinks of them. \
         Changes nothing. For agents, not for people.",
    )
    .takes("a JSON object: names of parameters and their values, as text")
    .answers(
        "200, JSON: `by`, `scope` and `refused` (names, each with PostgreSQL's words); 400 if a value is no \
         text; 503 if PostgreSQL cannot be asked",
    ),
];

/// The first part of the path is all that counts here, as in Patroni.
fn first_part(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or("")
}

fn find<T: Copy>(routes: &[Route<T>], method: &str, path: &str) -> Option<T> {
    let part = first_part(path);
    let names = |doc: &RouteDoc| doc.paths.iter().any(|known| first_part(known) == part);
    let mut found = routes.iter().filter(|route| route.doc.method == method && names(&route.doc));
    found.next().map(|route| route.to)
}

/// Where a call that changes nothing goes; `None`: health checks, and what is not known.
pub(super) fn read(path: &str) -> Option<Read> {
    find(READS, GET, path)
}

/// Where a call that changes something goes.
pub(super) fn change(method: &str, path: &str) -> Option<Change> {
    find(CHANGES, method, path)
}

/// All ways to call the API, by kind.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Calls that change nothing, other than health checks.
    pub reads: Vec<RouteDoc>,
    /// Health checks; the first one that fits a path counts.
    pub checks: Vec<RouteDoc>,
    /// Calls that change something.
    pub changes: Vec<RouteDoc>,
}

/// What the reference page is made of.
#[must_use]
pub fn reference() -> Reference {
    fn docs<T>(routes: &[Route<T>]) -> Vec<RouteDoc> {
        routes.iter().map(|route| route.doc).collect()
    }
    let check = |route: &Route<Check>| RouteDoc { answers: checks::ANSWERS, ..route.doc };
    Reference {
        reads: docs(READS),
        checks: checks::CHECKS.iter().map(|rule| check(&rule.route)).collect(),
        changes: docs(CHANGES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_path_leads_to_its_own_row() {
        for route in READS {
            for path in route.doc.paths {
                assert_eq!(read(path), Some(route.to), "{path}");
                assert_eq!(checks::find(path), None, "{path} is a health check, too");
            }
        }
        for route in CHANGES {
            for path in route.doc.paths {
                assert_eq!(change(route.doc.method, path), Some(route.to), "{path}");
            }
        }
    }

    #[test]
    fn what_is_not_documented_leads_nowhere() {
        assert_eq!(read("/"), None);
        assert_eq!(read("/patroni2"), None);
        assert_eq!(read("/switchover"), None);
        for (method, path) in [("POST", "/"), ("POST", "/config"), ("GET", "/reload")] {
            assert_eq!(change(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn every_row_is_complete() {
        let Reference { reads, checks, changes } = reference();
        for doc in reads.iter().chain(&checks).chain(&changes) {
            let name = doc.paths[0];
            assert!(doc.doc.ends_with('.') && !doc.answers.is_empty(), "{name}");
            assert!(doc.paths.iter().all(|path| path.starts_with('/')), "{name}");
        }
    }
}
