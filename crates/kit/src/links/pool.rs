//! The other processes as callers meet them: which address to try next, which to leave alone, and how often to try again.
//!
//! Each (service, address) has a breaker of its own: a service that hangs does not cut off its neighbours in the same process. What
//! counts as a failure is that no answer came. A peer that answers, even "too busy", is there and decides itself what it takes; were
//! its 503 counted, shedding a fifth of the load would turn into refusing all of it.

use super::peers::{Address, Peers};
use crate::{
    breaker::{Breaker, BreakerSettings, Open, Permit},
    http::client::{Client, ClientError},
    ports::{Clock, random_bytes},
};
use http::StatusCode;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The first pause before a repeat at the same address; the next ones double.
const PAUSE: Duration = Duration::from_millis(50);

/// All peers of a process, with their connections and breakers. Cheap to clone; links and gateway share one.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    client: Client,
    services: BTreeMap<String, Place>,
}

/// Where one service runs.
struct Place {
    targets: Vec<Target>,
    next: AtomicUsize,
    budget: Budget,
}

/// One address of one service.
pub(crate) struct Target {
    pub address: Address,
    breaker: Breaker,
}

impl Pool {
    pub fn new(peers: &Peers, client: Client, breakers: BreakerSettings, clock: &Arc<dyn Clock>) -> Pool {
        let place = |service: &str| {
            let target = |address: &Address| {
                let breaker = Breaker::new(format!("{service}@{}", address.authority()), breakers, Arc::clone(clock));
                Target { address: address.clone(), breaker }
            };
            let targets = peers.addresses(service).iter().map(target).collect();
            Place { targets, next: AtomicUsize::new(0), budget: Budget::default() }
        };
        let services = peers.services().map(|service| (service.to_owned(), place(service))).collect();
        Pool(Arc::new(Inner { client, services }))
    }

    /// True when this service has an address.
    pub fn knows(&self, service: &str) -> bool {
        self.0.services.contains_key(service)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// The tries of one request. `None` when the service has no address.
    pub(crate) fn round(&self, service: &str) -> Option<Round<'_>> {
        let place = self.0.services.get(service)?;
        place.budget.earn();
        let start = place.next.fetch_add(1, Ordering::Relaxed);
        Some(Round { place, start, tried: vec![false; place.targets.len()], tries: 0 })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.services.keys()).finish()
    }
}

/// The tries of one request: each at another address as long as there is one.
pub(crate) struct Round<'a> {
    place: &'a Place,
    start: usize,
    tried: Vec<bool>,
    tries: u32,
}

impl<'a> Round<'a> {
    /// The next address, with its breaker's leave. Requests start at different ones, in turn.
    pub fn next(&mut self) -> Result<(&'a Target, Permit), Open> {
        let count = self.tried.len();
        let mut shut = Open { retry_in: Duration::MAX };
        for again in [false, true] {
            for offset in 0..count {
                let at = (self.start + offset) % count;
                if self.tried[at] != again {
                    continue;
                }
                let target = &self.place.targets[at];
                match target.breaker.acquire() {
                    Ok(permit) => {
                        // The one after it comes first, should all be tried again.
                        self.start = at + 1;
                        self.tried[at] = true;
                        self.tries += 1;
                        return Ok((target, permit));
                    }
                    Err(open) => shut.retry_in = shut.retry_in.min(open.retry_in),
                }
            }
        }
        Err(shut)
    }

    /// True when the next try can go where none went yet.
    pub fn has_untried(&self) -> bool {
        self.tried.iter().any(|tried| !tried)
    }

    /// Whether the whole of all requests may be burdened with one more try of this one.
    pub fn may_repeat(&self) -> bool {
        self.place.budget.spend()
    }

    /// How long to wait before the next try: not at all where an address was not tried yet, else a random part of a growing pause.
    pub fn pause(&self) -> Duration {
        if self.has_untried() {
            return Duration::ZERO;
        }
        let most = PAUSE * (1 << self.tries.saturating_sub(1).min(4));
        most.mul_f64(f64::from(u16::from_be_bytes(random_bytes())) / f64::from(u16::MAX))
    }
}

/// Tells a permit what an answer says about its peer. 502 and 504 come from something in between: nobody answered behind it.
pub(crate) fn tell<B>(permit: Permit, result: &Result<http::Response<B>, ClientError>) {
    match result {
        Ok(response) if matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) => permit.failed(),
        Ok(_) | Err(ClientError::TooLarge(_)) => permit.succeeded(),
        Err(_) => permit.failed(),
    }
}

/// Keeps repeats from multiplying the load on a service that is failing already: at most a fifth more, beyond a first hundred.
struct Budget(AtomicU32);

const REPEAT_COSTS: u32 = 5;
const MAX_SAVED: u32 = 100 * REPEAT_COSTS;

impl Default for Budget {
    fn default() -> Self {
        Budget(AtomicU32::new(MAX_SAVED))
    }
}

impl Budget {
    /// Every request earns a part of a repeat.
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
    use crate::{http::client::ClientSettings, ports::ManualClock};
    use contracts::Timestamp;

    fn pool(peers: &str) -> Pool {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(1_795_132_800_000_000)));
        Pool::new(&peers.parse().expect("peers"), Client::new(ClientSettings::default()), BreakerSettings::default(), &clock)
    }

    fn visit(round: &mut Round<'_>) -> String {
        let (target, permit) = round.next().expect("somebody is there");
        permit.succeeded();
        target.address.authority().to_owned()
    }

    #[tokio::test]
    async fn a_round_goes_to_every_address_before_it_comes_back() {
        let pool = pool("orders=http://a:1|http://b:1|http://c:1");
        for expected in [["a:1", "b:1", "c:1", "a:1"], ["b:1", "c:1", "a:1", "b:1"]] {
            let mut round = pool.round("orders").expect("it has addresses");
            assert_eq!([0; 4].map(|_| visit(&mut round)), expected);
        }
        assert!(pool.round("stock").is_none());
        assert!(pool.knows("orders") && !pool.knows("stock"));
    }

    #[tokio::test]
    async fn addresses_behind_an_open_breaker_are_passed_over() {
        let pool = pool("orders=http://a:1|http://b:1");
        for _ in 0..5 {
            let mut round = pool.round("orders").expect("it has addresses");
            for _ in 0..2 {
                let (target, permit) = round.next().expect("somebody is there");
                if target.address.authority() == "a:1" { permit.failed() } else { permit.succeeded() }
            }
        }
        for _ in 0..4 {
            assert_eq!(visit(&mut pool.round("orders").expect("it has addresses")), "b:1");
        }
    }

    #[tokio::test]
    async fn pauses_grow_and_come_only_between_visits_of_one_address() {
        let pool = pool("orders=http://a:1|http://b:1");
        let mut round = pool.round("orders").expect("it has addresses");
        visit(&mut round);
        assert_eq!(round.pause(), Duration::ZERO);
        visit(&mut round);
        assert!((0..100).all(|_| round.pause() <= PAUSE * 2));
        assert!((0..100).any(|_| round.pause() > Duration::ZERO));
    }

    #[test]
    fn repeats_are_a_fifth_at_most_in_the_long_run() {
        let budget = Budget::default();
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
