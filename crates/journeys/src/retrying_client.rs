//! A client that does not give up: where one process breaks off or says that it cannot, it asks the next one, under the same key.

use crate::client::{BlockingClient, BlockingRequest, BlockingResponse, TIME_LIMIT};
use kit::ports::Stopwatch;
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// Where a mall can be entered, and what those who tried met with.
#[derive(Clone)]
pub struct Addresses(Arc<ClientPool>);

struct ClientPool {
    addresses: RwLock<Vec<SocketAddr>>,
    /// Clients begin at different addresses.
    next: AtomicUsize,
    counts: RetryCounts,
}

/// What clients met with before they had their answers.
#[derive(Default)]
pub struct RetryCounts {
    /// Requests that were made again because the connection broke, or nobody answered in time.
    pub connection_errors: AtomicU64,
    /// Answers that began and broke off.
    pub truncated: AtomicU64,
    /// Answers that it is not possible now.
    pub unavailable: AtomicU64,
    /// Answers in the end.
    pub answers: AtomicU64,
}

impl Addresses {
    pub fn new(addresses: Vec<SocketAddr>) -> Addresses {
        Addresses(Arc::new(ClientPool { addresses: RwLock::new(addresses), next: AtomicUsize::new(0), counts: RetryCounts::default() }))
    }

    /// The mall has moved.
    pub fn replace(&self, addresses: Vec<SocketAddr>) {
        *self.0.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub fn counts(&self) -> &RetryCounts {
        &self.0.counts
    }

    pub fn answers(&self) -> u64 {
        self.counts().answers.load(Ordering::SeqCst)
    }

    pub fn client(&self) -> RetryingClient {
        let at = self.0.next.fetch_add(1, Ordering::SeqCst);
        RetryingClient { addresses: self.clone(), at, answer_timeout: TIME_LIMIT, client: None }
    }

    fn address(&self, at: usize) -> SocketAddr {
        let addresses = self.0.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses[at % addresses.len()]
    }
}

/// One of those clients.
pub struct RetryingClient {
    addresses: Addresses,
    at: usize,
    answer_timeout: Duration,
    client: Option<(SocketAddr, BlockingClient)>,
}

impl RetryingClient {
    /// One that waits no longer than this for an answer before it asks elsewhere.
    #[must_use]
    pub fn within(self, answer_timeout: Duration) -> RetryingClient {
        RetryingClient { answer_timeout, ..self }
    }

    /// Asks until there is an answer.
    ///
    /// # Panics
    /// When there is none for a minute, or one that no client should ever see: a failure other than 503, or a 503 that does not say when to
    /// come back.
    pub fn send(&mut self, request: &BlockingRequest) -> BlockingResponse {
        let time = Stopwatch::start();
        loop {
            let last = match self.try_once(request) {
                Ok(answer) => return answer,
                Err(why) => why,
            };
            assert!(time.elapsed() < 2 * TIME_LIMIT, "no answer to {request:?}; the last try: {last}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks once. The error says why there is no answer yet.
    fn try_once(&mut self, request: &BlockingRequest) -> Result<BlockingResponse, String> {
        let address = self.addresses.address(self.at);
        let client = match &mut self.client {
            Some((of, client)) if *of == address => client,
            other => &mut other.insert((address, BlockingClient::of(address).within(self.answer_timeout))).1,
        };
        let counts = self.addresses.counts();
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
        let why = match client.send(request) {
            // The first request is still under way, maybe in another process.
            Ok(answer) if answer.problem() == "idempotency-in-progress" => return Err("the first one is under way".into()),
            Ok(answer) if answer.status == 503 => {
                assert!(answer.headers.contains_key("retry-after"), "when to come back is not said: {answer:?}");
                count(&counts.unavailable);
                format!("503 {}", answer.problem())
            }
            Ok(answer) => {
                assert!(answer.status < 500, "{request:?}: {} {}", answer.status, String::from_utf8_lossy(&answer.bytes));
                count(&counts.answers);
                return Ok(answer);
            }
            Err(error) => {
                count(&counts.connection_errors);
                if error.kind() == ErrorKind::InvalidData {
                    count(&counts.truncated);
                }
                error.to_string()
            }
        };
        self.client = None;
        self.at += 1;
        Err(why)
    }
}
