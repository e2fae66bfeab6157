//! Writers against a real server.

use std::sync::Arc;
use std::time::Duration;

use hart_testkit::{Postgres, Sql, until};
use hart_workload::{Check, Failure, Ledger, Node, Plan, Target, check, create_table, run};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(60);

struct Running {
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

fn start(plans: Vec<Plan>) -> Running {
    let ledger = Arc::new(Ledger::new());
    let (stop, stopped) = watch::channel(false);
    let task = |plan| tokio::spawn(run(plan, Arc::clone(&ledger), stopped.clone()));
    let tasks = plans.into_iter().map(task).collect();
    Running { ledger, stop, tasks }
}

impl Running {
    async fn acknowledged(&self, more: u64) {
        let target = self.ledger.counts().acknowledged + more;
        until("acknowledged rows", DEADLINE, async || {
            (self.ledger.counts().acknowledged >= target).then_some(())
        })
        .await
        .expect("rows are written");
    }

    async fn finish(self) -> Arc<Ledger> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        self.ledger
    }
}

fn node(name: &str, server: &Postgres) -> Node {
    Node::new(name, server.config())
}

async fn checked(server: &Postgres, ledger: &Ledger) -> Check {
    let sql = Sql::connect(&server.config()).await.expect("connection");
    check(ledger, sql.client(), DEADLINE, false).await.expect("readable")
}

async fn execute(server: &Postgres, statement: &str) {
    let sql = Sql::connect(&server.config()).await.expect("connection");
    sql.rows(statement).await.expect("executed");
}

#[tokio::test]
async fn rows_survive_a_crash_and_the_account_is_exact() {
    let mut server = Postgres::start().await.expect("server");
    let running = start(vec![
        Plan::new(1, Target::Fixed(node("n1", &server))),
        Plan::new(2, Target::ReadWrite(vec![node("n1", &server)])),
    ]);
    running.acknowledged(100).await;
    assert_eq!(running.ledger.current_node().as_deref(), Some("n1"));

    running.ledger.mark();
    server.stop_immediately().expect("stopped");
    until("a failure", DEADLINE, async || {
        running.ledger.counts().failures.get(&Failure::Connect).copied().filter(|n| *n >= 3)
    })
    .await
    .expect("writers notice");
    server.start_again().await.expect("started");
    running.acknowledged(100).await;
    let ledger = running.finish().await;

    let gap = ledger.longest_gap_since_mark(hart_clock::now());
    assert!(!gap.length().is_zero());
    assert_eq!(ledger.overlap(), None);
    let account = checked(&server, &ledger).await;
    assert!(account.passed(), "{account}");
    assert_eq!(account.ok, ledger.counts().acknowledged);

    // The account can fail: a row is taken away, and one appears that nobody sent.
    let one = "delete from hart_demo_writes where writer = 1 \
               and seq = (select max(seq) from hart_demo_writes where writer = 1)";
    execute(&server, one).await;
    execute(&server, "insert into hart_demo_writes values (1, 1000000000), (7, 1)").await;
    let account = checked(&server, &ledger).await;
    assert_eq!((account.lost, account.unexpected), (1, 2), "{account}");
    assert_eq!(account.lost_rows[0].writer, 1);
}

#[tokio::test]
async fn a_replica_is_refused_and_the_writable_node_is_found() {
    let (replica, primary) = (Postgres::start().await, Postgres::start().await);
    let (replica, primary) = (replica.expect("server"), primary.expect("server"));
    let sql = Sql::connect(&replica.config()).await.expect("connection");
    create_table(sql.client()).await.expect("created");
    create_table(sql.client()).await.expect("created already");
    execute(&replica, "alter system set default_transaction_read_only = on").await;
    execute(&replica, "select pg_reload_conf()").await;
    until("read-only", DEADLINE, async || {
        let sql = Sql::connect(&replica.config()).await.ok()?;
        (sql.value("show transaction_read_only").await.ok()??.as_str() == "on").then_some(())
    })
    .await
    .expect("read-only");

    let both = vec![node("replica", &replica), node("primary", &primary)];
    let running = start(vec![
        Plan::new(1, Target::ReadWrite(both)),
        Plan::new(2, Target::Fixed(node("replica", &replica))),
    ]);
    running.acknowledged(50).await;
    until("refusals", DEADLINE, async || {
        running.ledger.counts().failures.get(&Failure::ReadOnly).copied().filter(|n| *n >= 3)
    })
    .await
    .expect("refused");
    let ledger = running.finish().await;
    assert_eq!(ledger.current_node().as_deref(), Some("primary"));
    assert_eq!(ledger.counts().unknown, 0);
    assert!(checked(&primary, &ledger).await.passed());
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_not_failed() {
    let server = Postgres::start().await.expect("server");
    let plan = Plan {
        reply_deadline: Duration::from_millis(300),
        ..Plan::new(1, Target::Fixed(node("n1", &server)))
    };
    let running = start(vec![plan]);
    running.acknowledged(10).await;
    // The insert waits for this lock, and gets it after the writer has given up.
    let sql = Sql::connect(&server.config()).await.expect("connection");
    sql.client().batch_execute("begin; lock table hart_demo_writes").await.expect("locked");
    until("an unknown row", DEADLINE, async || {
        (running.ledger.counts().unknown >= 1).then_some(())
    })
    .await
    .expect("given up");
    sql.client().batch_execute("commit").await.expect("unlocked");
    running.acknowledged(10).await;
    let ledger = running.finish().await;
    let account = checked(&server, &ledger).await;
    assert!(account.passed(), "{account}");
    assert!(account.recovered + account.vanished >= 1, "{account}");
}
