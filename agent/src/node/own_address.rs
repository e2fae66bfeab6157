//! Does this node's own REST address lead to it? Where another member answers there, nobody can ask this
//! one: it is said at once, and not when the first failover needs it.
//!
//! The agent goes on all the same. Its own questions and answers name who is meant, so nothing wrong comes
//! of it; and an agent that ended would leave a running primary to its guard.

use std::time::Duration;

use hart_tls::Client;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::agent::Effect;
use super::peers;

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(30);

/// Looks until the loop has ended.
pub async fn watch(
    tls: Client,
    url: String,
    instance: String,
    effects: UnboundedSender<Effect>,
    wake: std::sync::Arc<Notify>,
) {
    loop {
        // Silence tells nothing: a host may not reach itself by the address that others use.
        if let Some(who) = peers::who(&tls, &url).await {
            let other = who.instance != instance;
            let problem = other.then(|| {
                format!(
                    "{} answers at this node's own REST address {url}: correct \
                     restapi.connect_address, which may have been copied from there",
                    who.name
                )
            });
            if effects.send(Effect::OwnAddress(problem)).is_err() {
                return;
            }
            wake.notify_one();
        }
        tokio::time::sleep(AGAIN).await;
    }
}
