//! Rows in the formats of `hart list`.

use serde_json::{Map, Value};

use crate::cli::cluster::Cluster;
use crate::cli::formats::{self, Format};
use crate::cli::list::extended::Extended;
use crate::cli::list::rows::{Row, rows};
use crate::cli::table;

/// A column: its name for machines, its name for people, is it aligned to the right, its value,
/// and is it shown even where no member has one.
struct Column {
    name: &'static str,
    title: &'static str,
    value: fn(&Row, &Extended) -> Value,
    always: bool,
}

const fn column(name: &'static str, value: fn(&Row, &Extended) -> Value) -> Column {
    Column { name, title: name, value, always: true }
}

const fn optional(name: &'static str, value: fn(&Row, &Extended) -> Value) -> Column {
    Column { always: false, ..column(name, value) }
}

const COLUMNS: [Column; 14] = [
    column("Member", |row, _| text(&row.member)),
    column("Host", |row, _| text(&row.host)),
    column("Role", |row, _| text(row.role)),
    column("State", |row, _| text(&row.state)),
    column("TL", |row, _| number(row.timeline)),
    column("Receive LSN", |row, _| shown(row.receive)),
    Column { title: "Lag", ..column("Receive Lag", |row, _| megabytes(row.receive_lag)) },
    column("Replay LSN", |row, _| shown(row.replay)),
    Column { title: "Lag", ..column("Replay Lag", |row, _| megabytes(row.replay_lag)) },
    optional("Lease", lease),
    optional("Fencing", |_, more| text(&more.fencing)),
    optional("Agent", |_, more| text(&more.agent)),
    optional("Pending restart", |row, _| text(if row.pending_restart { "*" } else { "" })),
    optional("Tags", |row, _| text(&row.tags)),
];

/// Aligned to the right, as patronictl has it.
const RIGHT: [&str; 4] = ["TL", "Receive LSN", "Lag", "Replay LSN"];

/// In which order members are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// By name.
    List,
    /// The leader, and below it those who follow it.
    Tree,
}

/// Renders the cluster. `extended` has what each member said, in the order of names.
#[must_use]
pub fn render(
    cluster: &Cluster,
    extended: &[Extended],
    format: Format,
    all: bool,
    shape: Shape,
) -> String {
    let nothing = Extended::default();
    let members: Vec<Row> = match shape {
        Shape::List => rows(cluster),
        Shape::Tree => tree(cluster, rows(cluster)),
    };
    let rows: Vec<Vec<Value>> = members
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let more = extended.get(at).unwrap_or(&nothing);
            COLUMNS.iter().map(|column| (column.value)(row, more)).collect()
        })
        .collect();
    let columns: Vec<usize> = (0..COLUMNS.len())
        .filter(|at| all || COLUMNS[*at].always || rows.iter().any(|row| row[*at] != text("")))
        .collect();
    match format {
        Format::Pretty => pretty(cluster, &columns, &rows),
        Format::Tsv => {
            let names = columns.iter().map(|at| COLUMNS[*at].name);
            let names: Vec<&str> = std::iter::once("Cluster").chain(names).collect();
            let mut cells = cells(&columns, &rows);
            cells.iter_mut().for_each(|row| row.insert(0, cluster.scope.clone()));
            formats::tsv(&names, &cells)
        }
        Format::Json => Value::from(objects(cluster, &columns, rows)).to_string(),
        Format::Yaml => formats::yaml(&objects(cluster, &columns, rows)),
    }
}

/// Every replica follows the leader: there are no cascades yet.
fn tree(cluster: &Cluster, mut rows: Vec<Row>) -> Vec<Row> {
    let leader = cluster.leader();
    rows.sort_by_key(|row| Some(row.member.as_str()) != leader);
    for row in rows.iter_mut().filter(|row| Some(row.member.as_str()) != leader) {
        row.member = format!("+ {}", row.member);
    }
    rows
}

fn pretty(cluster: &Cluster, columns: &[usize], rows: &[Vec<Value>]) -> String {
    let titles: Vec<&str> = columns.iter().map(|at| COLUMNS[*at].title).collect();
    let table = table::render(&titles, &cells(columns, rows), &RIGHT);
    let system = match &cluster.snapshot.initialize {
        None => "uninitialized",
        Some(initialize) if initialize.value.is_empty() => "initializing",
        Some(initialize) => &initialize.value,
    };
    let mut shown = table::titled(&table, &format!("Cluster: {} ({system})", cluster.scope));
    for note in notes(cluster) {
        shown.push_str("\n ");
        shown.push_str(&note);
    }
    shown
}

/// What concerns the whole cluster.
fn notes(cluster: &Cluster) -> Vec<String> {
    let snapshot = &cluster.snapshot;
    let mut notes = Vec::new();
    if snapshot.config.as_ref().is_some_and(|config| config.value.pause) {
        notes.push("Maintenance mode: on".to_owned());
    }
    if let Some(lease) = snapshot.lease().filter(|lease| lease.is_held() && lease.open) {
        let holder = &lease.holder;
        let lives = snapshot.members.get(holder).is_some_and(|entry| entry.session.is_some());
        let away = if lives { "" } else { ", and its agent is away" };
        notes.push(format!(
            "The guard of {holder} keeps no deadline (pause){away}: nobody takes over"
        ));
    }
    if let Some(request) = snapshot.failover.as_ref().map(|failover| &failover.value)
        && let Some(at) = &request.scheduled_at
    {
        let from = request.leader.as_deref().unwrap_or("");
        let to = request.member.as_deref().map(|name| format!(" to: {name}")).unwrap_or_default();
        notes.push(format!("Switchover scheduled at: {at} from: {from}{to}"));
    }
    for (name, member) in &snapshot.members {
        let planned = member.value.scheduled_restart.as_ref();
        if let Some(at) = planned.and_then(|it| it.get("schedule")).and_then(Value::as_str) {
            notes.push(format!("Restart of {name} scheduled at: {at}"));
        }
        if let Some(problem) = &member.value.problem {
            notes.push(format!("{name}: {problem}"));
        }
    }
    notes
}

