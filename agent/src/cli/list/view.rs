//! Rows in the formats of `hart list`.

use std::collections::{BTreeMap, BTreeSet};

use hart_ha::kv::Change;
use hart_ha::store::Snapshot;
use serde_json::{Map, Value};

use crate::cli::cluster::Cluster;
use crate::cli::formats::{self, Format};
use crate::cli::list::extended::Extended;
use crate::cli::list::heard::Heard;
use crate::cli::list::rows::{Row, rows};
use crate::cli::{out, table};

/// A column: its name for machines, its name for people, its value, whether it is shown even where no member has
/// one, and to whom. Machines get patronictl's columns in its order, and others behind them when they ask for all.
struct Column {
    name: &'static str,
    title: &'static str,
    value: fn(&Row, &Extended) -> Value,
    always: bool,
    of: Of,
}

/// Whose column it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// patronictl's.
    Both,
    /// patronictl's; people read it below the table.
    Machines,
    /// hart's own.
    Hart,
}

const fn column(name: &'static str, value: fn(&Row, &Extended) -> Value) -> Column {
    Column { name, title: name, value, always: true, of: Of::Both }
}

const fn optional(name: &'static str, value: fn(&Row, &Extended) -> Value) -> Column {
    Column { always: false, ..column(name, value) }
}

const COLUMNS: [Column; 16] = [
    column("Member", |row, _| text(&row.member)),
    column("Host", |row, _| text(&row.host)),
    column("Role", |row, _| text(row.role)),
    column("State", |row, _| text(&row.state)),
    column("TL", |row, _| number(row.timeline)),
    column("Receive LSN", |row, _| shown(row.receive)),
    Column { title: "Lag", ..column("Receive Lag", |row, _| megabytes(row.receive_lag)) },
    column("Replay LSN", |row, _| shown(row.replay)),
    Column { title: "Lag", ..column("Replay Lag", |row, _| megabytes(row.replay_lag)) },
    own("Lease", lease),
    own("Fencing", |_, more| text(&more.fencing)),
    own("Agent", |_, more| text(&more.agent)),
    optional("Pending restart", |row, _| text(if row.pending_restart { "*" } else { "" })),
    below("Pending restart reason", |row, _| text(&row.pending_restart_reason)),
    below("Scheduled restart", |row, _| text(&row.scheduled_restart)),
    optional("Tags", |row, _| tags(row)),
];

const fn own(name: &'static str, value: fn(&Row, &Extended) -> Value) -> Column {
    Column { of: Of::Hart, ..optional(name, value) }
}

const fn below(name: &'static str, value: fn(&Row, &Extended) -> Value) -> Column {
    Column { of: Of::Machines, ..optional(name, value) }
}

/// Which of them are shown, in their order.
fn chosen(format: Format, all: bool, is_filled: impl Fn(usize) -> bool) -> Vec<usize> {
    let shown = |at: &usize| all || COLUMNS[*at].always || is_filled(*at);
    let of = |wanted: Of| (0..COLUMNS.len()).filter(move |at| COLUMNS[*at].of == wanted);
    if format == Format::Pretty {
        return (0..COLUMNS.len())
            .filter(|at| COLUMNS[*at].of != Of::Machines)
            .filter(shown)
            .collect();
    }
    let theirs = (0..COLUMNS.len()).filter(|at| COLUMNS[*at].of != Of::Hart).filter(shown);
    theirs.chain(of(Of::Hart).filter(|_| all)).collect()
}

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
    heard: &Heard,
    extended: &[Extended],
    format: Format,
    all: bool,
    shape: Shape,
) -> String {
    let nothing = Extended::default();
    let members: Vec<Row> = match shape {
        Shape::List => rows(cluster, heard),
        Shape::Tree => tree(cluster, rows(cluster, heard)),
    };
    let rows: Vec<Vec<Value>> = members
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let more = extended.get(at).unwrap_or(&nothing);
            COLUMNS.iter().map(|column| (column.value)(row, more)).collect()
        })
        .collect();
    let columns = chosen(format, all, |at| rows.iter().any(|row| row[at] != text("")));
    match format {
        Format::Pretty => fitting(cluster, columns, &rows, out::width()),
        Format::Tsv => {
            let names = columns.iter().map(|at| COLUMNS[*at].name);
            let names: Vec<&str> = std::iter::once("Cluster").chain(names).collect();
            let rows: Vec<Vec<Value>> =
                rows.into_iter().map(|row| row.into_iter().map(flow).collect()).collect();
            let mut cells = cells(&columns, &rows);
            cells.iter_mut().for_each(|row| row.insert(0, cluster.scope.clone()));
            formats::tsv(&names, &cells)
        }
        Format::Json => Value::from(objects(cluster, &columns, rows)).to_string(),
        Format::Yaml => formats::yaml(&objects(cluster, &columns, rows)),
    }
}

