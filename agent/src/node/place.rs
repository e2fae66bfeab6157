//! Where members' names lead. PostgreSQL has the upstream's addresses beside its name, so that it never waits for a
//! resolver; when they change, it must be told. And a name that was never looked up has no address when the
//! resolver falls silent, which is when the member is needed.

use std::time::Duration;

use hart_ha::brain::host_and_port;
use hart_ha::store::Snapshot;
use hart_names::Names;
use hart_postgres::Place;

use super::agent::Agent;
use super::jobs::address;
use super::monitor::Answer;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

impl Agent {
    /// Looks at the names that matter from time to time.
    pub(super) fn look_at_names(&mut self, answer: &Answer, snapshot: Option<&Snapshot>) {
        let now = hart_clock::now();
        if self.known.names_looked.is_some_and(|at| now < at + LOOK) {
            return;
        }
        self.known.names_looked = Some(now);
        snapshot.into_iter().for_each(look_up_strangers);
        self.look_at_place(answer);
    }

    /// To the brain, a standby whose upstream has gone elsewhere does not follow it, and it has its say about
    /// following it again.
    fn look_at_place(&mut self, answer: &Answer) {
        let standby = answer.probe.as_ref().map(|(_, probe)| probe).filter(|p| p.in_recovery);
        let (Some(probe), Some(upstream)) = (standby, &self.known.upstream) else { return };
        if self.follow_pending || self.known.moved {
            return;
        }
        let streams = probe.receiver.as_ref().is_some_and(hart_postgres::Receiver::streaming);
        let moved = match self.postgres.place(&address(upstream)) {
            Place::Same => false,
            // A connection that works need not be broken for one more address.
            Place::More => !streams,
            Place::Other => true,
        };
        if moved {
            let (name, host) = (&upstream.name, &upstream.host);
            tracing::info!("PostgreSQL is told where {name} is now, by the name {host}");
            self.known.moved = true;
        }
    }
}

/// Has the names of members looked up of which nothing is known yet. REST looks all of them up again and again.
fn look_up_strangers(snapshot: &Snapshot) {
    let members = snapshot.members.values().map(|member| &member.value);
    let hosts = members
        .flat_map(|member| [&member.conn_url, &member.api_url])
        .filter_map(|url| Some(host_and_port(url)?.0));
    let names = Names::system();
    hosts.filter(|host| names.known(host).is_empty()).for_each(|host| names.refresh(&host));
}