fn cells(columns: &[usize], rows: &[Vec<Value>]) -> Vec<Vec<String>> {
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter().map(|row| columns.iter().map(|at| cell(&row[*at])).collect()).collect()
}

/// As patronictl has them: empty values are left out.
fn objects(cluster: &Cluster, columns: &[usize], rows: Vec<Vec<Value>>) -> Vec<Map<String, Value>> {
    rows.into_iter()
        .map(|row| {
            let named = columns.iter().map(|at| (COLUMNS[*at].name.to_owned(), row[*at].clone()));
            let cluster = ("Cluster".to_owned(), text(&cluster.scope));
            std::iter::once(cluster).chain(named).filter(|(_, value)| *value != text("")).collect()
        })
        .collect()
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn number<T: Into<u64>>(number: Option<T>) -> Value {
    number.map_or_else(|| text(""), |number| Value::from(number.into()))
}

fn shown<T: ToString>(value: Option<T>) -> Value {
    Value::from(value.map(|value| value.to_string()).unwrap_or_default())
}

/// Whole MB, rounded, as patronictl has it.
fn megabytes(bytes: Option<u64>) -> Value {
    number(bytes.map(|bytes| (bytes + (1 << 19)) >> 20))
}

/// Longer than any lease that has an end.
pub(super) const ENDLESS_MS: u64 = 86_400_000;

fn lease(row: &Row, more: &Extended) -> Value {
    let Some(term) = row.term else { return text("") };
    match more.lease_left_ms {
        Some(left) if left >= ENDLESS_MS => text(&format!("term {term}, without an end")),
        Some(left) => text(&format!("term {term}, {}.{} s left", left / 1000, left % 1000 / 100)),
        None => text(&format!("term {term}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn pretty_is_as_people_know_it() {
        let expected = "\
+ Cluster: ha (7301234567890123456) ----+-----------+----+-------------+-----+------------+-----+--------+-----------------+-----------------+
| Member | Host          | Role         | State     | TL | Receive LSN | Lag | Replay LSN | Lag | Lease  | Pending restart | Tags            |
+--------+---------------+--------------+-----------+----+-------------+-----+------------+-----+--------+-----------------+-----------------+
| n1     | 10.0.0.1:5432 | Leader       | running   |  2 |             |     |            |     | term 4 |                 |                 |
| n2     | 10.0.0.1:5433 | Sync Standby | streaming |  2 |   0/4000000 |   0 |  0/4000000 |   0 |        |                 |                 |
| n3     | 10.0.0.1:5434 | Replica      | running   |  2 |   0/3C00000 |   4 |  0/3B00000 |   5 |        | *               | {\"nosync\":true} |
+--------+---------------+--------------+-----------+----+-------------+-----+------------+-----+--------+-----------------+-----------------+";
        assert_eq!(render(&made(), &[], Format::Pretty, false, Shape::List), expected);
    }

    #[test]
    fn a_tree_has_the_leader_at_its_top() {
        let mut cluster = made();
        let leader = cluster.snapshot.leader.as_mut().unwrap();
        leader.value = "n2".into();
        let shown = render(&cluster, &[], Format::Pretty, false, Shape::Tree);
        let names: Vec<_> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
            .map(str::trim_end)
            .collect();
        assert_eq!(names, ["Member", "n2", "+ n1", "+ n3"]);
    }

    #[test]
    fn machines_get_names_without_doubles_and_no_empty_values() {
        let json: Value =
            serde_json::from_str(&render(&made(), &[], Format::Json, false, Shape::List)).unwrap();
        assert_eq!(json[0]["Cluster"], "ha");
        assert_eq!(json[1]["Receive Lag"], 0);
        assert_eq!(json[2]["Replay Lag"], 5);
        assert_eq!(json[0].get("Receive LSN"), None);
        let tsv = render(&made(), &[], Format::Tsv, false, Shape::List);
        assert!(
            tsv.starts_with("Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\t")
        );
        assert_eq!(tsv.lines().count(), 4);
        let yaml = render(&made(), &[], Format::Yaml, false, Shape::List);
        assert!(yaml.starts_with("- Cluster: ha\n  Member: n1\n  Host: \"10.0.0.1:5432\"\n"));
    }

    #[test]
    fn extended_shows_what_the_members_said() {
        let more = Extended {
            lease_left_ms: Some(2149),
            fencing: "armed: cgroup.kill, pdeathsig".into(),
            agent: "hart 0.1.0".into(),
        };
        let table = render(&made(), &[more], Format::Pretty, true, Shape::List);
        assert!(
            table.contains("| term 4, 2.1 s left | armed: cgroup.kill, pdeathsig |"),
            "{table}"
        );
    }
}
