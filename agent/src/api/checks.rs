//! Which health check a path stands for. The rules, and the order in which they are looked at, are
//! Patroni's (reference: REST API, health check endpoints).

use super::table::Route;

/// A health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    StandbyLeader,
    Leader,
    Primary,
    Replica,
    ReadOnly,
    Health,
    Synchronous,
    ReadOnlySync,
    Quorum,
    ReadOnlyQuorum,
    Asynchronous,
}

/// How a path is compared with a documented one.
#[derive(Clone, Copy, Debug)]
enum Fit {
    /// It contains the documented one (without its slash), and none of these words.
    Part { without: &'static [&'static str] },
    /// It is the documented one.
    Whole,
}

/// A health check and the paths that stand for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) route: Route<Check>,
    fit: Fit,
}

/// What every check answers.
pub(super) const ANSWERS: &str = "200 or 503, with the status of `GET /patroni`; with `Accept: text/plain` a line \
     for people instead, as Consul's interface shows it";

const AS_REPLICA: &str = "as `/replica`";
const TAGS: &str = "`tag_<name>`: the node has the tag `<name>` with this value";
const REPLICA: &str = "`lag`: bytes it may be behind, or a number with the unit kB, MB, GB or TB; \
     `replication_state`: such as `streaming`; `tag_<name>`: the node has the tag `<name>` with this \
     value";

/// The first rule that fits counts.
pub(super) const CHECKS: &[Rule] = &[
    part(
        Check::StandbyLeader,
        &["/standby-leader", "/standby_leader"],
        "Leads a standby cluster (which hart does not build yet).",
    ),
    part(Check::Leader, &["/leader"], "Leads, and its lease has not ended."),
    part(
        Check::Primary,
        &["/primary", "/", "/read-write", "/master"],
        "Is a running primary whose lease has not ended: may be written to.",
    ),
    part(Check::Replica, &["/replica"], "Is a running replica without the tag `noloadbalance`.")
        .takes(REPLICA),
    Rule {
        // The synchronous variants are checks of their own, below.
        fit: Fit::Part { without: &["sync", "quorum"] },
        ..part(Check::ReadOnly, &["/read-only"], "As `/primary` or `/replica`.").takes(AS_REPLICA)
    },
    part(
        Check::Health,
        &["/health"],
        "PostgreSQL is running and well: it takes connections, and its disk can be written to.",
    )
    .takes(TAGS),
    whole(
        Check::Synchronous,
        &["/synchronous", "/sync"],
        "As `/replica`, and in the synchronous set of `synchronous_mode: on`.",
    ),
    whole(
        Check::ReadOnlySync,
        &["/read-only-sync", "/read-only-synchronous"],
        "As `/primary` or `/synchronous`.",
    ),
    whole(
        Check::Quorum,
        &["/quorum"],
        "As `/replica`, and in the synchronous set of `synchronous_mode: quorum`.",
    ),
    whole(Check::ReadOnlyQuorum, &["/read-only-quorum"], "As `/primary` or `/quorum`."),
    whole(
        Check::Asynchronous,
        &["/asynchronous", "/async"],
        "As `/replica`, and in no synchronous set.",
    ),
];

const fn part(to: Check, paths: &'static [&'static str], doc: &'static str) -> Rule {
    Rule { route: Route::new(to, "GET", paths, doc), fit: Fit::Part { without: &[] } }
}

const fn whole(to: Check, paths: &'static [&'static str], doc: &'static str) -> Rule {
    Rule { fit: Fit::Whole, ..part(to, paths, doc).takes(AS_REPLICA) }
}

impl Rule {
    const fn takes(self, takes: &'static str) -> Self {
        Self { route: self.route.takes(takes), ..self }
    }

    fn fits(&self, path: &str) -> bool {
        self.route.doc.paths.iter().any(|known| match self.fit {
            // Every path contains a slash.
            Fit::Whole | Fit::Part { .. } if *known == "/" => path == "/",
            Fit::Whole => path == *known,
            Fit::Part { without } => {
                path.contains(known.trim_start_matches('/'))
                    && !without.iter().any(|word| path.contains(word))
            }
        })
    }
}

/// The check that `path` stands for.
pub(super) fn find(path: &str) -> Option<Check> {
    CHECKS.iter().find(|rule| rule.fits(path)).map(|rule| rule.route.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_path_stands_for_its_own_check() {
        for rule in CHECKS {
            for path in rule.route.doc.paths {
                assert_eq!(find(path), Some(rule.route.to), "{path}");
            }
        }
    }

    #[test]
    fn parts_of_paths_are_compared_as_patroni_does() {
        for (path, check) in [
            ("/my-primary/", Some(Check::Primary)),
            ("/x_standby_leader", Some(Check::StandbyLeader)),
            ("/read-only-sync-replica", Some(Check::Replica)),
            ("/read-only/", Some(Check::ReadOnly)),
            ("/healthz", Some(Check::Health)),
            ("/read-only-synchronous-2", None),
            ("/sync/", None),
            ("/asynchrony", None),
            ("//", None),
            ("", None),
        ] {
            assert_eq!(find(path), check, "{path}");
        }
    }
}
