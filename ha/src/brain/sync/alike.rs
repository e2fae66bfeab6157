//! Standbys whose word PostgreSQL cannot tell from somebody else's.
//!
//! PostgreSQL compares the names in `synchronous_standby_names` with `application_name` without regard to
//! capitals, also where they are quoted (`SyncRepGetStandbyPriority`). Of two whose names differ in that
//! alone, either one's word lets commits of the other go; so does the word of a stranger, such as
//! `pg_receivewal`, who says that it is called like a member.

use crate::brain::turn::Turn;
use crate::observation::Sql;
use crate::store::Snapshot;

/// Who else PostgreSQL takes for this standby: a member, or whoever is connected.
fn double<'a>(name: &str, snapshot: &'a Snapshot, sql: &'a Sql) -> Option<&'a str> {
    let folded = name.to_lowercase();
    let members = snapshot.members.keys();
    let connected = sql.standbys.iter().map(|row| &row.name);
    let mut others = members.chain(connected).filter(|other| *other != name);
    others.find(|other| other.to_lowercase() == folded).map(String::as_str)
}

/// May commits that wait for this standby be let go by somebody else?
pub(super) fn is_shared(name: &str, snapshot: &Snapshot, sql: &Sql) -> bool {
    sql.impostors.contains_key(name) || double(name, snapshot, sql).is_some()
}

/// Is it so with one that is published, or waited for? Then it may lack what was acknowledged, whatever
/// it says.
pub(super) fn are_shared<'a>(
    mut names: impl Iterator<Item = &'a String>,
    snapshot: &Snapshot,
    sql: &Sql,
) -> bool {
    names.any(|name| is_shared(name, snapshot, sql))
}

/// People must know why such a member is no synchronous standby.
pub(super) fn tell(turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql) {
    if let Some((name, who)) = sql.impostors.first_key_value() {
        turn.warn(format!(
            "somebody else streams from here as {name} ({who}): PostgreSQL takes its word for {name}'s, so \
             {name} is not made a synchronous standby; give that program another application_name, or end it"
        ));
    }
    let found = sql.standbys.iter().find_map(|row| Some((row, double(&row.name, snapshot, sql)?)));
    if let Some((row, other)) = found {
        turn.problem(format!(
            "{} and {other} differ in capitals only, which PostgreSQL does not tell apart: neither is made a \
             synchronous standby; give one of them another name",
            row.name
        ));
    }
}
