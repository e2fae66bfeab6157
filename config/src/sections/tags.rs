//! `tags`: what this node may and should be.

use hart_ha::kv::Tags;

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::warning::WarningKind;

pub(crate) const KEYS: &[KeyDoc] = &[
    key("tags", Kind::Section, "What this node may be; other tags are kept and shown."),
    key("tags.nofailover", Kind::Flag, "Never promote this node by itself.").default("false"),
    key("tags.failover_priority", Kind::Whole, "Higher is preferred; 0: never. 1 where not given."),
    key("tags.noloadbalance", Kind::Flag, "Leave it out of read-only traffic.").default("false"),
    key("tags.clonefrom", Kind::Flag, "Prefer it as the source of base backups.")
        .default("false")
        .later(),
    key("tags.nosync", Kind::Flag, "Never make it a synchronous standby.").default("false"),
    key("tags.sync_priority", Kind::Whole, "Higher is preferred as synchronous standby; 0: never."),
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
        failover_priority: section.whole("failover_priority"),
        noloadbalance: flag("noloadbalance"),
        clonefrom: flag("clonefrom"),
        nosync: flag("nosync"),
        sync_priority: section.whole("sync_priority"),
        replicatefrom: section.text("replicatefrom"),
        other: given.into_iter().filter(|(key, _)| !listed(key)).collect(),
    };
    let contradicts = tags.nofailover && tags.failover_priority.is_some_and(|p| p > 0);
    contradiction(&section, "failover_priority", "nofailover", contradicts);
    let contradicts = tags.nosync && tags.sync_priority.is_some_and(|p| p > 0);
    contradiction(&section, "sync_priority", "nosync", contradicts);
    if let Some(node) = section.given("replicatefrom")
        && tags.replicatefrom.as_deref() == Some(own_name)
    {
        let what = format!("expected another member, found {}", node.found());
        section.problem("replicatefrom", node, what, "name another member, or remove it");
    }
    tags
}

fn contradiction(section: &Section<'_>, key: &str, winner: &str, contradicts: bool) {
    if let Some(node) = section.given(key).filter(|_| contradicts) {
        let why = format!("{} is true and wins", section.path(winner));
        section.warn(key, &node.place, WarningKind::Ignored { why });
    }
}
