//! PostgreSQL compares the names in `synchronous_standby_names` with `application_name` without regard to
//! capitals, also where they are quoted (`SyncRepGetStandbyPriority`). Of two whose names differ in that
//! alone, either one's word lets commits of the other go.

use crate::brain::turn::Turn;
use crate::observation::Sql;
use crate::store::Snapshot;

/// Who else PostgreSQL takes for this standby: a member, or whoever is connected.
pub(super) fn double<'a>(name: &str, snapshot: &'a Snapshot, sql: &'a Sql) -> Option<&'a str> {
    let folded = name.to_lowercase();
    let members = snapshot.members.keys();
    let connected = sql.standbys.iter().map(|row| &row.name);
    let mut others = members.chain(connected).filter(|other| *other != name);
    others.find(|other| other.to_lowercase() == folded).map(String::as_str)
}

/// People must know why such a member is no synchronous standby.
pub(super) fn tell(turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql) {
    let found = sql.standbys.iter().find_map(|row| Some((row, double(&row.name, snapshot, sql)?)));
    if let Some((row, other)) = found {
        turn.problem(format!(
            "{} and {other} differ in capitals only, which PostgreSQL does not tell apart: neither is made a \
             synchronous standby; give one of them another name",
            row.name
        ));
    }
}
