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

/// Reads the tags: as they are, which is how they are shown, and what they mean.
pub(crate) fn read_tags(top: &Section<'_>, own_name: &str) -> Tags {
    let section = top.section("tags");
    let given = top.given("tags").map(|node| node.to_json_map()).unwrap_or_default();
    // What has no meaning is complained of, each in its place.
    for key in ["noloadbalance", "clonefrom"] {
        let _ = section.flag(key);
    }
    let _ = section.text("replicatefrom");
    compare(&section, "failover_priority", "nofailover");
    compare(&section, "sync_priority", "nosync");
    let tags = Tags::read(given);
    if let Some(node) = section.given("replicatefrom")
        && tags.replicatefrom.as_deref() == Some(own_name)
    {
        let what = format!("expected another member, found {}", node.found());
        section.problem("replicatefrom", node, what, "name another member, or remove it");
    }
    tags
}

/// The tag that says yes or no wins where the priority says otherwise, as in Patroni.
fn compare(section: &Section<'_>, key: &str, winner: &str) {
    let never = section.flag(winner).filter(|_| section.given(winner).is_some());
    let (Some(priority), Some(never)) = (section.whole::<u32>(key), never) else { return };
    if let Some(node) = section.given(key).filter(|_| never != (priority == 0)) {
        let why = format!("{} is {never} and wins", section.path(winner));
        section.warn(key, &node.place, WarningKind::Ignored { why });
    }
}
