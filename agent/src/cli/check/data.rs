//! PostgreSQL's programs and the data directory.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_config::{Config, effective_postgresql};
use hart_ha::kv::{DynamicConfig, SynchronousMode};
use hart_postgres::{DataDir, Postgres, RunAs, SUPPORTED, Settings, Version};
use hart_types::Chain;

use super::item::Item;

/// How long a look may take: programs on a network file system are slow.
const LOOK: Duration = Duration::from_secs(20);
const PROGRAMS: &str = "programs";
const PARAMETERS: &str = "parameters";
const DATA: &str = "data directory";

/// What was found.
pub struct Live {
    /// The lines.
    pub items: Vec<Item>,
    /// The server that runs in the data directory.
    pub postmaster: Option<i32>,
    /// That of the programs.
    pub version: Option<Version>,
}

impl Live {
    /// Looks at the programs and at the data directory, without touching either.
    pub async fn look(config: &Config, owner: Option<RunAs>) -> Self {
        let mut settings = Settings::new(&config.scope, &config.name, &config.postgresql.data_dir);
        settings.bin_dir.clone_from(&config.postgresql.bin_dir);
        settings.bin_name.clone_from(&config.postgresql.bin_name);
        settings.run_as = owner;
        let postgres = Postgres::new(settings);
        let effective = effective_postgresql(config, &config.bootstrap.dynamic);
        let mut items: Vec<Item> = effective
            .warnings
            .into_iter()
            .map(|text| Item::warn(PARAMETERS, text, "take it out of the file"))
            .collect();
        items.extend(refused(&postgres, &effective.parameters).await);
        items.extend(archive(&effective.parameters));
        items.extend(idle_slots(&effective.parameters));
        items.extend(not_durable(&effective.parameters));
        let version = postgres.version(LOOK).await;
        items.push(programs(&version));
        let mut postmaster = None;
        match postgres.inspect(LOOK).await {
            Ok(state) => items.push(data(config, &state, version.as_ref().ok())),
            Err(error) => {
                items.push(Item::fail(
                    DATA,
                    Chain(&error).to_string(),
                    "let PostgreSQL's user read it",
                ));
            }
        }
        if let Ok(Some(found)) = postgres.postmaster(LOOK).await {
            postmaster = Some(found.pid);
            items.push(Item::ok(DATA, format!("its PostgreSQL runs (process {})", found.pid)));
        }
        Self { items, postmaster, version: version.ok() }
    }

    /// What is to be said of the programs where commits wait for a standby.
    pub fn acknowledges_early(&self, shared: &DynamicConfig) -> Option<Item> {
        let version = self.version.as_ref()?;
        acknowledges_early(version, shared.synchronous_mode)
    }
}

fn acknowledges_early(version: &Version, mode: SynchronousMode) -> Option<Item> {
    let found = hart_postgres::acknowledges_early(version.number())?;
    let remedy = "a minor release needs new programs and a restart of each member, replicas first";
    (mode != SynchronousMode::Off).then(|| Item::warn(PROGRAMS, found, remedy))
}

/// A rewound server has files before its archiver that the former primary has archived. A command that fails
/// for a file that is there would stop the archiver for good as soon as that server leads.
fn archive(parameters: &BTreeMap<String, String>) -> Option<Item> {
    let command = given(parameters, "archive_command")?;
    let refuses = ["! -f", "! -e"].iter().any(|test| command.contains(test));
    let else_succeeds = command.contains("||") || command.contains("cmp");
    (refuses && !else_succeeds).then(|| {
        let found = "archive_command fails for a file that is in the archive already (test ! -f)";
        let remedy = "have it succeed where that is the same file: test ! -f DIR/%f && cp %p DIR/%f || cmp -s %p \
                      DIR/%f; else the archiver of a member that was rewound stands still once it leads";
        Item::warn(PARAMETERS, found, remedy)
    })
}

/// In seconds: shorter ones are told.
const SHORT: u64 = 60;

