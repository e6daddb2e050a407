//! Turns of heavy reads, whose cost grows with the data: searches, filtered lists. Few run at a time, and each is followed by a rest. So
//! they leave processors, threads and connections to commands and point reads.

use super::{DbError, READER_TIMEOUT};
use parking_lot::Mutex;
use runtime::ports::Stopwatch;
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// Heavy reads of one database at a time. With two, a slow one does not stop the others.
pub const HEAVY_READERS: usize = 2;
/// Longest heavy statement. Each looks at a bounded number of rows, so only an overloaded machine needs more.
pub const STATEMENT_LIMIT: Duration = Duration::from_secs(2);
/// Longest rest, so that one slow read does not close its lane.
const MAX_REST: Duration = Duration::from_secs(1);

/// The turns of one database. Clones share them.
#[derive(Clone, Debug)]
pub struct HeavyTurns {
    permits: Arc<Semaphore>,
    rests: Arc<Mutex<Vec<Rest>>>,
    rest_factor: u32,
}

/// Time after a read in which its turn is not taken again.
#[derive(Debug)]
struct Rest {
    since: Stopwatch,
    length: Duration,
}

impl Rest {
    fn time_left(&self) -> Duration {
        self.length.saturating_sub(self.since.elapsed())
    }
}

impl HeavyTurns {
    /// `rest_factor`: length of a rest, in lengths of the read before it.
    pub fn new(count: usize, rest_factor: u32) -> Self {
        Self { permits: Arc::new(Semaphore::new(count)), rests: Arc::default(), rest_factor }
    }

    /// Waits for a turn. [`DbError::Busy`]: none came within two seconds, or the caller runs outside of a runtime.
    pub async fn take(&self) -> Result<HeavyTurn, DbError> {
        // Waiting needs the timers of a runtime.
        Handle::try_current().map_err(|_| DbError::Busy)?;
        timeout(READER_TIMEOUT, self.wait()).await.unwrap_or(Err(DbError::Busy))
    }

    async fn wait(&self) -> Result<HeavyTurn, DbError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| DbError::Busy)?;
        let mut turn = HeavyTurn { turns: self.clone(), rest: self.shortest_rest(), work: None, _permit: permit };
        let rest = turn.rest.as_ref().map_or(Duration::ZERO, Rest::time_left);
        if !rest.is_zero() {
            sleep(rest).await;
        }
        turn.work = Some(Stopwatch::start());
        Ok(turn)
    }

    fn shortest_rest(&self) -> Option<Rest> {
        let mut rests = self.rests.lock();
        let shortest = (0..rests.len()).min_by_key(|index| rests[*index].time_left())?;
        Some(rests.swap_remove(shortest))
    }
}

/// The right to one heavy read. Dropping it begins the rest.
#[derive(Debug)]
pub struct HeavyTurn {
    turns: HeavyTurns,
    /// The rest before this turn.
    rest: Option<Rest>,
    /// `None`: the caller gave up during the rest.
    work: Option<Stopwatch>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for HeavyTurn {
    fn drop(&mut self) {
        let after = |work: Stopwatch| {
            let length = work.elapsed().saturating_mul(self.turns.rest_factor).min(MAX_REST);
            Rest { since: Stopwatch::start(), length }
        };
        let rest = self.work.map(after).or(self.rest.take()).filter(|rest| !rest.time_left().is_zero());
        self.turns.rests.lock().extend(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // H1
    #[tokio::test]
    async fn a_turn_rests_in_proportion_to_its_work() {
        let turns = HeavyTurns::new(1, 3);
        let first = turns.take().await.expect("it is free");
        sleep(Duration::from_millis(40)).await;
        drop(first);
        // A caller that gives up during the rest does not shorten it.
        assert!(timeout(Duration::from_millis(5), turns.take()).await.is_err());
        let waited = Stopwatch::start();
        drop(turns.take().await.expect("the rest is over within the timeout"));
        assert!(waited.elapsed() >= Duration::from_millis(90), "{:?}", waited.elapsed());
    }

    // H1
    #[tokio::test]
    async fn a_caller_without_a_turn_is_refused_in_time() {
        let turns = HeavyTurns::new(2, 0);
        let held = (turns.take().await.expect("one"), turns.take().await.expect("two"));
        assert!(matches!(turns.take().await, Err(DbError::Busy)));
        drop(held);
        assert!(turns.take().await.is_ok());
        // A thread of the engine has no runtime.
        let outside = std::thread::spawn(move || futures::executor::block_on(turns.take()).map(drop));
        assert!(matches!(outside.join().expect("no panic"), Err(DbError::Busy)));
    }
}
