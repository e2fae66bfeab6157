//! `hart dns`: the DNS responder without an agent.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use clap::Args;
use hart_config::Dns;
use hart_dns::{Counters, Publisher, Responder, Server, Sockets};
use hart_types::Chain;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::rest::Rest;
use crate::cli::{Fail, Globals, settings};
use crate::dns::{Alone, Options, first_serial};

/// Arguments of `hart dns`.
#[derive(Args, Clone, Debug)]
pub struct DnsArgs {
    /// The zone whose names it answers, such as pg.example.org.
    #[arg(long, value_name = "NAME")]
    zone: String,
    /// Where it listens, UDP and TCP; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    listen: Vec<SocketAddr>,
    /// Consul, such as 127.0.0.1:8500 or consul://host:8500/service; every cluster found there is
    /// served. Wins over the configuration.
    #[arg(long, value_name = "URL")]
    consul: Option<String>,
    /// How long resolvers may keep an answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    ttl: u32,
    /// Without a replica that takes reads, replica names nobody instead of the primary.
    #[arg(long)]
    no_replica_fallback: bool,
    /// Leave out a replica that is more bytes behind.
    #[arg(long, value_name = "BYTES", default_value_t = 104_857_600)]
    max_lag: u64,
    /// A host of proxy.<cluster>.<zone>; without any, those of all members.
    #[arg(long = "proxy", value_name = "HOST")]
    proxies: Vec<String>,
    /// A name server of the zone; without any, ns.<zone>, which is this responder.
    #[arg(long = "nameserver", value_name = "NAME")]
    nameservers: Vec<String>,
    /// Where questions for other zones go, from near clients only; without any, they are refused.
    #[arg(long, value_name = "ADDRESS:PORT")]
    forward: Vec<String>,
    /// Log every question.
    #[arg(long)]
    query_log: bool,
    /// Serve counters for Prometheus on http://ADDRESS:PORT/metrics.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A name or address that cannot be used.
pub async fn run(globals: &Globals, args: DnsArgs) -> Result<ExitCode, Fail> {
    crate::node::log_to_stderr(hart_config::LogType::Plain, "info");
    let mut globals = globals.clone();
    globals.dcs = args.consul.clone().or(globals.dcs);
    let settings = settings::load(&globals)?;
    let client = crate::node::consul_client(&settings.config)?;
    let rest = Rest::new(&settings.config)?;
    let sockets =
        Sockets::bind(&args.listen).map_err(|error| Fail::failed(Chain(&error).to_string()))?;
    let listening = sockets.addresses();
    let options = Options::new(&section(&args), sockets.reachable()).map_err(Fail::usage)?;
    let publisher = Publisher::new(options.settings.clone(), first_serial());
    let counters = Arc::new(Counters::default());
    if let Some(address) = args.metrics {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Fail::failed(format!("cannot serve metrics on {address}: {error}")))?;
        tokio::spawn(serve_metrics(listener, counters.clone()));
    }
    let _server = Server::start(sockets, Responder::new(publisher.clone(), counters))
        .map_err(|error| Fail::failed(Chain(&error).to_string()))?;
    for address in listening {
        tracing::info!("DNS answers for {} on {address}", options.settings.zone);
    }
    let alone = Alone::new(&client, rest, &settings.namespace, publisher, options);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        () = alone.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// As the same options stand in a configuration.
fn section(args: &DnsArgs) -> Dns {
    Dns {
        zone: args.zone.clone(),
        listen: hart_config::Listen::default(),
        ttl: Duration::from_secs(args.ttl.into()),
        replica_fallback: !args.no_replica_fallback,
        max_lag: args.max_lag,
        proxies: args.proxies.clone(),
        nameservers: args.nameservers.clone(),
        forward: args.forward.clone(),
        query_log: args.query_log,
    }
}

async fn serve_metrics(listener: TcpListener, counters: Arc<Counters>) {
    async fn metrics(
        State(counters): State<Arc<Counters>>,
    ) -> ([(axum::http::HeaderName, &'static str); 1], String) {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], counters.prometheus())
    }
    let router = Router::new().route("/metrics", get(metrics)).with_state(counters);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("metrics are not served any more: {error}");
    }
}
