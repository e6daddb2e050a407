//! Pool of peers: selects the address of the next try, applies breakers, and limits retries.
//!
//! Each (service, address) has a breaker of its own, so that a hanging service does not cut off other services of the same process.
//! A breaker counts only missing responses as failures. A peer that answers, even 503, is alive and sheds load itself. If 503 counted,
//! a peer that sheds a fifth of its load would lose all of it.

use super::peers::{Address, Peers};
use http::StatusCode;
use runtime::{
    backoff::Backoff,
    breaker::{Breaker, BreakerSettings, Open, Permit},
    ports::Clock,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};
use web::client::{Client, ClientError};

/// Pauses before retries at the same address.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(800));

/// All peers of a process, with their connections and breakers. Cheap to clone; links and the gateway share one pool.
#[derive(Clone)]
pub struct Pool(Arc<PoolInner>);

struct PoolInner {
    client: Client,
    services: BTreeMap<String, ServiceTargets>,
}

/// Addresses of one service.
struct ServiceTargets {
    targets: Vec<PeerTarget>,
    next: AtomicUsize,
    budget: RetryBudget,
}

/// One address of one service.
pub(crate) struct PeerTarget {
    pub address: Address,
    breaker: Breaker,
}

impl Pool {
    pub fn new(peers: &Peers, client: Client, breakers: BreakerSettings, clock: &Arc<dyn Clock>) -> Pool {
        let service_targets = |service: &str| {
            let target = |address: &Address| {
                let breaker = Breaker::new(format!("{service}@{}", address.authority()), breakers, Arc::clone(clock));
                PeerTarget { address: address.clone(), breaker }
            };
            let targets = peers.addresses(service).iter().map(target).collect();
            ServiceTargets { targets, next: AtomicUsize::new(0), budget: RetryBudget::default() }
        };
        let services = peers.services().map(|service| (service.to_owned(), service_targets(service))).collect();
        Pool(Arc::new(PoolInner { client, services }))
    }

    /// True when this service has at least one address.
    pub fn has_service(&self, service: &str) -> bool {
        self.0.services.contains_key(service)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Starts the tries of one request. `None`: the service has no address.
    pub(crate) fn attempts(&self, service: &str) -> Option<PeerAttempts<'_>> {
        let service_targets = self.0.services.get(service)?;
        service_targets.budget.earn();
        let start = service_targets.next.fetch_add(1, Ordering::Relaxed);
        Some(PeerAttempts { service_targets, start, tried: vec![false; service_targets.targets.len()], tries: 0 })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.services.keys()).finish()
    }
}

/// The tries of one request. Each goes to an untried address while one is left.
pub(crate) struct PeerAttempts<'a> {
    service_targets: &'a ServiceTargets,
    start: usize,
    tried: Vec<bool>,
    tries: u32,
}

impl<'a> PeerAttempts<'a> {
    /// Next address, with a permit of its breaker. Requests start at different addresses, in turn. `Err`: all breakers are open.
    pub fn next(&mut self) -> Result<(&'a PeerTarget, Permit), Open> {
        let count = self.tried.len();
        let mut all_open = Open { retry_in: Duration::MAX };
        for again in [false, true] {
            for offset in 0..count {
                let at = (self.start + offset) % count;
                if self.tried[at] != again {
                    continue;
                }
                let target = &self.service_targets.targets[at];
                match target.breaker.acquire() {
                    Ok(permit) => {
                        // After all addresses were tried, the next round begins behind this one.
                        self.start = at + 1;
                        self.tried[at] = true;
                        self.tries += 1;
                        return Ok((target, permit));
                    }
                    Err(open) => all_open.retry_in = all_open.retry_in.min(open.retry_in),
                }
            }
        }
        Err(all_open)
    }

    /// True when an address is still untried.
    pub fn has_untried(&self) -> bool {
        self.tried.iter().any(|tried| !tried)
    }

    /// Takes one retry from the budget that all requests to the service share. False: the budget is exhausted.
    pub fn try_spend_retry(&self) -> bool {
        self.service_targets.budget.spend()
    }

