//! Sending one call: deadline, failover between endpoints, token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::{Instant, timeout_at};

use crate::classify::{classify, is_denied};
use crate::client::{Client, Shared};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::observer::Exchange;
use crate::request::{Raw, Request};

/// More than any sane answer; a key holds at most 512 KiB.
const MAX_BODY: usize = 64 << 20;
const TOKEN: &str = "x-consul-token";

impl Client {
    /// Sends `request` until an endpoint answers, it is not safe to go on, or the deadline passes.
    pub(crate) async fn send(&self, request: &Request) -> Result<Raw> {
        // Consul adds up to wait/16 of jitter to a blocking query.
        let held = request.wait.map_or(Duration::ZERO, |wait| wait.saturating_add(wait / 16));
        let now = Instant::now();
        // Beyond what the clock can count there is no deadline to speak of; a year will do.
        let budget = self.timeout.saturating_add(held).min(Duration::from_secs(365 * 86_400));
        let deadline = now + budget;
        let shared = self.shared();
        let order = self.order(&shared);
        let mut last = None;
        for (tried, &index) in order.iter().enumerate() {
            if last.is_some() && Instant::now() >= deadline {
                break;
            }
            let endpoint = &shared.endpoints[index];
            match self.authorised((&shared, endpoint), request, deadline, order.len() - tried).await
            {
                Ok(raw) => {
                    endpoint.mark(true);
                    shared.preferred.store(index, Ordering::Relaxed);
                    return Ok(raw);
                }
                Err(error) => {
                    endpoint.mark(is_answer(&error));
                    if !error.moves_on() {
                        return Err(error);
                    }
                    tracing::debug!(%error, "the next Consul endpoint, if any");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::config("there is no endpoint")))
    }

    /// Consul's text in an answer, without the token should it ever repeat it.
    pub(crate) fn text(&self, raw: &Raw) -> String {
        self.shared().token.scrub(&raw.text())
    }

    /// The last good endpoint first, then the others in turn; those that failed lately at the end.
    fn order(&self, shared: &Shared) -> Vec<usize> {
        let count = shared.endpoints.len();
        if let Some(only) = self.only {
            // There may be fewer by now.
            return Vec::from_iter(Some(only).filter(|only| *only < count));
        }
        let first = shared.preferred.load(Ordering::Relaxed);
        let mut order: Vec<_> = (0..count).map(|step| (first + step) % count).collect();
        order.sort_by_key(|&index| shared.endpoints[index].is_avoided());
        order
    }

    /// One endpoint; once more when the token was denied and its file holds another one by now.
    /// (A denied call changed nothing.)
    async fn authorised(
        &self,
        (shared, endpoint): (&Shared, &Endpoint),
        request: &Request,
        deadline: Instant,
        left: usize,
    ) -> Result<Raw> {
        let source = &shared.token;
        let token = source.header();
        let mut raw =
            self.attempt((shared, endpoint), request, token.clone(), deadline, left).await?;
        if raw.is_denied()
            && timeout_at(deadline, source.refresh(token.as_ref())).await.unwrap_or(false)
        {
            raw =
                self.attempt((shared, endpoint), request, source.header(), deadline, left).await?;
        }
        if (200..300).contains(&raw.status) || request.accepts == Some(raw.status) {
            return Ok(raw);
        }
        let answer = self.text(&raw);
        Err(classify(raw.call, raw.status, answer, &request.rule))
    }

    /// One exchange. `left` endpoints, this one included, share the time until the deadline: after
    /// its share this one is given up, if that can do no harm.
    async fn attempt(
        &self,
        (shared, endpoint): (&Shared, &Endpoint),
        request: &Request,
        token: Option<HeaderValue>,
        deadline: Instant,
        left: usize,
    ) -> Result<Raw> {
        let start = Instant::now();
        let gate = Gate::new(&request.body);
        let mut exchange = Box::pin(self.exchange((shared, endpoint), request, token, &gate));
        let remaining = deadline.saturating_duration_since(start);
        let share = match request.wait {
            Some(_) => remaining,
            None => remaining / u32::try_from(left.max(1)).unwrap_or(u32::MAX),
        };
        let mut result = timeout_at(start + share, &mut exchange).await;
        let (mut sent, mut given) = (true, share);
        if result.is_err() {
            sent = !gate.shut();
            if sent && !request.read {
                given = remaining;
                result = timeout_at(deadline, &mut exchange).await;
            }
        }
        let elapsed = start.elapsed();
        let result = result.unwrap_or_else(|_| {
            let call = request.call(&endpoint.shown);
            Err(Error::Timeout { call, limit: rounded(given), sent })
        });
        if let Some(observer) = &shared.observer {
            observer.exchange(&Exchange {
                name: request.name,
                endpoint: &endpoint.shown,
                blocking: request.wait.is_some(),
                elapsed,
                status: result.as_ref().ok().map(|raw| raw.status),
            });
        }
        result
    }

    async fn exchange(
        &self,
        (shared, endpoint): (&Shared, &Endpoint),
        request: &Request,
        token: Option<HeaderValue>,
        gate: &Gate,
    ) -> Result<Raw> {
        let mut query = request.query.clone();
        if let Some(datacenter) = &shared.datacenter {
            query.push(("dc", datacenter.clone()));
        }
        let url = endpoint.url(&request.path)?;
        let mut builder = endpoint.http.request(request.method.clone(), url).query(&query);
        if let Some(token) = token {
            builder = builder.header(TOKEN, token);
        }
        let call = request.call(&endpoint.shown);
        let sent = builder.body(gate.body(request.body.clone())).send().await;
        let mut response = match sent {
            Ok(response) => response,
            Err(source) => {
                let unsent = source.is_connect() || source.is_builder() || gate.shut();
                let source = source.without_url();
                return Err(if unsent {
                    Error::Connect { call, source }
                } else {
                    Error::Broken { call, source }
                });
            }
        };
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => body.extend(chunk),
                Ok(Some(_)) => {
                    let what = format!("it is larger than {MAX_BODY} bytes");
                    return Err(Error::Answer { call, what, source: None });
                }
                // The status already says that nothing was done; its reason is lost.
                Err(_) if (300..500).contains(&status) => break,
                Err(source) => {
                    return Err(Error::Broken { call, source: source.without_url() });
                }
            }
        }
        Ok(Raw { call, status, headers, body })
    }
}

impl Raw {
    /// True when the token was refused: by the whole call, or by an operation of a transaction,
    /// which then was rolled back.
    fn is_denied(&self) -> bool {
        self.status == 403
            || ((self.status == 409 || self.status >= 500) && is_denied(&self.text()))
    }
}

/// True when a working Consul said it: the endpoint is good, the call was not.
fn is_answer(error: &Error) -> bool {
    match error {
        Error::Status { status, .. } => *status < 500,
        Error::PermissionDenied { .. }
        | Error::InvalidSession { .. }
        | Error::SessionTtl { .. }
        | Error::Invalid { .. } => true,
        _ => false,
    }
}

/// To 10 ms: a text that is the same each time is said once.
fn rounded(time: Duration) -> Duration {
    let tens = (time.as_millis() + 5) / 10;
    Duration::from_millis(u64::try_from(tens).unwrap_or(u64::MAX).saturating_mul(10))
}