/// PostgreSQL 18 gives up a slot that nobody has used for so long, whatever the member behind it still needs. Members' slots
/// are used by hart every few seconds, which is too seldom for such a value.
fn idle_slots(parameters: &BTreeMap<String, String>) -> Option<Item> {
    const NAME: &str = "idle_replication_slot_timeout";
    let value = given(parameters, NAME)?;
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let amount: u64 = digits.parse().ok()?;
    let seconds = match value.strip_prefix(digits).map(str::trim) {
        Some("us") => amount / 1_000_000,
        Some("ms") => amount / 1000,
        Some("" | "s") => amount,
        _ => SHORT,
    };
    if amount == 0 || seconds >= SHORT {
        return None;
    }
    let found = format!(
        "{NAME} = {value} is too short: the slots of members that are away may be given up"
    );
    let remedy = "take it out, or set a minute or more: member_slots_ttl says how long such a slot is kept, and max_slot_wal_keep_size how \
                  much WAL it may hold";
    Some(Item::warn(PARAMETERS, found, remedy))
}

/// What lets a crash of the host take, or spoil, what was acknowledged: on a standby that confirmed it, too.
fn not_durable(parameters: &BTreeMap<String, String>) -> Vec<Item> {
    let off = |name: &str| given(parameters, name).is_some_and(is_off);
    let item = |(name, harm): (&str, &str)| {
        let found = format!("{name} is off: when this host loses its power {harm}");
        Item::warn(PARAMETERS, found, "take it out of the file, unless the data may be lost")
    };
    let harms = [
        (
            "fsync",
            "acknowledged commits are gone, and the data may be unreadable; also what it confirmed as a synchronous standby",
        ),
        (
            "full_page_writes",
            "pages that were half written stay damaged, unless the file system writes whole ones",
        ),
    ];
    harms.into_iter().filter(|(name, _)| off(name)).map(item).collect()
}

/// As PostgreSQL reads a boolean.
fn is_off(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    value == "0" || begins("off", 2) || begins("false", 1) || begins("no", 1)
}

fn given<'p>(parameters: &'p BTreeMap<String, String>, name: &str) -> Option<&'p str> {
    let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(found.1.trim())
}

/// What the agent would leave out.
async fn refused(postgres: &Postgres, parameters: &BTreeMap<String, String>) -> Vec<Item> {
    // Without programs there is a line about that.
    let refused = postgres.vet(parameters, LOOK).await.unwrap_or_default();
    let item = |(name, why): (String, String)| {
        let found = format!("{name} is left out: {why}");
        Item::warn(PARAMETERS, found, "mend it, or take it out of the file")
    };
    refused.into_iter().map(item).collect()
}

fn programs(version: &hart_postgres::Result<Version>) -> Item {
    match version {
        Ok(version) if SUPPORTED.contains(&version.major) => {
            Item::ok(PROGRAMS, format!("PostgreSQL {}", version.text))
        }
        Ok(version) => {
            let found = format!("PostgreSQL {} is not supported", version.text);
            Item::fail(PROGRAMS, found, "use 13 to 19; set postgresql.bin_dir")
        }
        Err(error) => {
            let remedy = "install PostgreSQL's server package, or set postgresql.bin_dir";
            Item::fail(PROGRAMS, Chain(error).to_string(), remedy)
        }
    }
}

