//! `tags`: what this node may and should be.

use hart_ha::kv::Tags;

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::warning::WarningKind;

pub(crate) const KEYS: &[KeyDoc] = &[
    key("tags", Kind::Section, "What this node may be; other tags are kept and shown."),
    key("tags.nofailover", Kind::Flag, "Never promote this node by itself.").default("false"),
    key(
        "tags.failover_priority",
        Kind::Whole,
        "Higher is preferred; 0: never, unless nofailover is false. 1 where not given.",
    ),
    key("tags.noloadbalance", Kind::Flag, "Leave it out of read-only traffic.").default("false"),
    key("tags.clonefrom", Kind::Flag, "Prefer it as the source of base backups.")
        .default("false")
        .later(),
    key("tags.nosync", Kind::Flag, "Never make it a synchronous standby.").default("false"),
    key(
        "tags.sync_priority",
        Kind::Whole,
        "Higher is preferred as synchronous standby; 0: never, unless nosync is false.",
    ),
    key("tags.replicatefrom", Kind::Text, "Stream from this member instead of the leader.").later(),
    ignored("tags.nostream"),
];

/// Reads the tags. Those that the table does not list are kept as they are.
pub(crate) fn read_tags(top: &Section<'_>, own_name: &str) -> Tags {
    let section = top.section("tags");
    let listed = |key: &str| KEYS.iter().any(|doc| doc.parent() == "tags" && doc.name() == key);
    let given = top.given("tags").map(|node| node.to_json_map()).unwrap_or_default();
    let flag = |key: &str| section.flag(key).unwrap_or(false);
    let tags = Tags {
        nofailover: flag("nofailover"),
        failover_priority: priority(&section, "failover_priority", "nofailover"),
        noloadbalance: flag("noloadbalance"),
        clonefrom: flag("clonefrom"),
        nosync: flag("nosync"),
        sync_priority: priority(&section, "sync_priority", "nosync"),
        replicatefrom: section.text("replicatefrom"),
        other: given.into_iter().filter(|(key, _)| !listed(key)).collect(),
    };
    if let Some(node) = section.given("replicatefrom")
        && tags.replicatefrom.as_deref() == Some(own_name)
    {
        let what = format!("expected another member, found {}", node.found());
        section.problem("replicatefrom", node, what, "name another member, or remove it");
    }
    tags
}

/// The priority, unless the tag that says yes or no says otherwise: as in Patroni, that one wins where
/// both are given.
fn priority(section: &Section<'_>, key: &str, winner: &str) -> Option<u32> {
    let priority = section.whole(key)?;
    let never = section.flag(winner).filter(|_| section.given(winner).is_some());
    if never.is_none_or(|never| never == (priority == 0)) {
        return Some(priority);
    }
    let says = never.unwrap_or_default();
    if let Some(node) = section.given(key) {
        let why = format!("{} is {says} and wins", section.path(winner));
        section.warn(key, &node.place, WarningKind::Ignored { why });
    }
    // With "never" the priority changes nothing, and is shown as it was given.
    Some(priority).filter(|_| says)
}
