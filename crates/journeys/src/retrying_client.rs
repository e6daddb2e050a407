//! A client that retries: after a lost connection or a 503 it sends the same request, with the same key, to the next process.

use crate::client::{BlockingClient, BlockingRequest, BlockingResponse, TIME_LIMIT};
use kit::ports::Stopwatch;
use parking_lot::RwLock;
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Addresses of a mall's processes, and counters of all its clients.
#[derive(Clone)]
pub struct Addresses(Arc<ClientPool>);

struct ClientPool {
    addresses: RwLock<Vec<SocketAddr>>,
    /// Start index of the next client, so that clients begin at different processes.
    next: AtomicUsize,
    counts: RetryCounts,
}

/// Attempts and answers of all clients.
#[derive(Default)]
pub struct RetryCounts {
    /// Attempts without an answer: lost connection or timeout.
    pub connection_errors: AtomicU64,
    /// Answers that began and broke off. Also counted in `connection_errors`.
    pub truncated: AtomicU64,
    /// Answers with status 503.
    pub unavailable: AtomicU64,
    /// Final answers.
    pub answers: AtomicU64,
}

impl Addresses {
    pub fn new(addresses: Vec<SocketAddr>) -> Addresses {
        Addresses(Arc::new(ClientPool { addresses: RwLock::new(addresses), next: AtomicUsize::new(0), counts: RetryCounts::default() }))
    }

    /// Sets new addresses, after the mall has moved.
    pub fn replace(&self, addresses: Vec<SocketAddr>) {
        *self.0.addresses.write() = addresses;
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
        let addresses = self.0.addresses.read();
        addresses[at % addresses.len()]
    }
}

/// A client that retries at the next address.
pub struct RetryingClient {
    addresses: Addresses,
    at: usize,
    answer_timeout: Duration,
    client: Option<(SocketAddr, BlockingClient)>,
}

impl RetryingClient {
    /// Sets the time limit for an answer before the next address is tried.
    #[must_use]
    pub fn within(self, answer_timeout: Duration) -> RetryingClient {
        RetryingClient { answer_timeout, ..self }
    }

    /// Repeats the request until it is answered.
    ///
    /// # Panics
    /// After a minute without an answer. On a status of 500 or above other than 503, and on a 503 without `Retry-After`.
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

    /// Sends once. `Err`: the reason for the missing answer.
    fn try_once(&mut self, request: &BlockingRequest) -> Result<BlockingResponse, String> {
        let address = self.addresses.address(self.at);
        let client = match &mut self.client {
            Some((of, client)) if *of == address => client,
            other => &mut other.insert((address, BlockingClient::of(address).within(self.answer_timeout))).1,
        };
        let counts = self.addresses.counts();
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
        let why = match client.send(request) {
            // The first request is still running, possibly in another process.
            Ok(answer) if answer.problem() == "idempotency-in-progress" => return Err("the first request is still running".into()),
            Ok(answer) if answer.status == 503 => {
                assert!(answer.headers.contains_key("retry-after"), "Retry-After is missing: {answer:?}");
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
