//! What hart answers about what was done to a cluster: `events`, `list`, `why` and `check` for failures and planned
//! works, one after the other on one cluster, each answer compared with what was done. The table in `docs/answers.md`
//! is made from the same expectations; `HART_WRITE_DOCS=1` writes it.

mod failures;
mod page;
mod told;
mod works;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::Options;

use crate::Drill;
use told::Told;

/// A member by its part in what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Who leads before.
    Leader,
    /// Who leads afterwards, where it is another one.
    Next,
    /// The replica that it is about, or one that is left.
    Replica,
}

/// What was done, and what is to be said of it. In texts `LEADER`, `NEXT` and `REPLICA` stand for names.
struct Case {
    /// In words, for the page.
    done: &'static str,
    /// The cause that `hart events` gives for the change of the leader; `None`: nobody else leads.
    cause: Option<&'static str>,
    /// Lines of `hart events`, in this order: kind, whose, and what the line says.
    order: &'static [(&'static str, Who, &'static str)],
    /// What `hart list` says of a member while it lasts: role and state.
    list: (Who, &'static str, &'static str),
    /// What `hart why` says of that member then.
    why: &'static str,
    /// What fails of `hart check` then, or is warned of, on a member that is well; `None`: nothing fails, and the leader of that moment, which it
    /// names, lets that member in.
    check: Option<&'static str>,
}

impl Case {
    /// The leader leads on, and nothing else is seen of it in the list.
    const fn led_on(done: &'static str) -> Self {
        let list = (Who::Leader, "Leader", "running");
        Self { done, cause: None, order: &[], list, why: "LEADER: leads", check: None }
    }

    /// Nothing is heard of the leader any more, and another one takes its lease.
    const fn leader_lost(done: &'static str) -> Self {
        let list = (Who::Leader, "Former leader", "lost since");
        let cause = Some("the lease of LEADER has run out");
        Self { cause, order: &TAKEN, list, why: "lost — since", ..Self::led_on(done) }
    }

    /// This one is a replica that streams, now or again.
    const fn streams(done: &'static str, who: Who) -> Self {
        let why = match who {
            Who::Leader => "LEADER: yes, it may lead",
            Who::Next => "NEXT: yes, it may lead",
            Who::Replica => "REPLICA: yes, it may lead",
        };
        Self { list: (who, "Replica", "streaming"), why, ..Self::led_on(done) }
    }
}

/// From the takeover to the first write.
const TAKEN: [(&str, Who, &str); 3] = [
    ("lease_gained", Who::Next, ""),
    ("promoted", Who::Next, "promoted"),
    ("writable", Who::Next, "writes are possible here"),
];

/// The names of that moment.
#[derive(Clone, Debug)]
struct Cast {
    leader: String,
    next: Option<String>,
    replica: String,
}

impl Cast {
    /// `replica`: the one that it is about.
    fn of(drill: &Drill, leader: &str, replica: Option<&str>) -> Result<Self> {
        let replica = match replica {
            Some(name) => name.to_owned(),
            None => drill.other_than(leader)?,
        };
        Ok(Self { leader: leader.to_owned(), next: None, replica })
    }

    /// After `next` has come to lead.
    fn led_by(drill: &Drill, leader: &str, next: &str) -> Result<Self> {
        let mut names = drill.cluster.nodes().iter().map(|node| node.name());
        let replica = names.find(|name| ![leader, next].contains(name)).context("three nodes")?;
        let (leader, next) = (leader.to_owned(), Some(next.to_owned()));
        Ok(Self { leader, next, replica: replica.to_owned() })
    }

    fn name(&self, who: Who) -> Result<&str> {
        Ok(match who {
            Who::Leader => &self.leader,
            Who::Next => self.next.as_deref().context("nobody else leads")?,
            Who::Replica => &self.replica,
        })
    }

    /// Who leads while it lasts.
    fn leads(&self) -> &str {
        self.next.as_deref().unwrap_or(&self.leader)
    }

    /// A replica that is well while it lasts.
    fn well<'a>(&self, drill: &'a Drill, about: Who) -> Result<&'a str> {
        let about = self.name(about)?;
        let mut names = drill.cluster.nodes().iter().map(|node| node.name());
        names
            .find(|name| ![about, self.leads(), &self.leader].contains(name))
            .context("three nodes")
    }

    /// A member that is well while it lasts.
    fn witness(&self, about: Who) -> &str {
        match (&self.next, about) {
            (Some(next), _) => next,
            (None, Who::Leader) => &self.replica,
            (None, _) => &self.leader,
        }
    }

    /// With the names in their places.
    fn said(&self, text: &str) -> String {
        let next = self.next.as_deref().unwrap_or("NEXT");
        let text = text.replace("LEADER", &self.leader).replace("REPLICA", &self.replica);
        text.replace("NEXT", next)
    }
}

/// The test's cluster, and what it was told so far.
struct Stage {
    drill: Drill,
    rows: Vec<(Case, Told)>,
}

impl Stage {
    /// Does it while somebody writes (`begin`, with the leader's name), asks meanwhile, mends it (`end`), and asks what
    /// it was.
    async fn play(
        &mut self,
        case: Case,
        begin: impl AsyncFnOnce(&mut Drill, &str) -> Result<Cast>,
        end: impl AsyncFnOnce(&mut Drill, &Cast) -> Result<()>,
    ) -> Result<()> {
        let drill = &mut self.drill;
        let played = async {
            drill.cluster.wait_healthy(3, DEADLINE).await?;
            let leader = drill.write().await?;
            let since = jiff::Timestamp::now().to_string();
            let cast = begin(drill, &leader).await?;
            told::meanwhile(drill, &case, &cast).await?;
            drill.written().await?;
            let gap = drill.ledger()?.longest_gap_since_mark(hart_clock::now());
            end(drill, &cast).await?;
            drill.pause()?;
            drill.cluster.wait_healthy(3, DEADLINE).await?;
            Told::afterwards(drill, &case, &cast, &since, gap.length()).await
        };
        let told = played.await.with_context(|| format!("{}\n{}", case.done, drill.logs()))?;
        self.rows.push((case, told));
        Ok(())
    }
}

#[tokio::test]
async fn each_answer_is_what_was_done() -> Result<()> {
    let options = Options::default().dcs("primary_start_timeout", 20);
    let mut stage = Stage { drill: Drill::with(&options).await?, rows: Vec::new() };
    failures::all(&mut stage).await?;
    works::all(&mut stage).await?;
    ensure!(stage.rows.len() == 15, "ten failures and five planned works");
    page::compare(&stage.rows)
}
