//! The live view as lines of text.

use std::time::Duration;

use hart_ha::store::Snapshot;

use crate::api::cluster::members;
use crate::cli::render_table;

/// What is shown, apart from the cluster's keys.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Names, ports and whether the agent runs.
    pub nodes: Vec<(String, u16, bool)>,
    /// Milliseconds that the leader's lease has left.
    pub lease_left_ms: Option<u64>,
    /// Acknowledged rows in each of the last seconds.
    pub per_second: Vec<u64>,
    /// Acknowledged rows in all.
    pub acknowledged: u64,
    /// The longest time without one.
    pub longest_gap: Duration,
    /// Time since the last one.
    pub silence: Option<Duration>,
    /// The last events.
    pub events: Vec<String>,
    /// A connection string.
    pub dsn: String,
    /// Where the primary is, by DNS.
    pub named: Option<String>,
    /// The command that asks DNS.
    pub dig: String,
    /// The start of commands for another terminal.
    pub command: String,
    /// Bold headings.
    pub bold: bool,
}

const RIGHT: [&str; 2] = ["TL", "Lag"];

/// The lines.
#[must_use]
pub fn lines(snapshot: &Snapshot, frame: &Frame) -> Vec<String> {
    let mut lines = vec![heading(frame, "hart demo")];
    lines.extend(table(snapshot, frame).lines().map(str::to_owned));
    lines.push(lease(snapshot, frame));
    lines.push(format!("DNS: primary is {}", frame.named.as_deref().unwrap_or("nobody")));
    lines.push(writes(frame));
    lines.push(String::new());
    lines.push(heading(frame, "what happened"));
    lines.extend(frame.events.iter().cloned());
    lines.push(String::new());
    lines.push(heading(frame, "in another terminal"));
    let command = &frame.command;
    lines.push(format!("  {command} list"));
    lines.push(format!("  {command} switchover --force"));
    lines.push(format!("  {}", psql(&frame.dsn)));
    lines.push(format!("  {}", frame.dig));
    lines.push(String::new());
    lines.push(heading(frame, "keys"));
    lines.push(
        "  k kill -9 the primary's postmaster   n lose the primary node   b bring lost nodes back"
            .to_owned(),
    );
    lines.push("  s switch over   q quit".to_owned());
    lines
}

/// A command to look at the data with. The demo's password is no secret.
#[must_use]
pub fn psql(dsn: &str) -> String {
    format!("PGPASSWORD=postgres psql \"{dsn}\"")
}

fn heading(frame: &Frame, text: &str) -> String {
    if frame.bold { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

fn table(snapshot: &Snapshot, frame: &Frame) -> String {
    let rows = members(snapshot);
    let row = |(name, port, up): &(String, u16, bool)| {
        let member = rows.iter().find(|row| row.name == *name);
        // What a dead node last said of itself stays in Consul until its session ends.
        let cell = |text: String| if *up { text } else { String::new() };
        let of = |text: fn(&crate::api::cluster::MemberRow) -> String| {
            cell(member.map(text).unwrap_or_default())
        };
        vec![
            name.clone(),
            format!("127.0.0.1:{port}"),
            of(|row| row.role.replace('_', " ")),
            if *up { of(|row| row.state.clone()) } else { "lost".to_owned() },
            of(|row| row.timeline.map(|tl| tl.to_string()).unwrap_or_default()),
            of(|row| row.replay_lag.map(bytes).unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<String>> = frame.nodes.iter().map(row).collect();
    render_table(&["Member", "Address", "Role", "State", "TL", "Lag"], &rows, &RIGHT)
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} kB", bytes >> 10),
        _ => format!("{} MB", bytes >> 20),
    }
}

fn lease(snapshot: &Snapshot, frame: &Frame) -> String {
    let Some(lease) = snapshot.lease().filter(|lease| lease.is_held()) else {
        return "lease: nobody's".to_owned();
    };
    let left = frame.lease_left_ms.map(|ms| format!(", {}.{} s left", ms / 1000, ms % 1000 / 100));
    format!("lease: {}, term {}{}", lease.holder, lease.term, left.unwrap_or_default())
}

fn writes(frame: &Frame) -> String {
    let last = frame.per_second.last().copied().unwrap_or(0);
    let mut text = format!(
        "writes: {last}/s {}  {} acknowledged, longest gap {:.2} s",
        bars(&frame.per_second),
        frame.acknowledged,
        frame.longest_gap.as_secs_f64()
    );
    if let Some(silence) = frame.silence.filter(|silence| *silence > Duration::from_millis(200)) {
        text.push_str(&format!(", none for {:.1} s", silence.as_secs_f64()));
    }
    text
}

/// One character per second.
fn bars(per_second: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = per_second.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: &u64| match usize::try_from(count * 7 / most) {
        _ if *count == 0 => ' ',
        Ok(height) => BARS.get(height).copied().unwrap_or('█'),
        Err(_) => '█',
    };
    per_second.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::store::RawEntry;

    #[test]
    fn everything_is_in_the_picture() {
        let lease = r#"{"optime":9000,"lease":{"holder":"n1","term":3,"ttl_ms":3000,"beat":1,
            "state":"held"}}"#;
        let entries = [
            ("leader", "n1"),
            ("status", lease),
            ("members/n1", r#"{"state":"running","role":"primary","timeline":1}"#),
            (
                "members/n2",
                r#"{"state":"running","role":"replica","timeline":1,"replay_lsn":8000,
                "replication_state":"streaming"}"#,
            ),
            ("members/n3", r#"{"state":"running","role":"replica","timeline":1}"#),
        ];
        let raw = entries.iter().map(|(key, value)| RawEntry {
            key,
            value: value.as_bytes(),
            index: 1,
            session: None,
        });
        let frame = Frame {
            nodes: vec![
                ("n1".into(), 5001, true),
                ("n2".into(), 5002, true),
                ("n3".into(), 5003, false),
            ],
            lease_left_ms: Some(2149),
            per_second: vec![0, 50, 100],
            acknowledged: 150,
            longest_gap: Duration::from_millis(1250),
            silence: Some(Duration::from_millis(1500)),
            events: vec!["    1.00 s  n1 leads".into()],
            dsn: "host=x".into(),
            named: Some("n1.demo.pg.test:5001".into()),
            dig: "dig @127.0.0.1".into(),
            command: "hart -d http://127.0.0.1:8500".into(),
            bold: false,
        };
        let text = lines(&Snapshot::read(raw).0, &frame).join("\n");
        for part in [
            "| n1     | 127.0.0.1:5001 | leader  | running   |  1 |",
            "| n2     | 127.0.0.1:5002 | replica | streaming |  1 | 1000 B |",
            "| n3     | 127.0.0.1:5003 |         | lost      |    |",
            "lease: n1, term 3, 2.1 s left",
            "writes: 100/s  ▄█  150 acknowledged, longest gap 1.25 s, none for 1.5 s",
            "    1.00 s  n1 leads",
            "  hart -d http://127.0.0.1:8500 list",
            "psql \"host=x\"",
            "DNS: primary is n1.demo.pg.test:5001",
            "  dig @127.0.0.1",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([bytes(9), bytes(20_480), bytes(1 << 24)], ["9 B", "20 kB", "16 MB"]);
    }
}
