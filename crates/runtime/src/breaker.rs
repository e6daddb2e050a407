//! Circuit breakers: stop calls to a dependency that does not answer, and try it again from time to time.
//!
//! A breaker counts outcomes and permits or refuses calls. It never makes a call by itself, never waits and never retries. Its user
//! decides which outcomes are failures and what to do instead of the call. It uses the process's clock, so that a test can move the time.

use crate::ports::Clock;
use contracts::Timestamp;
use metrics::{Counter, Gauge};
use parking_lot::{Mutex, MutexGuard};
use std::{collections::VecDeque, fmt, future::Future, sync::Arc, time::Duration};

/// Rules for opening and closing a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Number of last outcomes that count.
    pub window: usize,
    /// Minimum number of outcomes for a decision.
    pub min_calls: usize,
    /// Share of failures that opens the breaker, in percent.
    pub failure_percent: usize,
    /// Time the breaker refuses all calls before it permits a trial.
    pub open_for: Duration,
    /// Maximum number of concurrent trials when half open. As many trials must succeed in a row to close the breaker.
    pub trials: u32,
}

impl Default for BreakerSettings {
    /// Opens at two failures in ten. Five seconds are enough for a restart, and short enough that no operator has to close the breaker.
    fn default() -> Self {
        Self { window: 10, min_calls: 5, failure_percent: 20, open_for: Duration::from_secs(5), trials: 2 }
    }
}

/// The breaker's treatment of the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Permits all calls.
    Closed,
    /// Permits a few trial calls.
    HalfOpen,
    /// Refuses all calls.
    Open,
}

/// The breaker is open: the call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not tried: it did not answer lately; to be tried again in {} ms", retry_in.as_millis())]
pub struct Open {
    /// Time until the next trial. Zero if other trials are running.
    pub retry_in: Duration,
}

/// The reason why [`Breaker::run`] has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    #[error(transparent)]
    Open(#[from] Open),
    #[error("{0}")]
    Failed(E),
}

/// Guards calls to one dependency, such as a peer or a cache. Cheap to clone. Clones share their state.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: String,
    settings: BreakerSettings,
    clock: Arc<dyn Clock>,
    current: Mutex<CurrentPhase>,
    gauge: Gauge,
    refused: Counter,
}

struct CurrentPhase {
    phase: BreakerPhase,
    /// Counts phase changes. The breaker ignores outcomes of calls that began in an earlier phase.
    generation: u64,
}

enum BreakerPhase {
    Closed {
        /// `true` for a failure, the latest last.
        outcomes: VecDeque<bool>,
    },
    Open {
        since: Timestamp,
    },
    HalfOpen {
        running: u32,
        succeeded: u32,
    },
}