fn data(config: &Config, state: &DataDir, version: Option<&Version>) -> Item {
    let dir = config.postgresql.data_dir.display();
    match state {
        DataDir::Missing | DataDir::Empty => Item::ok(DATA, format!("{dir} is to be made")),
        DataDir::Cluster { major } => match version {
            Some(version) if version.major != *major => Item::fail(
                DATA,
                format!("{dir} was made by PostgreSQL {major}, the programs are {}", version.major),
                "set postgresql.bin_dir to programs of the same major version",
            ),
            _ => Item::ok(DATA, format!("{dir} holds a PostgreSQL {major} cluster")),
        },
        DataDir::NotACluster { entry } => Item::fail(
            DATA,
            format!("{dir} is neither empty nor a PostgreSQL cluster (it holds \"{entry}\")"),
            "move its contents away, or set postgresql.data_dir to another directory",
        ),
        DataDir::WrongOwner { uid, expected } => Item::fail(
            DATA,
            format!("{dir} belongs to user ID {uid}, but PostgreSQL runs as user ID {expected}"),
            "change its owner with chown -R",
        ),
        DataDir::WrongMode { mode } => {
            Item::fail(DATA, format!("{dir} has mode {mode:04o}"), "set it to 0700 with chmod")
        }
        DataDir::Incomplete { work } => Item::warn(
            DATA,
            format!("{work} did not finish in {dir}"),
            "none: the agent makes it anew at its next start",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::item::Level;

    fn config() -> Config {
        let text = "scope: ha\nname: n1\nrestapi: {listen: \"127.0.0.1:8008\"}\nconsul: {}\n\
                    postgresql: {listen: \"127.0.0.1:5432\", data_dir: /nonexistent/data}\n";
        hart_config::load_text("t.yml", text, []).unwrap().config
    }

    #[test]
    fn what_postgresql_would_refuse_fails() {
        let version = Version { major: 15, text: "15.14".into() };
        let level = |state: DataDir| data(&config(), &state, Some(&version)).level;
        assert_eq!(level(DataDir::Missing), Level::Ok);
        assert_eq!(level(DataDir::Cluster { major: 15 }), Level::Ok);
        assert_eq!(level(DataDir::Cluster { major: 14 }), Level::Fail);
        assert_eq!(level(DataDir::NotACluster { entry: "x".into() }), Level::Fail);
        assert_eq!(level(DataDir::WrongOwner { uid: 1, expected: 2 }), Level::Fail);
        assert_eq!(level(DataDir::WrongMode { mode: 0o755 }), Level::Fail);
    }

    #[test]
    fn an_archive_command_that_fails_for_what_is_there_is_said() {
        let level = |command: &str| {
            let parameters = [("archive_command".to_owned(), command.to_owned())].into();
            archive(&parameters).map(|item| item.level)
        };
        assert_eq!(level("test ! -f /a/%f && cp %p /a/%f"), Some(Level::Warn));
        assert_eq!(level("test ! -f /a/%f && cp %p /a/%f || cmp -s %p /a/%f"), None);
        assert_eq!(level("pgbackrest --stanza=main archive-push %p"), None);
        assert_eq!(archive(&BTreeMap::new()), None);
    }

    #[test]
    fn what_is_not_durable_is_said() {
        let names = |name: &str, value: &str| {
            not_durable(&[(name.to_owned(), value.to_owned())].into()).len()
        };
        for value in ["off", "OFF", "of", "false", "f", "no", "0"] {
            assert_eq!(names("fsync", value), 1, "{value}");
        }
        for value in ["on", "true", "o", "1", "yes", ""] {
            assert_eq!(names("full_page_writes", value), 0, "{value}");
        }
        assert_eq!(names("synchronous_commit", "off"), 0, "that is each session's own");
    }

    #[test]
    fn a_timeout_of_idle_slots_is_said() {
        let level = |value: &str| {
            let name = "idle_replication_slot_timeout".to_owned();
            idle_slots(&[(name, value.to_owned())].into()).map(|item| item.level)
        };
        let warned = ["30", "59s", "2500ms"].map(level);
        assert_eq!(warned, [const { Some(Level::Warn) }; 3]);
        assert_eq!(
            ["1h", "1min", "60 s", "120", " 0 ", "0s"].map(level),
            [const { None::<Level> }; 6]
        );
    }

    #[test]
    fn an_old_minor_release_is_said_where_commits_wait() {
        let level = |text: &str, mode| {
            let version = Version { major: 17, text: text.to_owned() };
            acknowledges_early(&version, mode).map(|item| item.level)
        };
        assert_eq!(level("17.4", SynchronousMode::Quorum), Some(Level::Warn));
        assert_eq!(level("17.4", SynchronousMode::Off), None);
        assert_eq!(level("17.5", SynchronousMode::On), None);
    }

    #[test]
    fn versions_out_of_range_fail() {
        let of = |major| programs(&Ok(Version { major, text: major.to_string() })).level;
        assert_eq!(
            (of(12), of(13), of(19), of(20)),
            (Level::Fail, Level::Ok, Level::Ok, Level::Fail)
        );
    }
}
