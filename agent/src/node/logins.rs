//! The login that members' REST calls of each other carry. It may be changed while agents run: what one
//! node has read again, another has not yet, so the former one is good for a while longer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_config::Credentials;
use hart_ha::time::Time;
use reqwest::{RequestBuilder, Response, StatusCode};

/// For so long the former login is taken, and offered: long enough to go from node to node by hand.
pub const FORMER: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
struct Known {
    now: Option<Credentials>,
    former: Option<(Credentials, Time)>,
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Logins(Arc<ArcSwap<Known>>);

impl Logins {
    /// As the file has it at the start.
    #[must_use]
    pub fn new(now: Option<Credentials>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Known { now, former: None })))
    }

    /// The file was read again at `at`.
    pub fn renew(&self, new: Option<&Credentials>, at: Time) {
        let known = self.0.load();
        if known.now.as_ref() == new {
            return;
        }
        // Where there was none, all was open, and shall not stay so; the same where there is none now.
        let replaced = known.now.clone().filter(|_| new.is_some());
        let former = replaced.map(|login| (login, at + FORMER));
        self.0.store(Arc::new(Known { now: new.cloned(), former }));
    }

    /// Those that are good at `at`, the present one first; empty: none is wanted.
    #[must_use]
    pub fn good(&self, at: Time) -> Vec<Credentials> {
        let known = self.0.load();
        let former = known.former.as_ref().filter(|(_, until)| at < *until).map(|(login, _)| login);
        known.now.iter().chain(former).cloned().collect()
    }

    /// Sends a request to a member: with the present login, and where that one does not know it yet,
    /// with the former one.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(&self, request: RequestBuilder) -> reqwest::Result<Response> {
        let logins = self.good(hart_clock::now());
        for login in &logins {
            let Some(again) = request.try_clone() else { break };
            let password = Some(login.password.expose());
            let answer = again.basic_auth(&login.username, password).send().await?;
            if answer.status() != StatusCode::UNAUTHORIZED || logins.last() == Some(login) {
                return Ok(answer);
            }
        }
        request.send().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(password: &str) -> Credentials {
        Credentials { username: "admin".into(), password: hart_config::Secret::new(password) }
    }

    #[test]
    fn the_former_login_is_good_for_a_while() {
        let start = Time::from_millis(5000);
        let logins = Logins::new(Some(login("old")));
        assert_eq!(logins.good(start), [login("old")]);
        logins.renew(Some(&login("old")), start);
        assert_eq!(logins.good(start), [login("old")]);
        logins.renew(Some(&login("new")), start);
        assert_eq!(logins.good(start), [login("new"), login("old")]);
        assert_eq!(logins.good(start + FORMER), [login("new")]);
        logins.renew(None, start);
        assert_eq!(logins.good(start), []);
        logins.renew(Some(&login("new")), start);
        assert_eq!(logins.good(start), [login("new")], "who comes without one is refused at once");
    }
}
