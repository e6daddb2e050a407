//! What commits of this process change, on its way to Redis.

use super::{Doors, HandedPlace, Place, call, scripts, write_doors};
use contracts::{CouponId, MemberId};
use kit::redis::{Redis, RedisError};
use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::sync::Notify;

/// News that may wait for Redis; with more, the gates they are about are emptied instead.
const MAX_WAITING: usize = 20_000;
/// Between two tries to empty what could not be told.
const RETRY: Duration = Duration::from_millis(200);

/// What one commit made of one coupon.
#[derive(Debug)]
pub struct News {
    pub coupon_id: CouponId,
    pub doors: Doors,
    /// By member: how many more, or fewer, coupons count against his share.
    pub shares: Vec<(MemberId, i64)>,
    /// The places of the claims it has settled, granted or not.
    pub settled: Vec<Arc<Place>>,
}

enum Item {
    News(News),
    /// Nothing changed, but these claims were refused on it.
    Refused(News),
    GiveBack(HandedPlace),
}

impl Item {
    fn coupon_id(&self) -> CouponId {
        match self {
            Item::News(news) | Item::Refused(news) => news.coupon_id,
            Item::GiveBack(place) => place.coupon_id,
        }
    }
}

/// Where news are handed in. One task takes them to Redis in their order.
pub(super) struct Desk {
    waiting: Mutex<Waiting>,
    wake: Arc<Notify>,
    moved: Notify,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// How many were ever handed in.
    handed: u64,
    /// One was taken out and is being told.
    telling: bool,
    /// Gates of which some news could not be told: to be emptied, and not to be asked before.
    doubtful: HashSet<CouponId>,
}

impl Desk {
    pub fn start(redis: Redis) -> Arc<Desk> {
        let wake = Arc::new(Notify::new());
        let desk = Arc::new(Desk { waiting: Mutex::default(), wake: Arc::clone(&wake), moved: Notify::new() });
        kit::tasks::spawn("coupons.gate.news", run(Arc::downgrade(&desk), redis, wake));
        desk
    }

    pub fn hand_in(&self, news: impl IntoIterator<Item = News>) {
        self.take_in(news, Item::News);
    }

    pub fn hand_in_refused(&self, news: impl IntoIterator<Item = News>) {
        self.take_in(news, Item::Refused);
    }

    fn take_in(&self, news: impl IntoIterator<Item = News>, kind: fn(News) -> Item) {
        let mut waiting = self.waiting();
        for news in news {
            // In this order: the news end these places, nobody need give them back.
            for place in &news.settled {
                place.released.store(true, Ordering::Release);
            }
            waiting.add(kind(news));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// What is known of these gates may be wrong: they are emptied as soon as Redis can be told, and not asked before.
    pub fn doubt(&self, coupons: impl IntoIterator<Item = CouponId>) {
        let mut waiting = self.waiting();
        for coupon_id in coupons {
            // Whoever guesses ids while Redis is away must not fill the memory.
            if waiting.doubtful.len() < MAX_WAITING {
                waiting.doubt(coupon_id);
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Returns when all that was handed in so far is told, or given up.
    pub async fn told(&self) {
        let all = self.waiting().handed;
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Before looking, so that a move between the two is not lost.
            moved.as_mut().enable();
            if self.waiting().done() >= all {
                return;
            }
            moved.await;
        }
    }

    pub fn is_doubtful(&self, coupon_id: CouponId) -> bool {
        let waiting = self.waiting();
        !waiting.doubtful.is_empty() && waiting.doubtful.contains(&coupon_id)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what waits and empties what is in doubt; an error if Redis must be tried again.
    async fn work(&self, redis: &Redis) -> Result<(), RedisError> {
        loop {
            let doubtful = self.waiting().doubtful.iter().next().copied();
            if let Some(coupon_id) = doubtful {
                redis.run::<i64>(call(redis, &scripts::CLEAR, coupon_id).arg("")).await?;
                self.waiting().doubtful.remove(&coupon_id);
                continue;
            }
            let Some(item) = self.waiting().next() else { return Ok(()) };
            let told = tell(redis, &item).await;
            let mut waiting = self.waiting();
            waiting.telling = false;
            if let Err(error) = told {
                let coupon_id = item.coupon_id();
                tracing::warn!(%error, coupon.id = %coupon_id, "the gate in Redis was not told, it will be built anew");
                waiting.doubt(coupon_id);
            }
            drop(waiting);
            self.moved.notify_waiters();
        }
    }
}

impl Waiting {
    fn next(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        self.telling = item.is_some();
        item
    }

    /// How many of those handed in need not be waited for.
    fn done(&self) -> u64 {
        self.handed - self.items.len() as u64 - u64::from(self.telling)
    }

    fn add(&mut self, item: Item) {
        // An emptied gate has nothing that this could change, and what the database has is read later.
        if self.doubtful.contains(&item.coupon_id()) {
            return;
        }
        self.items.push_back(item);
        self.handed += 1;
        if self.items.len() > MAX_WAITING {
            let about: HashSet<CouponId> = self.items.drain(..).map(|item| item.coupon_id()).collect();
            self.doubtful.extend(about);
        }
    }

    fn doubt(&mut self, coupon_id: CouponId) {
        self.doubtful.insert(coupon_id);
        self.items.retain(|item| item.coupon_id() != coupon_id);
    }
}

async fn tell(redis: &Redis, item: &Item) -> Result<(), RedisError> {
    match item {
        Item::News(news) => {
            let mut call = call(redis, &scripts::NEWS, news.coupon_id);
            write_doors(&mut call, &news.doors);
            call.arg(news.shares.len());
            for (member_id, change) in &news.shares {
                call.arg(member_id.0.as_bytes()).arg(*change);
            }
            for place in &news.settled {
                call.arg(&place.handed.era).arg(place.handed.name());
            }
            redis.run::<i64>(&call).await.map(drop)
        }
        Item::Refused(news) => {
            let mut call = call(redis, &scripts::REFUSED, news.coupon_id);
            write_doors(&mut call, &news.doors);
            for place in &news.settled {
                call.arg(&place.handed.era).arg(place.handed.name());
            }
            redis.run::<i64>(&call).await.map(drop)
        }
        Item::GiveBack(place) => {
            let mut call = call(redis, &scripts::GIVE_BACK, place.coupon_id);
            redis.run::<i64>(call.arg(&place.era).arg(place.name())).await.map(drop)
        }
    }
}

/// Runs as long as the gate is used.
async fn run(desk: Weak<Desk>, redis: Redis, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        loop {
            let Some(desk) = desk.upgrade() else { return };
            let done = desk.work(&redis).await;
            drop(desk);
            if done.is_ok() {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.released.load(Ordering::Acquire) {
            return;
        }
        self.desk.waiting().add(Item::GiveBack(self.handed.clone()));
        self.desk.wake.notify_one();
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting();
        f.debug_struct("Desk").field("items", &waiting.items.len()).field("doubtful", &waiting.doubtful.len()).finish_non_exhaustive()
    }
}
