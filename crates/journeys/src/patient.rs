//! A client that does not give up: where one process breaks off or says that it cannot, it asks the next one, under the same key.

use crate::client::{Client, PATIENCE, Request, Response};
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
pub struct Doors(Arc<Inner>);

struct Inner {
    addresses: RwLock<Vec<SocketAddr>>,
    /// Clients begin at different doors.
    next: AtomicUsize,
    met: Met,
}

/// What clients met with before they had their answers.
#[derive(Default)]
pub struct Met {
    /// Requests that were made again because the connection broke, or nobody answered in time.
    pub broken: AtomicU64,
    /// Answers that began and broke off.
    pub torn: AtomicU64,
    /// Answers that it is not possible now.
    pub unavailable: AtomicU64,
    /// Answers in the end.
    pub answers: AtomicU64,
}

impl Doors {
    pub fn new(addresses: Vec<SocketAddr>) -> Doors {
        Doors(Arc::new(Inner { addresses: RwLock::new(addresses), next: AtomicUsize::new(0), met: Met::default() }))
    }

    /// The mall has moved.
    pub fn are_now(&self, addresses: Vec<SocketAddr>) {
        *self.0.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub fn met(&self) -> &Met {
        &self.0.met
    }

    pub fn answers(&self) -> u64 {
        self.met().answers.load(Ordering::SeqCst)
    }

    pub fn client(&self) -> Patient {
        let at = self.0.next.fetch_add(1, Ordering::SeqCst);
        Patient { doors: self.clone(), at, answer_time: PATIENCE, client: None }
    }

    fn address(&self, at: usize) -> SocketAddr {
        let addresses = self.0.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses[at % addresses.len()]
    }
}

/// One of those clients.
pub struct Patient {
    doors: Doors,
    at: usize,
    answer_time: Duration,
    client: Option<(SocketAddr, Client)>,
}

impl Patient {
    /// One that waits no longer than this for an answer before it asks elsewhere.
    #[must_use]
    pub fn within(self, answer_time: Duration) -> Patient {
        Patient { answer_time, ..self }
    }

    /// Asks until there is an answer.
    ///
    /// # Panics
    /// When there is none for a minute, or one that no client should ever see: a failure other than 503, or a 503 that does not say when to
    /// come back.
    pub fn ask(&mut self, request: &Request) -> Response {
        let time = Stopwatch::start();
        loop {
            let last = match self.try_once(request) {
                Ok(answer) => return answer,
                Err(why) => why,
            };
            assert!(time.elapsed() < 2 * PATIENCE, "no answer to {request:?}; the last try: {last}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks once. The error says why there is no answer yet.
    fn try_once(&mut self, request: &Request) -> Result<Response, String> {
        let address = self.doors.address(self.at);
        let client = match &mut self.client {
            Some((of, client)) if *of == address => client,
            other => &mut other.insert((address, Client::of(address).within(self.answer_time))).1,
        };
        let met = self.doors.met();
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
        let why = match client.send(request) {
            // The first request is still under way, maybe in another process.
            Ok(answer) if answer.problem() == "idempotency-in-progress" => return Err("the first one is under way".into()),
            Ok(answer) if answer.status == 503 => {
                assert!(answer.headers.contains_key("retry-after"), "when to come back is not said: {answer:?}");
                count(&met.unavailable);
                format!("503 {}", answer.problem())
            }
            Ok(answer) => {
                assert!(answer.status < 500, "{request:?}: {} {}", answer.status, String::from_utf8_lossy(&answer.bytes));
                count(&met.answers);
                return Ok(answer);
            }
            Err(error) => {
                count(&met.broken);
                if error.kind() == ErrorKind::InvalidData {
                    count(&met.torn);
                }
                error.to_string()
            }
        };
        self.client = None;
        self.at += 1;
        Err(why)
    }
}
