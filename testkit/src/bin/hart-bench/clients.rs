//! What a client loses by each way to the primary: errors, and the time until the next write.

use std::time::Duration;

use anyhow::Result;
use hart_testkit::Options;
use hart_testkit::ways::{Cost, Crowd, Way, Ways, monotonic};

const HEALTHY: Duration = Duration::from_secs(180);
/// Until every client writes again.
const RESUMED: Duration = Duration::from_secs(120);
/// How long Consul is away.
const AWAY: Duration = Duration::from_secs(20);

/// What happens to the cluster.
#[derive(Clone, Copy, Debug)]
enum Event {
    Switchover,
    Crash,
    NodeLost,
    ConsulAway,
}

/// So many clients share PgBouncer: with one alone it never disconnects any.
const POOLED: usize = 8;

impl Event {
    const ALL: [Self; 4] = [Self::Switchover, Self::Crash, Self::NodeLost, Self::ConsulAway];

    const fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Crash => "PostgreSQL killed",
            Self::NodeLost => "primary's host lost",
            Self::ConsulAway => "Consul away for 20 s",
        }
    }

    async fn happen(self, ways: &mut Ways, primary: &str) -> Result<()> {
        let cluster = &mut ways.cluster;
        match self {
            Self::Switchover => cluster.switchover(None).await,
            Self::Crash => {
                cluster.node(primary)?.kill_postmaster()?;
                cluster.wait_primary(RESUMED).await.map(drop)
            }
            Self::NodeLost => {
                cluster.kill_node(primary)?;
                cluster.wait_new_primary(primary, RESUMED).await.map(drop)
            }
            Self::ConsulAway => {
                cluster.kill_consul();
                tokio::time::sleep(AWAY).await;
                Ok(())
            }
        }
    }

    async fn mend(self, ways: &mut Ways, primary: &str) -> Result<()> {
        match self {
            Self::Switchover | Self::Crash => Ok(()),
            Self::NodeLost => ways.revive_node(primary, HEALTHY).await,
            Self::ConsulAway => ways.cluster.start_consul().await,
        }
    }
}

/// The costs of one way, by event and run.
type Costs = [Vec<Cost>; Event::ALL.len()];

/// Measures and prints the table.
pub(crate) async fn measure(runs: usize) -> Result<()> {
    let mut ways = Ways::start(&Options::default(), HEALTHY).await?;
    let mut all: Vec<(Way, Costs)> = Vec::new();
    for way in Way::ALL {
        match Ways::passes_silent_hosts(way)? {
            true => all.push((way, Costs::default())),
            false => eprintln!("{}: this version waits for a silent host, left out", way.name()),
        }
    }
    let which: Vec<Way> = all.iter().map(|(way, _)| *way).chain([Way::PgBouncer; POOLED]).collect();
    all.push((Way::PgBouncer, Costs::default()));
    for run in 1..=runs {
        for (at, event) in Event::ALL.into_iter().enumerate() {
            let costs = once(event, &mut ways, &which).await?;
            eprintln!("{} {run}/{runs}:", event.name());
            for ((way, kept), cost) in all.iter_mut().zip(costs) {
                eprintln!("  {:30} {}", way.name(), show(&[cost]));
                kept[at].push(cost);
            }
        }
    }
    print!("{}", render(&all));
    print!("{}", begun_later(&all));
    Ok(())
}

async fn once(event: Event, ways: &mut Ways, which: &[Way]) -> Result<Vec<Cost>> {
    let primary = ways.cluster.wait_recovered(3, HEALTHY).await?;
    let crowd = Crowd::start(ways, which, &primary, HEALTHY).await?;
    let begun = monotonic();
    event.happen(ways, &primary).await?;
    crowd.written_since(monotonic(), RESUMED).await?;
    let costs = crowd.seen().into_iter().map(|(way, seen)| (way, seen.cost(begun)));
    let costs = by_way(costs.collect());
    drop(crowd);
    event.mend(ways, &primary).await?;
    Ok(costs)
}

/// The errors of all clients of a way together, and the longest time of any.
pub(crate) fn by_way(costs: Vec<(Way, Cost)>) -> Vec<Cost> {
    let mut ways: Vec<(Way, Cost)> = Vec::new();
    for (way, cost) in costs {
        match ways.iter_mut().find(|(other, _)| *other == way) {
            Some((_, sum)) => {
                let Cost { writes, later, connects, gap } = cost;
                *sum = Cost {
                    writes: sum.writes + writes,
                    later: sum.later + later,
                    connects: sum.connects + connects,
                    gap: sum.gap.max(gap),
                };
            }
            None => ways.push((way, cost)),
        }
    }
    ways.into_iter().map(|(_, cost)| cost).collect()
}

/// Errors of statements and of attempts to connect in the worst run, then the median of the times and
/// the longest.
pub(crate) fn show(costs: &[Cost]) -> String {
    let most = |of: fn(&Cost) -> usize| costs.iter().map(of).max().unwrap_or(0);
    let mut gaps: Vec<f64> = costs.iter().map(|cost| cost.gap).collect();
    gaps.sort_by(f64::total_cmp);
    let middle = gaps.get(gaps.len() / 2).copied().unwrap_or(f64::NAN);
    let longest = gaps.last().copied().unwrap_or(f64::NAN);
    let (writes, connects) = (most(|cost| cost.writes), most(|cost| cost.connects));
    format!("{writes} + {connects}; {middle:.2} s ({longest:.2})")
}

/// What was under way fails with its server; what is begun later should find a way that waits.
fn begun_later(all: &[(Way, Costs)]) -> String {
    let mut text = String::from(
        "\nOf them, statements that were begun 0.1 s after the event or later, worst run:\n",
    );
    for (way, costs) in all {
        let worst = |at: usize| costs[at].iter().map(|cost| cost.later).max().unwrap_or(0);
        let cells = (0..Event::ALL.len()).map(|at| worst(at).to_string()).collect::<Vec<_>>();
        text.push_str(&format!("- {}: {}\n", way.name(), cells.join(", ")));
    }
    text
}

fn render(all: &[(Way, Costs)]) -> String {
    let heads = Event::ALL.map(Event::name).join(" | ");
    let mut text = format!("| way | {heads} |\n|---|---|---|---|---|\n");
    for (way, costs) in all {
        let cells = costs.each_ref().map(|costs| show(costs)).join(" | ");
        text.push_str(&format!("| {} | {cells} |\n", way.name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_errors_and_the_middle_time() {
        let cost = |writes, gap| Cost { writes, later: 0, connects: 2, gap };
        let costs = [cost(0, 3.0), cost(1, 0.5), cost(0, 1.0)];
        assert_eq!(show(&costs), "1 + 2; 1.00 s (3.00)");
        let table = render(&[(Way::Vip, [vec![cost(0, 1.0)], Vec::new(), Vec::new(), Vec::new()])]);
        let of = |way| (way, cost(1, 2.0));
        let sums = by_way(vec![of(Way::Vip), of(Way::PgBouncer), (Way::PgBouncer, cost(2, 1.0))]);
        assert_eq!(sums, [cost(1, 2.0), Cost { writes: 3, later: 0, connects: 4, gap: 2.0 }]);
        assert!(
            table.contains("| virtual address | 0 + 2; 1.00 s (1.00) | 0 + 0; NaN s"),
            "{table}"
        );
    }
}
