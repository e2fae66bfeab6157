//! `hart query`: a statement on a member, by psql: it knows all ways in that libpq has (~/.pgpass, PGPASSWORD, PGSSLMODE,
//! services), and its answer is printed in the formats.

mod answer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use hart_ha::brain::host_and_port;
use hart_ha::kv::{Member, State};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::Format;
use crate::cli::globals::Globals;
use crate::cli::members::{self, RoleFilter};
use crate::cli::{ask, list, out, settings};

/// Arguments of `hart query`.
#[derive(Args, Clone, Debug)]
pub struct QueryArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The statement.
    #[arg(
        short,
        long,
        value_name = "SQL",
        conflicts_with = "file",
        required_unless_present = "file"
    )]
    command: Option<String>,
    /// The file with the statements; -: standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// On a member with this role; without it and --member, on the primary.
    #[arg(short, long, value_enum)]
    role: Option<RoleFilter>,
    /// On this member.
    #[arg(short, long, value_name = "NAME", conflicts_with = "role")]
    member: Option<String>,
    /// The role to log in as; without it PGUSER, or that of the operating system.
    #[arg(short = 'U', long, visible_alias = "user")]
    username: Option<String>,
    /// Ask for the password. Without it: PGPASSWORD or ~/.pgpass.
    #[arg(long)]
    password: bool,
    /// The database; without it PGDATABASE, or postgres.
    #[arg(short, long)]
    dbname: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value = "tsv")]
    format: Format,
    /// What stands between columns with --format tsv, instead of a tab.
    #[arg(long, value_name = "TEXT")]
    delimiter: Option<String>,
    /// Ask again every so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = list::seconds)]
    watch: Option<Duration>,
    /// The same as --watch 2.
    #[arg(short = 'W', conflicts_with = "watch")]
    every_two: bool,
}

/// Asks, and prints the rows.
///
/// # Errors
/// There is no such member, no psql, or PostgreSQL refuses.
pub async fn run(globals: &Globals, args: QueryArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let sql = statement(&args)?;
    let password = if args.password { Some(ask::secret("Password")?) } else { None };
    let cluster = context.cluster().await?;
    let role = args.role.unwrap_or(if args.member.is_some() {
        RoleFilter::Any
    } else {
        RoleFilter::Primary
    });
    let names: Vec<String> = args.member.iter().cloned().collect();
    let mut chosen = members::select(&cluster, &names, role, "ask", true)?;
    // One that runs first, where any will do.
    chosen.sort_by_key(|(_, member)| member.state != State::Running);
    let place = |(name, member): &(&str, &Member)| {
        let none = || Fail::failed(format!("{name} has no address in Consul yet"));
        host_and_port(&member.conn_url).ok_or_else(none)
    };
    let places = chosen.iter().map(place).collect::<Result<_, _>>()?;
    let psql = Psql { program: program(globals)?, places, password, args: &args };
    let every = args.watch.or(args.every_two.then_some(Duration::from_secs(2)));
    let Some(every) = every else { return Ok(out::print(&psql.ask(&sql).await?)) };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let code = out::print(&psql.ask(&sql).await?);
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
}

fn statement(args: &QueryArgs) -> Result<String, Fail> {
    let Some(file) = &args.file else { return Ok(args.command.clone().unwrap_or_default()) };
    let read = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    read.map_err(|error| Fail::usage(format!("--file {}: {error}", file.display())))
}

/// That of the configuration's PostgreSQL, or the one of the path.
fn program(globals: &Globals) -> Result<OsString, Fail> {
    let dir = settings::load(globals)?.config.postgresql.bin_dir;
    let own = dir.map(|dir| dir.join("psql")).filter(|path| path.is_file());
    Ok(own.map_or_else(|| OsString::from("psql"), PathBuf::into_os_string))
}

/// Rows; or psql's exit code, and what it said.
type Told = Result<String, (Option<i32>, String)>;

struct Psql<'a> {
    program: OsString,
    /// Host and port of each that will do.
    places: Vec<(String, u16)>,
    password: Option<String>,
    args: &'a QueryArgs,
}

/// psql had no connection, or lost it.
const NO_CONNECTION: i32 = 2;

impl Psql<'_> {
    /// The first that can be reached.
    async fn ask(&self, sql: &str) -> Result<String, Fail> {
        let mut places = self.places.iter().peekable();
        while let Some(place) = places.next() {
            match self.run(place, sql).await? {
                Ok(rows) => return self.shown(place, sql, &rows).await,
                Err((Some(NO_CONNECTION), said)) if places.peek().is_some() => {
                    eprintln!("hart: {said}");
                }
                Err((_, said)) => return Err(Fail::failed(said)),
            }
        }
        Err(Fail::failed("nobody is there to ask"))
    }

    async fn shown(&self, place: &(String, u16), sql: &str, rows: &str) -> Result<String, Fail> {
        let format = self.args.format;
        let delimiter = self.args.delimiter.as_deref().unwrap_or("\t");
        let types = match format {
            Format::Json | Format::Yaml => self.types(place, sql).await,
            _ => Vec::new(),
        };
        answer::render(rows, &types, format, delimiter).map_err(Fail::failed)
    }

    /// The types of the columns; none of several statements at once, whose values are texts then.
    async fn types(&self, place: &(String, u16), sql: &str) -> Vec<String> {
        let described = format!("{}\n\\gdesc\n", sql.trim_end().trim_end_matches(';'));
        match self.run(place, &described).await {
            Ok(Ok(text)) => answer::types(&text),
            _ => Vec::new(),
        }
    }

    /// What psql printed; or how it ended, and what it said.
    async fn run(&self, (host, port): &(String, u16), sql: &str) -> Result<Told, Fail> {
        let mut command = Command::new(&self.program);
        command.args(["-X", "--quiet", "--csv", "--no-password", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-P", &format!("null={}", answer::NULL), "--host", host]);
        command.args(["--port", &port.to_string()]);
        if let Some(user) = &self.args.username {
            command.args(["--username", user]);
        }
        match &self.args.dbname {
            Some(name) => drop(command.args(["--dbname", name])),
            None if std::env::var_os("PGDATABASE").is_none() => {
                command.args(["--dbname", "postgres"]);
            }
            None => {}
        }
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
            command.env("PGCONNECT_TIMEOUT", "5");
        }
        command.env("PGAPPNAME", "hart query").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let missing = |error: std::io::Error| {
            Fail::failed(format!("{} cannot be run: {error}", self.program.to_string_lossy())).hint(
                "hart query needs psql (postgresql-client), in the path or in postgresql.bin_dir",
            )
        };
        let mut child = command.spawn().map_err(missing)?;
        // A script of its own ends with a line break, or psql takes its last line for unfinished. At the same time as
        // its answer is read: a pipe has an end.
        let input = child.stdin.take();
        let text = format!("{sql}\n");
        let write = async {
            if let Some(mut input) = input {
                let _ = input.write_all(text.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output?;
        if output.status.success() {
            return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(Err((output.status.code(), format!("{host}:{port}: {}", said.trim()))))
    }
}