/// The leader, below it who follows it, and below those who follow them (`replicatefrom`).
fn tree(cluster: &Cluster, rows: Vec<Row>) -> Vec<Row> {
    let mut left: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let names: BTreeSet<String> = rows.iter().map(|row| row.member.clone()).collect();
    let top = cluster.leader().filter(|leader| names.contains(*leader)).unwrap_or_default();
    for row in rows {
        let above = row.tags.get("replicatefrom").and_then(Value::as_str);
        let above = above.filter(|name| *name != row.member && names.contains(*name));
        let above = if row.member == top { None } else { Some(above.unwrap_or(top).to_owned()) };
        left.entry(above.unwrap_or_else(|| ROOT.to_owned())).or_default().push(row);
    }
    let mut ordered = Vec::new();
    hang(&mut left, ROOT, 0, &mut ordered);
    // Without a leader all are below nobody; and members may follow each other in a ring.
    hang(&mut left, top, 1, &mut ordered);
    while let Some(name) = left.keys().next().cloned() {
        hang(&mut left, &name, 1, &mut ordered);
    }
    ordered
}

/// No member's name.
const ROOT: &str = "/";

fn hang(left: &mut BTreeMap<String, Vec<Row>>, above: &str, level: usize, ordered: &mut Vec<Row>) {
    for mut row in left.remove(above).unwrap_or_default() {
        let name = row.member.clone();
        if let Some(deep) = level.checked_sub(1) {
            row.member = format!("{}+ {name}", "  ".repeat(deep));
        }
        ordered.push(row);
        hang(left, &name, level + 1, ordered);
    }
}

/// What is least missed when a terminal is too narrow comes first.
const LEFT_OUT: [&str; 9] = [
    "Receive LSN",
    "Replay LSN",
    "Tags",
    "Agent",
    "Fencing",
    "Host",
    "Receive Lag",
    "Replay Lag",
    "TL",
];

/// As wide as the terminal at most, as far as that can be: what is left out is named.
fn fitting(
    cluster: &Cluster,
    mut columns: Vec<usize>,
    rows: &[Vec<Value>],
    width: Option<usize>,
) -> String {
    let is_wide = |table: &str| {
        let widest = table.lines().next().map_or(0, |line| line.chars().count());
        width.is_some_and(|width| widest > width)
    };
    let mut shown = pretty(cluster, &columns, rows, None);
    let mut left = Vec::new();
    for name in LEFT_OUT {
        if !is_wide(&shown) {
            break;
        }
        if columns.iter().any(|at| COLUMNS[*at].name == name) {
            columns.retain(|at| COLUMNS[*at].name != name);
            left.push(name);
            shown = pretty(cluster, &columns, rows, None);
        }
    }
    if is_wide(&shown) {
        shown = pretty(cluster, &columns, rows, width);
    }
    if !left.is_empty() {
        shown.push_str(&format!("\n Left out, the terminal is narrow: {}", left.join(", ")));
    }
    shown
}

fn pretty(
    cluster: &Cluster,
    columns: &[usize],
    rows: &[Vec<Value>],
    width: Option<usize>,
) -> String {
    let titles: Vec<&str> = columns.iter().map(|at| COLUMNS[*at].title).collect();
    let cells = cells(columns, rows);
    let table = match width {
        Some(width) => table::within(width, &titles, &cells, &RIGHT),
        None => table::render(&titles, &cells, &RIGHT),
    };
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
    notes.extend(cluster.roll.as_ref().map(|roll| roll.sentence(&cluster.scope)));
    notes.extend(pending(snapshot));
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

/// What restarts wait for: the members that wait for the same are named together.
fn pending(snapshot: &Snapshot) -> Vec<String> {
    let mut waiting: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, member) in &snapshot.members {
        let changes: Vec<String> = member.value.pending_restart_reason.iter().map(change).collect();
        if !changes.is_empty() {
            waiting.entry(changes.join(", ")).or_default().push(name);
        }
    }
    waiting
        .into_iter()
        .map(|(what, names)| format!("Restart pending of {}: {what}", names.join(", ")))
        .collect()
}