    /// Pause before the next try. Zero while an address is untried, else a random part of a growing maximum.
    pub fn pause(&self) -> Duration {
        if self.has_untried() {
            return Duration::ZERO;
        }
        RETRY_BACKOFF.full_jitter(self.tries.saturating_sub(1))
    }
}

/// Reports a result to the breaker. 502 and 504 count as failures, because an intermediary got no response from the peer.
pub(crate) fn record_outcome<B>(permit: Permit, result: &Result<http::Response<B>, ClientError>) {
    match result {
        Ok(response) if matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) => permit.failed(),
        Ok(_) | Err(ClientError::TooLarge(_)) => permit.succeeded(),
        Err(_) => permit.failed(),
    }
}

/// Retry budget of a service, so that retries do not multiply the load of a failing one.
///
/// After the first hundred retries it allows at most one retry for five requests.
struct RetryBudget(AtomicU32);

const REPEAT_COSTS: u32 = 5;
const MAX_SAVED: u32 = 100 * REPEAT_COSTS;

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget(AtomicU32::new(MAX_SAVED))
    }
}

impl RetryBudget {
    /// Adds a fifth of a retry for each request.
    fn earn(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| (saved < MAX_SAVED).then_some(saved + 1));
    }

    fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(REPEAT_COSTS)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Timestamp;
    use runtime::ports::ManualClock;
    use web::client::ClientSettings;

    fn pool(peers: &str) -> Pool {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(1_795_132_800_000_000)));
        Pool::new(&peers.parse().expect("peers"), Client::new(ClientSettings::default()), BreakerSettings::default(), &clock)
    }

    fn try_next(attempts: &mut PeerAttempts<'_>) -> String {
        let (target, permit) = attempts.next().expect("the breaker is closed");
        permit.succeeded();
        target.address.authority().to_owned()
    }

    #[tokio::test]
    async fn all_addresses_are_tried_before_one_is_repeated() {
        let pool = pool("orders=http://a:1|http://b:1|http://c:1");
        for expected in [["a:1", "b:1", "c:1", "a:1"], ["b:1", "c:1", "a:1", "b:1"]] {
            let mut attempts = pool.attempts("orders").expect("it has addresses");
            assert_eq!([0; 4].map(|_| try_next(&mut attempts)), expected);
        }
        assert!(pool.attempts("stock").is_none());
        assert!(pool.has_service("orders") && !pool.has_service("stock"));
    }

    #[tokio::test]
    async fn an_address_with_an_open_breaker_is_skipped() {
        let pool = pool("orders=http://a:1|http://b:1");
        for _ in 0..5 {
            let mut attempts = pool.attempts("orders").expect("it has addresses");
            for _ in 0..2 {
                let (target, permit) = attempts.next().expect("a breaker is closed");
                if target.address.authority() == "a:1" { permit.failed() } else { permit.succeeded() }
            }
        }
        for _ in 0..4 {
            assert_eq!(try_next(&mut pool.attempts("orders").expect("it has addresses")), "b:1");
        }
    }

    #[tokio::test]
    async fn only_a_retry_at_a_tried_address_pauses() {
        let pool = pool("orders=http://a:1|http://b:1");
        let mut attempts = pool.attempts("orders").expect("it has addresses");
        try_next(&mut attempts);
        assert_eq!(attempts.pause(), Duration::ZERO);
        try_next(&mut attempts);
        assert!((0..100).all(|_| attempts.pause() <= RETRY_BACKOFF.delay(1)));
        assert!((0..100).any(|_| attempts.pause() > Duration::ZERO));
    }

    #[test]
    fn retries_are_at_most_a_fifth_in_the_long_run() {
        let budget = RetryBudget::default();
        assert_eq!((0..1_000).filter(|_| budget.spend()).count(), 100);
        let repeats = (0..1_000)
            .filter(|_| {
                budget.earn();
                budget.spend()
            })
            .count();
        assert_eq!(repeats, 200);
    }
}