impl Breaker {
    /// A closed breaker. `name` names the dependency in metrics and logs, so there must be few different names.
    pub fn new(name: impl Into<String>, settings: BreakerSettings, clock: Arc<dyn Clock>) -> Breaker {
        let name = name.into();
        let gauge = metrics::gauge!("onrush_breaker_state", "name" => name.clone());
        gauge.set(0.0);
        let refused = metrics::counter!("onrush_breaker_refused_total", "name" => name.clone());
        let current = Mutex::new(CurrentPhase { phase: BreakerPhase::closed(), generation: 0 });
        Breaker(Arc::new(Inner { name, settings, clock, current, gauge, refused }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Asks for a permit for one call. The caller records the outcome on the permit. A permit dropped without an outcome counts as
    /// neither.
    pub fn acquire(&self) -> Result<Permit, Open> {
        let inner = &*self.0;
        let now = inner.clock.now();
        let mut current = inner.lock_current();
        if let BreakerPhase::Open { since } = &mut current.phase {
            // The clock was set back. The breaker must not stay open until the old time comes again.
            *since = (*since).min(now);
            let waited = now.since(*since);
            if waited < inner.settings.open_for {
                inner.refused.increment(1);
                return Err(Open { retry_in: inner.settings.open_for.saturating_sub(waited) });
            }
            inner.change_phase(&mut current, BreakerPhase::HalfOpen { running: 0, succeeded: 0 });
        }
        if let BreakerPhase::HalfOpen { running, .. } = &mut current.phase {
            if *running >= inner.settings.trials.max(1) {
                inner.refused.increment(1);
                return Err(Open { retry_in: Duration::ZERO });
            }
            *running += 1;
        }
        Ok(Permit { inner: Arc::clone(&self.0), generation: current.generation, is_recorded: false })
    }

    /// Makes the call if the breaker permits it, and counts every error as a failure.
    pub async fn run<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, BreakerError<E>> {
        let permit = self.acquire()?;
        match call.await {
            Ok(value) => {
                permit.succeeded();
                Ok(value)
            }
            Err(error) => {
                permit.failed();
                Err(BreakerError::Failed(error))
            }
        }
    }

    /// The state that the next call would meet.
    pub fn state(&self) -> BreakerState {
        let now = self.0.clock.now();
        match self.0.lock_current().phase {
            BreakerPhase::Closed { .. } => BreakerState::Closed,
            BreakerPhase::Open { since } if now >= since && now.since(since) < self.0.settings.open_for => BreakerState::Open,
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.0.name).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl BreakerPhase {
    fn closed() -> BreakerPhase {
        BreakerPhase::Closed { outcomes: VecDeque::new() }
    }
}

impl Inner {
    fn lock_current(&self) -> MutexGuard<'_, CurrentPhase> {
        self.current.lock()
    }

    fn change_phase(&self, current: &mut CurrentPhase, phase: BreakerPhase) {
        let (level, text) = match phase {
            BreakerPhase::Closed { .. } => (0.0, "closed"),
            BreakerPhase::HalfOpen { .. } => (1.0, "half-open"),
            BreakerPhase::Open { .. } => (2.0, "open"),
        };
        current.phase = phase;
        current.generation += 1;
        self.gauge.set(level);
        tracing::info!(breaker = %self.name, state = text, "breaker state changed");
    }

    fn record(&self, generation: u64, outcome: Option<bool>) {
        let now = self.clock.now();
        let mut current = self.lock_current();
        if current.generation != generation {
            return;
        }
        let settings = &self.settings;
        let next = match (&mut current.phase, outcome) {
            (BreakerPhase::Closed { outcomes }, Some(failed)) => {
                outcomes.push_back(failed);
                if outcomes.len() > settings.window.max(1) {
                    outcomes.pop_front();
                }
                let failures = outcomes.iter().filter(|failed| **failed).count();
                let enough = outcomes.len() >= settings.min_calls.clamp(1, settings.window.max(1));
                // A success never opens the breaker: the failures before it did not suffice when they came.
                (failed && enough && failures * 100 >= settings.failure_percent * outcomes.len())
                    .then_some(BreakerPhase::Open { since: now })
            }
            (BreakerPhase::HalfOpen { .. }, Some(true)) => Some(BreakerPhase::Open { since: now }),
            (BreakerPhase::HalfOpen { running, succeeded }, outcome) => {
                *running = running.saturating_sub(1);
                *succeeded += u32::from(outcome.is_some());
                (*succeeded >= settings.trials.max(1)).then(BreakerPhase::closed)
            }
            _ => None,
        };
        if let Some(next) = next {
            self.change_phase(&mut current, next);
        }
    }
}

/// Permission to make one call.
#[must_use = "the breaker learns from the outcome"]
pub struct Permit {
    inner: Arc<Inner>,
    generation: u64,
    is_recorded: bool,
}

impl Permit {
    /// Records that the dependency answered.
    pub fn succeeded(mut self) {
        self.record(Some(false));
    }

    /// Records that the dependency did not answer.
    pub fn failed(mut self) {
        self.record(Some(true));
    }

    fn record(&mut self, outcome: Option<bool>) {
        if !std::mem::replace(&mut self.is_recorded, true) {
            self.inner.record(self.generation, outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.record(None);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("breaker", &self.inner.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
