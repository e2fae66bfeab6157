//! Random operations on this and on a real Consul must give the same answers.
//!
//! The environment sets the budget: `HART_CONFORMANCE_SEQUENCES` (200 unless set), and
//! `HART_CONFORMANCE_SEED`, the first seed. A failure prints its seed and a shortened sequence; add
//! the seed to [`FAILED_ONCE`].

mod support;

use hart_consul_dev::model::Settings;
use hart_consul_dev::{Options, Server};
use support::consul::{NODE, RealConsul};
use support::ops::{Step, sequence};
use support::run::Pair;

/// Seeds that found a difference once.
const FAILED_ONCE: &[u64] = &[];

const STEPS: usize = 40;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => default,
    }
}

async fn own() -> Server {
    let settings = Settings { node: NODE.to_owned(), ..Settings::default() };
    let options = Options { settings, token: None };
    Server::start_with("127.0.0.1:0", options).await.expect("a free port")
}

/// Leaves out what the failure does not need.
async fn shrink(real: &RealConsul, own: &Server, mut steps: Vec<Step>) -> (Vec<Step>, String) {
    let mut why = String::new();
    let (mut at, mut runs) = (0, 0);
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        runs += 1;
        let pair = Pair::new(real.address, own, &format!("shrink{runs}/"));
        match pair.run(&fewer).await {
            Err((failed, text)) => {
                fewer.truncate(failed + 1);
                (steps, why) = (fewer, text);
            }
            Ok(()) => at += 1,
        }
    }
    (steps, why)
}

#[tokio::test]
async fn random_sequences() {
    let (real, own) = (RealConsul::start().await, own().await);
    let (first, count) =
        (number("HART_CONFORMANCE_SEED", 1), number("HART_CONFORMANCE_SEQUENCES", 200));
    for seed in FAILED_ONCE.iter().copied().chain(first..first + count) {
        let steps = sequence(seed, STEPS);
        let pair = Pair::new(real.address, &own, &format!("seed{seed}/"));
        if let Err((at, why)) = pair.run(&steps).await {
            let (short, short_why) = shrink(&real, &own, steps[..=at].to_vec()).await;
            panic!("seed {seed}, step {at}: {why}\n\nshort: {short:#?}\n{short_why}");
        }
    }
    own.stop().await;
}