fn change((name, change): (&String, &Change)) -> String {
    format!("{name} {} → {}", change.old_value, change.new_value)
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

fn tags(row: &Row) -> Value {
    if row.tags.is_empty() { text("") } else { Value::from(row.tags.clone()) }
}

/// An object as YAML on one line, as patronictl has it in a table for machines: `{nosync: true}`.
fn flow(value: Value) -> Value {
    let Value::Object(object) = value else { return value };
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), formats::yaml_text);
    let pairs: Vec<String> =
        object.iter().map(|(key, value)| format!("{key}: {}", word(value))).collect();
    Value::from(format!("{{{}}}", pairs.join(", ")))
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
    use crate::cli::roll::{Note, Rolling};

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
        assert_eq!(
            render(&made(), &Heard::default(), &[], Format::Pretty, false, Shape::List),
            expected
        );
    }

    #[test]
    fn a_narrow_terminal_gets_what_it_has_room_for() {
        let mut cluster = made();
        cluster.snapshot.members.get_mut("n3").unwrap().value.pending_restart = false;
        let nobody = Extended::default();
        let rows: Vec<Vec<Value>> = rows(&cluster, &Heard::default())
            .iter()
            .map(|row| COLUMNS.iter().map(|column| (column.value)(row, &nobody)).collect())
            .collect();
        let columns =
            chosen(Format::Pretty, false, |at| rows.iter().any(|row| row[at] != text("")));
        let of = |width| fitting(&cluster, columns.clone(), &rows, width);
        assert_eq!(of(None), of(Some(200)), "there is room");
        let narrow = of(Some(60));
        let table: Vec<&str> = narrow.lines().filter(|line| line.starts_with(['|', '+'])).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 60), "{narrow}");
        assert!(narrow.contains("| Member | Role ") && narrow.contains("| State "), "{narrow}");
        assert!(narrow.contains("Left out, the terminal is narrow: Receive LSN"), "{narrow}");
        let mut lost = rows.clone();
        lost[2][2..4]
            .clone_from_slice(&[text("Former leader"), text("lost since 2026-12-01 02:44:38 UTC")]);
        let lost = fitting(&cluster, columns.clone(), &lost, Some(60));
        let table: Vec<&str> = lost.lines().filter(|line| line.starts_with(['|', '+'])).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 60), "{lost}");
        assert!(lost.contains("| lost since 2026-12-01 ") && lost.contains(" term 4 "), "{lost}");
    }

    #[test]
    fn a_roll_under_way_is_noted() {
        let note = Note { by: "me@db1".into(), at: "restarting".into(), ..Note::default() };
        let mut cluster = made();
        cluster.roll = Some(Rolling { note, locked: true });
        let table = render(&cluster, &Heard::default(), &[], Format::Pretty, false, Shape::List);
        assert!(table.contains("\n A rolling restart (hart roll ha) is under way: "), "{table}");
    }

    #[test]
    fn what_a_restart_waits_for_is_named() {
        let mut cluster = made();
        let change = Change { old_value: "50".into(), new_value: "60".into() };
        for name in ["n1", "n3"] {
            let entry = &mut cluster.snapshot.members.get_mut(name).unwrap().value;
            entry.pending_restart_reason.insert("max_connections".into(), change.clone());
        }
        let table = render(&cluster, &Heard::default(), &[], Format::Pretty, false, Shape::List);
        assert!(
            table.ends_with("\n Restart pending of n1, n3: max_connections 50 → 60"),
            "{table}"
        );
    }

    #[test]
    fn a_tree_has_the_leader_at_its_top() {
        let mut cluster = made();
        let leader = cluster.snapshot.leader.as_mut().unwrap();
        leader.value = "n2".into();
        let shown = render(&cluster, &Heard::default(), &[], Format::Pretty, false, Shape::Tree);
        let names: Vec<_> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
            .map(str::trim_end)
            .collect();
        assert_eq!(names, ["Member", "n2", "+ n1", "+ n3"]);
    }

    #[test]
    fn a_cascade_hangs_below_whom_it_follows() {
        let order = |cluster: &Cluster| -> Vec<String> {
            let rows = tree(cluster, rows(cluster, &Heard::default()));
            rows.into_iter().map(|row| row.member).collect()
        };
        let mut cluster = made();
        let mut follow = |name: &str, above: &str| {
            let entry = &mut cluster.snapshot.members.get_mut(name).unwrap().value;
            let tags = serde_json::json!({"replicatefrom": above});
            entry.tags = serde_json::from_value(tags).unwrap();
        };
        follow("n2", "n3");
        follow("n3", "n9");
        assert_eq!(order(&cluster), ["n1", "+ n3", "  + n2"]);
        let mut follow = |name: &str, above: &str| {
            let entry = &mut cluster.snapshot.members.get_mut(name).unwrap().value;
            let tags = serde_json::json!({"replicatefrom": above});
            entry.tags = serde_json::from_value(tags).unwrap();
        };
        follow("n3", "n2");
        let mut ring = order(&cluster);
        ring.sort();
        assert_eq!(ring.len(), 3, "a ring shows everybody once: {ring:?}");
        cluster.snapshot.leader = None;
        assert_eq!(order(&cluster).len(), 3);
    }

    /// A script that reads the fifth column, or the key, gets what patronictl gave it.
    #[test]
    fn machines_get_patronictls_columns_and_hart_has_its_own_behind_them() {
        let mut cluster = made();
        let entry = &mut cluster.snapshot.members.get_mut("n3").unwrap().value;
        let change = Change { old_value: "50".into(), new_value: "60".into() };
        entry.pending_restart_reason.insert("max_connections".into(), change);
        let planned = serde_json::json!({"schedule": "2126-01-01T00:00:00+00:00", "postgres_version": "15.4"});
        entry.scheduled_restart = planned.as_object().cloned();
        let of = |format, all| render(&cluster, &Heard::default(), &[], format, all, Shape::List);
        let tsv = of(Format::Tsv, false);
        let head = "Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\t\
                    Replay Lag\tPending restart\tPending restart reason\tScheduled restart\tTags";
        assert_eq!(tsv.lines().next(), Some(head));
        let last = "\t*\tmax_connections: 50->60\t2126-01-01T00:00:00+00:00 if version < 15.4\t{nosync: true}";
        assert!(tsv.ends_with(last), "{tsv}");
        let all = of(Format::Tsv, true);
        assert_eq!(all.lines().next(), Some(format!("{head}\tLease\tFencing\tAgent").as_str()));
        let json: Value = serde_json::from_str(&of(Format::Json, false)).unwrap();
        assert_eq!(json[2]["Tags"], serde_json::json!({"nosync": true}));
        assert_eq!(json[0].get("Lease"), None);
    }

    #[test]
    fn machines_get_names_without_doubles_and_no_empty_values() {
        let json: Value = serde_json::from_str(&render(
            &made(),
            &Heard::default(),
            &[],
            Format::Json,
            false,
            Shape::List,
        ))
        .unwrap();
        assert_eq!(json[0]["Cluster"], "ha");
        assert_eq!(json[1]["Receive Lag"], 0);
        assert_eq!(json[2]["Replay Lag"], 5);
        assert_eq!(json[0].get("Receive LSN"), None);
        let tsv = render(&made(), &Heard::default(), &[], Format::Tsv, false, Shape::List);
        assert!(
            tsv.starts_with("Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\t")
        );
        assert_eq!(tsv.lines().count(), 4);
        let yaml = render(&made(), &Heard::default(), &[], Format::Yaml, false, Shape::List);
        assert!(yaml.starts_with("- Cluster: ha\n  Member: n1\n  Host: \"10.0.0.1:5432\"\n"));
    }

    #[test]
    fn extended_shows_what_the_members_said() {
        let more = Extended {
            lease_left_ms: Some(2149),
            fencing: "armed: cgroup.kill, pdeathsig".into(),
            agent: "hart 0.1.0".into(),
        };
        let table = render(&made(), &Heard::default(), &[more], Format::Pretty, true, Shape::List);
        assert!(
            table.contains("| term 4, 2.1 s left | armed: cgroup.kill, pdeathsig |"),
            "{table}"
        );
    }
}
