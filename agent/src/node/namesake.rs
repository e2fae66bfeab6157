//! A name belongs to one node at a time: to the one whose session locks the entry of that name.
//!
//! Who finds the entry locked by another installation does not touch it. As long as this node has
//! nothing to lose, it waits until the entry is gone, which it is seconds after its owner's death; and
//! it ends when that owner answers over REST. The lease is safe without this: it names the
//! installation, too. The synchronous set, the failsafe list and the slots go by the name alone.

use std::time::Duration;

use hart_ha::kv::Member;
use hart_ha::store::{Snapshot, Versioned};
use hart_ha::time::Time;

use super::agent::{Agent, Effect};
use super::peers;
use super::server::Life;

/// Between two questions.
const AGAIN: Duration = Duration::from_secs(2);

/// What is known of another node of this name.
#[derive(Debug, Default)]
pub struct Namesake {
    /// Where it was asked last, and when.
    asked: Option<(String, Time)>,
    /// It answered from there.
    alive: Option<Alive>,
    /// It has been said that its entry is there.
    said: bool,
}

/// Another node of this name answers.
#[derive(Debug)]
pub struct Alive {
    url: String,
    instance: String,
}

/// What the loop has to do.
pub enum Clash {
    /// There is none, or this node has something to look after all the same.
    None,
    /// Nothing may be begun here yet.
    Wait,
    /// The other one is alive: this agent ends.
    Refused(String),
}

/// The entry of this name, where another installation's session locks it.
pub fn entry_of_another<'a>(
    snapshot: &'a Snapshot,
    name: &str,
    instance: &str,
) -> Option<&'a Versioned<Member>> {
    let entry = snapshot.members.get(name)?;
    (entry.session.is_some() && entry.value.instance != instance).then_some(entry)
}

/// Another installation of this name leads, and its entry has gone with its session: where the
/// failsafe list has it.
fn leader_of_this_name<'a>(snapshot: &'a Snapshot, name: &str, mine: &str) -> Option<&'a String> {
    let lease = snapshot.lease().filter(|lease| lease.is_held() && lease.holder == name)?;
    let list = snapshot.failsafe.as_ref().filter(|_| lease.instance != mine)?;
    list.value.get(name)
}

impl Agent {
    /// Looks for another node of this name, at every turn: two that start at the same moment see each
    /// other only after both have begun.
    pub(super) fn clash(&mut self, snapshot: Option<&Snapshot>, holds: bool) -> Clash {
        let (name, mine) = (self.config.name.clone(), self.home.instance().to_owned());
        let Some(snapshot) = snapshot else { return Clash::None };
        let entry = entry_of_another(snapshot, &name, &mine).map(|entry| &entry.value.api_url);
        let Some(url) = entry.or_else(|| leader_of_this_name(snapshot, &name, &mine)).cloned()
        else {
            self.namesake = Namesake::default();
            return Clash::None;
        };
        if let Some(Alive { url, instance }) = self.namesake.alive.take_if(|it| it.url == url) {
            let text = format!(
                "there is already a node named \"{name}\" running at {url} (instance {instance}); \
                 give this node another name, or stop that one"
            );
            if !holds {
                return Clash::Refused(text);
            }
            tracing::error!("{text}");
        }
        self.ask_namesake(url);
        let leased = snapshot.lease().is_some_and(|lease| lease.is_held_by(&name, &mine));
        if entry.is_none() || holds || leased || self.known.life != Life::Down {
            return Clash::None;
        }
        if !std::mem::replace(&mut self.namesake.said, true) {
            tracing::info!(
                "waiting: Consul has an entry of another node named \"{name}\"; it vanishes some \
                 seconds after that node's end"
            );
        }
        Clash::Wait
    }

    fn ask_namesake(&mut self, url: String) {
        let now = hart_clock::now();
        let asked = self.namesake.asked.as_ref();
        if asked.is_some_and(|(there, at)| *there == url && now.since(*at) < AGAIN) {
            return;
        }
        self.namesake.asked = Some((url.clone(), now));
        let (mine, effects, wake) =
            (self.home.instance().to_owned(), self.effects.0.clone(), self.wake.clone());
        let tls = self.tls.client.clone();
        tokio::spawn(async move {
            let present = peers::who(&tls, &url).await.map(|who| who.instance);
            if let Some(instance) = present.filter(|instance| *instance != mine) {
                let _ = effects.send(Effect::Namesake(Alive { url, instance }));
                wake.notify_one();
            }
        });
    }

    /// Another node of this name has answered.
    pub(super) fn meet(&mut self, alive: Alive) {
        self.namesake.alive = Some(alive);
    }

    /// Waits for news, with nothing to do. True: the agent was asked to stop.
    pub(super) async fn idle(&mut self) -> bool {
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep(AGAIN) => {}
            () = self.lease.orders.closed() => {}
            Some(session) = self.sessions.recv() => self.on_session(session),
            Ok(()) = self.stop.changed() => {}
        }
        *self.stop.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(instance: &str, session: Option<&str>) -> Snapshot {
        let value = Member { instance: instance.to_owned(), ..Member::default() };
        let entry = Versioned { value, index: 7, session: session.map(str::to_owned) };
        Snapshot { members: [("n1".to_owned(), entry)].into(), ..Snapshot::default() }
    }

    #[test]
    fn an_entry_is_anothers_while_its_session_lives() {
        let is_anothers = |snapshot: &Snapshot| entry_of_another(snapshot, "n1", "mine").is_some();
        assert!(is_anothers(&snapshot("theirs", Some("s"))));
        assert!(is_anothers(&snapshot("", Some("s"))), "Patroni's has no instance");
        assert!(!is_anothers(&snapshot("theirs", None)), "nobody keeps it");
        assert!(!is_anothers(&snapshot("mine", Some("an earlier run's"))));
        assert!(entry_of_another(&snapshot("theirs", Some("s")), "n2", "mine").is_none());
    }
}
