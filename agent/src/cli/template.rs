//! `hart template`: files for the programs around a cluster, once or whenever the cluster changes.

mod watch;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::template::{self, Catalogue, Model, ReloadError, RenderError, Target, Template};

/// Arguments of `hart template`.
#[derive(Args, Clone, Debug)]
pub struct TemplateArgs {
    /// The template; --list shows them.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// List the templates and what can be set in each.
    #[arg(short, long, conflicts_with_all = ["name", "output", "watch"])]
    list: bool,
    /// Write to this file, as a whole and only if something has changed; otherwise to stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on, and write the file again whenever the cluster changes.
    #[arg(short, long, requires = "output")]
    watch: bool,
    /// Run this by the shell after the file was changed. If it fails, the old file is put back.
    #[arg(short, long, value_name = "COMMAND", requires = "output")]
    exec: Option<String>,
    /// How long the command may take.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    exec_timeout: Duration,
    /// Set a variable of the template.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Directory with templates of your own; they go before the built-in ones of the same name.
    #[arg(long, value_name = "DIR")]
    template_dir: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let wrong = || "expected a number of seconds above 0, such as 30".to_owned();
    seconds.filter(|time| !time.is_zero()).ok_or_else(wrong)
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as rw_port=6433")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// Lists, or renders once or again and again.
///
/// # Errors
/// There is no such template, it cannot be rendered, or the cluster cannot be read; with `--watch`
/// only at the first time.
pub async fn run(globals: &Globals, args: TemplateArgs) -> Result<ExitCode, Fail> {
    let catalogue = Catalogue { dir: args.template_dir.clone() };
    let all = catalogue.all().map_err(|error| {
        Fail::usage(format!("--template-dir: {error}")).hint("name a directory that can be read")
    })?;
    let Some(name) = args.name.clone().filter(|_| !args.list) else { return list(&all) };
    let work = Work { template: find(all, &name)?, set: args.set.iter().cloned().collect() };
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let output = Output {
        target: args.output.as_deref().map(Target::new),
        exec: args.exec,
        timeout: args.exec_timeout,
    };
    if args.watch {
        return watch::run(&context, &work, &output).await;
    }
    let cluster = Cluster::read(&context.consul, &context.scope, &context.prefix).await;
    let text = match cluster {
        Ok(cluster) if !cluster.is_empty() => work.render(&cluster, namespace(&context))?,
        // Some speak of no member; the others are of use before the cluster is there.
        Ok(_) => {
            eprintln!("hart: Consul knows no cluster \"{}\" yet: no members", context.scope);
            work.render_without(&context.scope, namespace(&context))?
        }
        Err(error) if work.needs_members() => return Err(error.into()),
        Err(_) => work.render_without(&context.scope, namespace(&context))?,
    };
    output.put(&text).await
}

fn namespace(context: &Context) -> &str {
    let folder = context.prefix.strip_suffix('/').unwrap_or(&context.prefix);
    folder.strip_suffix(context.scope.as_str()).unwrap_or(folder).trim_end_matches('/')
}

fn find(all: Vec<Template>, name: &str) -> Result<Template, Fail> {
    let names: Vec<String> = all.iter().map(|template| template.name.clone()).collect();
    all.into_iter().find(|template| template.name == name || template.file == name).ok_or_else(
        || {
            Fail::usage(format!("there is no template {name:?}"))
                .hint(format!("there are {}; hart template --list explains them", names.join(", ")))
        },
    )
}

fn list(all: &[Template]) -> Result<ExitCode, Fail> {
    let mut out = std::io::stdout().lock();
    for template in all {
        let from = template.from.as_ref().map(|dir| format!(" (from {})", dir.display()));
        let from = from.unwrap_or_default();
        let about = &template.header.about;
        writeln!(out, "{:<14} {:<18} {about}{from}", template.name, template.file)?;
        for setting in &template.header.settings {
            let set = format!("{}={}", setting.name, setting.default);
            writeln!(out, "    --set {set:<34} {}", setting.about)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be rendered.
struct Work {
    template: Template,
    set: BTreeMap<String, String>,
}

impl Work {
    fn render(&self, cluster: &Cluster, namespace: &str) -> Result<String, Fail> {
        let (model, left_out) = Model::new(&cluster.scope, namespace, &cluster.snapshot);
        for problem in left_out {
            eprintln!("hart: warning: {problem}");
        }
        Ok(template::render(&self.template, &model, &self.set)?)
    }

    fn render_without(&self, scope: &str, namespace: &str) -> Result<String, Fail> {
        Ok(template::render(&self.template, &Model::without_cluster(scope, namespace), &self.set)?)
    }

    /// Does the template speak of members at all?
    fn needs_members(&self) -> bool {
        ["members", "primary", "replicas"].iter().any(|word| self.template.text.contains(word))
            && self.template.text.contains("member.") | self.template.text.contains("primary.")
    }
}

impl From<RenderError> for Fail {
    fn from(error: RenderError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ReloadError> for Fail {
    fn from(error: ReloadError) -> Self {
        Self::failed(error.to_string())
    }
}

/// Where the text goes.
struct Output {
    target: Option<Target>,
    exec: Option<String>,
    timeout: Duration,
}

impl Output {
    /// Writes and reloads; after a reload that failed the old file is back.
    async fn put(&self, text: &str) -> Result<ExitCode, Fail> {
        let Some(target) = &self.target else {
            print!("{text}");
            return Ok(ExitCode::SUCCESS);
        };
        let Some(former) = target.replace(text)? else { return Ok(ExitCode::SUCCESS) };
        let Some(command) = &self.exec else { return Ok(ExitCode::SUCCESS) };
        let Err(error) = template::reload(command, self.timeout).await else {
            return Ok(ExitCode::SUCCESS);
        };
        target.restore(&former)?;
        Err(Fail::from(error).hint("the old file was put back; the program goes on with it"))
    }
}
