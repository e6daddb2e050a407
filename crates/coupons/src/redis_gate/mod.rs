//! The gate of all processes together, in Redis (C25): lets as many applicants to the database as it has units left, and turns the others
//! away at once. It only refuses early; the database still decides each claim that it lets on. It offers no more units than the database
//! has left (I-C8), also while it is built anew; what a process did that could tell nobody makes it wrong for a second at most.
//!
//! How that holds. Each admitted claim holds a *place*: on offer is the limit, less what was issued, less the places.
//! - A commit that changes a coupon tells the gate ([`SharedGate::learn`]) the row as it left it, with the row's version, the members'
//!   shares that changed and the places it settled, in one step. An older version never overwrites a newer one; shares are changed once
//!   a version, and versions have no holes, so a missing one is noticed. A claim that ends otherwise drops its [`Place`].
//! - When the gate knows nothing (lost, evicted, or a process died with places or news) the first who asks builds it, and nobody is
//!   refused meanwhile: claims go to the database, each already holding a place in the new gate. The builder first waits for a
//!   *barrier*, after which no claim that holds a place in the lost gate may still be settled ([`Place::is_current`], to be checked in
//!   the transaction when the row is locked), and only then reads the database. News of later versions than it reads are kept and
//!   added. A builder that died is replaced after its lease; one that is late finds another's name and changes nothing.
//! - News that cannot be told are not repeated, for they may have arrived: the gate is emptied as soon as Redis answers. Until then this
//!   process does not ask it.
//! - Others may ask it meanwhile, and a process may die with its news, or know of no gate (it runs with another strategy). So what the
//!   gate knows is compared with the row in the database twice a second by one of those who ask ([`GateTimes::believed`]), and takes what
//!   is newer there from the next look on. When nobody could look, nothing is believed: claims go to the database. The members' shares
//!   are not in the row: when news are missed for half of that time, only the database refuses, and if they do not come the gate is built
//!   anew.
//!
//! Processes that settle claims should tell their news to the same Redis; the looks only bound what those make wrong that do not. Gates in
//! process memory ([`crate::gate`]) need none of this.

mod build;
mod look;
mod news;
mod scripts;
#[cfg(test)]
mod tests;

pub use build::{Database, Shares, Snapshot, Truth};
pub use news::News;

use crate::model::Definition;
use contracts::{Code, CouponId, MemberId, Timestamp, messages::ClaimPlace};
use kit::{
    ports::{Stopwatch, new_id},
    redis::{Redis, RedisError, Script, ScriptInvocation},
};
use news::Desk;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long the answer to a change waits for the gate to know of it.
const TOLD: Duration = Duration::from_millis(250);

/// The times of the gate.
#[derive(Clone, Copy, Debug)]
pub struct GateTimes {
    /// A claim that waited longer for its transaction asks the gate again.
    pub current: Duration,
    /// From the loss of a gate to the reading of the database. Above `current` by what a transaction takes from its check to its commit;
    /// and longer than a process may take to try Redis again when others have it back (its breaker's `open_for`), for what it commits
    /// meanwhile it can tell nobody.
    pub barrier: Duration,
    /// The end of places that nobody settles or gives back: the process that held them has died, and the gate is built anew.
    pub place: Duration,
    /// How long a builder may take for a step before another one builds.
    pub lease: Duration,
    /// News come within this time after those that followed them, or the gate is built anew.
    pub hole: Duration,
    /// How long what it knows is believed after it was compared with the database: so long it may be wrong by what a process could tell
    /// nobody. After half of it somebody looks.
    pub believed: Duration,
    /// A gate is built anew when it is so old, whatever it is worth.
    pub kept: Duration,
}

impl Default for GateTimes {
    fn default() -> Self {
        Self {
            current: Duration::from_secs(2),
            barrier: Duration::from_secs(3),
            place: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            hole: Duration::from_secs(5),
            believed: Duration::from_secs(1),
            kept: Duration::from_secs(3600),
        }
    }
}

/// What the gate makes of an applicant.
#[derive(Debug)]
pub enum Verdict {
    /// A unit is kept for his claim as long as he holds the place.
    Admitted(Arc<Place>),
    /// The gate cannot say; the database decides. With a place, if his claim is to be counted meanwhile.
    Ask(Option<Arc<Place>>),
    /// What the database would say.
    Refused(Code),
    /// Every unit left is kept for a claim that is being settled. One may come back: ask again in a moment, or the database.
    Full,
}

/// The part of a coupon that decides who is let in, as a commit left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doors {
    /// Counts the commits that changed it.
    pub version: i64,
    pub limit: Option<i64>,
    pub issued: i64,
    pub opens_at: Timestamp,
    pub closes_at: Timestamp,
    pub per_member: u32,
    /// Somebody waits, or may wait: newcomers get no unit here, but perhaps a ticket.
    pub queue: bool,
    pub gone: bool,
}

impl From<&Definition> for Doors {
    fn from(definition: &Definition) -> Self {
        Doors {
            version: definition.version,
            limit: definition.quantity,
            issued: definition.issued,
            opens_at: definition.terms.issue_from,
            closes_at: definition.closes_at(),
            per_member: definition.terms.per_member,
            queue: definition.waitlist || definition.waiting > 0,
            gone: definition.deleted_at.is_some(),
        }
    }
}

/// A claim on its way to the database. Given back when the last clone is dropped, unless [`News`] have settled it or it was handed over.
#[derive(Debug)]
pub struct Place {
    desk: Arc<Desk>,
    handed: HandedPlace,
    held: Stopwatch,
    /// How old it was when `held` started.
    age: Duration,
    current: Duration,
    /// It is somebody else's to end: the news', or the process's it was handed to.
    released: AtomicBool,
}

impl Place {
    /// False: it was held for so long that the gate may have been lost and built anew without it. The claim must not be settled on it;
    /// it asks the gate again. To be checked when the coupon's row is locked.
    pub fn is_current(&self) -> bool {
        self.age + self.held.elapsed() < self.current
    }

    /// For a claim that is settled by another process: what travels with it. This process does not give the place back any more; the
    /// other one does, from [`SharedGate::take_over`] on. If the claim gets lost between, the place ends by its time.
    pub fn hand_over(&self) -> HandedPlace {
        self.released.store(true, Ordering::Release);
        self.handed.clone()
    }
}

/// A place as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedPlace {
    coupon_id: CouponId,
    member_id: MemberId,
    era: String,
    nth: u32,
    held_at: Timestamp,
}

impl HandedPlace {
    /// As it travels with its claim.
    pub fn to_message(&self) -> ClaimPlace {
        ClaimPlace { era: self.era.clone(), nth: self.nth, held_at: self.held_at }
    }

    pub fn of(coupon_id: CouponId, member_id: MemberId, place: &ClaimPlace) -> HandedPlace {
        let ClaimPlace { era, nth, held_at } = place.clone();
        HandedPlace { coupon_id, member_id, era, nth, held_at }
    }

    /// Its name in the gate.
    fn name(&self) -> Vec<u8> {
        [self.member_id.0.as_bytes(), format!(":{}", self.nth).as_bytes()].concat()
    }
}

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct SharedGate {
    redis: Redis,
    truth: Arc<dyn Truth>,
    times: GateTimes,
    desk: Arc<Desk>,
}

impl SharedGate {
    /// Starts a task that tells the news; must be called within the runtime.
    pub fn new(redis: Redis, truth: Arc<dyn Truth>, times: GateTimes) -> SharedGate {
        let desk = Desk::start(redis.clone());
        SharedGate { redis, truth, times, desk }
    }

    /// Asks for one applicant. `now` is the time the database would decide by. Whatever is wrong with Redis, the answer is "ask".
    pub async fn admit(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp) -> Verdict {
        self.judge(coupon_id, member_id, now, false).await
    }

    /// A place for a claim that goes to the database whatever the gate believes: what it settles must be counted meanwhile like any
    /// other. `None`: the gate cannot be asked.
    pub async fn insist(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp) -> Option<Arc<Place>> {
        match self.judge(coupon_id, member_id, now, true).await {
            Verdict::Admitted(place) => Some(place),
            Verdict::Ask(place) => place,
            Verdict::Refused(_) | Verdict::Full => None,
        }
    }

    /// Claims that were refused on a coupon that did not change: the doors on which they were. Called like [`learn`](Self::learn).
    pub fn refused(&self, news: impl IntoIterator<Item = News>) {
        self.desk.hand_in_refused(news);
    }

    /// What is known of these gates may be wrong, as nobody knows what a commit came to: they are built anew. Returns at once.
    pub fn doubt(&self, coupons: impl IntoIterator<Item = CouponId>) {
        self.desk.doubt(coupons);
    }

    /// Returns when Redis knows all the news so far, or a moment later if it does not answer: who was told that a unit is free finds it.
    pub async fn told(&self) {
        let _ = tokio::time::timeout(TOLD, self.desk.told()).await;
    }

    /// How long an answer may be relied on.
    pub fn current(&self) -> Duration {
        self.times.current
    }

    async fn judge(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp, insists: bool) -> Verdict {
        if self.desk.is_doubtful(coupon_id) {
            return Verdict::Ask(None);
        }
        let new_gate = new_id().to_string();
        let (answer, held) = self.ask_and_look(coupon_id, member_id, now, &new_gate, insists).await;
        let (what, era, nth, barrier, ..) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, coupon.id = %coupon_id, "the gate in Redis cannot be asked");
                // Claims are settled now without a place; and one may be held there of which nobody knows.
                self.doubt([coupon_id]);
                return Verdict::Ask(None);
            }
        };
        let place = (nth > 0).then(|| self.place(HandedPlace { coupon_id, member_id, era, nth, held_at: now }, held, Duration::ZERO));
        match (what.as_str(), place) {
            ("admitted", Some(place)) => Verdict::Admitted(place),
            ("build", place) => {
                self.start_building(coupon_id, new_gate, Duration::from_micros(barrier));
                Verdict::Ask(place)
            }
            ("full", _) => Verdict::Full,
            ("already", _) => refused(Code::AlreadyIssued),
            ("sold-out", _) => refused(Code::SoldOut),
            ("not-open", _) => refused(Code::NotOpen),
            ("closed", _) => refused(Code::Closed),
            ("gone", _) => refused(Code::NotFound),
            (_, place) => Verdict::Ask(place),
        }
    }

    /// Goes on with a place that another process has handed over. `now` is this process's time: a difference between the clocks makes the
    /// place younger or older than it is, and must be small beside [`GateTimes::current`].
    pub fn take_over(&self, handed: HandedPlace, now: Timestamp) -> Arc<Place> {
        let age = now.since(handed.held_at);
        self.place(handed, Stopwatch::start(), age)
    }

    fn place(&self, handed: HandedPlace, held: Stopwatch, age: Duration) -> Arc<Place> {
        let (desk, current) = (Arc::clone(&self.desk), self.times.current);
        Arc::new(Place { desk, handed, held, age, current, released: AtomicBool::new(false) })
    }

    /// What a commit made of a coupon. Called after each commit that changed one, in any order; returns at once. Usable from a commit hook.
    pub fn learn(&self, news: impl IntoIterator<Item = News>) {
        self.desk.hand_in(news);
    }

    /// Units that are offered to newcomers now. `None`: the gate knows nothing, is not believed here, or there is no limit.
    pub async fn on_offer(&self, coupon_id: CouponId) -> Result<Option<i64>, RedisError> {
        if self.desk.is_doubtful(coupon_id) {
            return Ok(None);
        }
        let mut call = call(&self.redis, &scripts::ON_OFFER, coupon_id);
        match self.redis.run::<i64>(call.arg(micros(self.times.believed))).await {
            Ok(units) => Ok((units >= 0).then_some(units)),
            Err(error) => {
                self.doubt([coupon_id]);
                Err(error)
            }
        }
    }
}

fn refused(code: Code) -> Verdict {
    metrics::counter!("onrush_coupons_refused_early_total").increment(1);
    Verdict::Refused(code)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A call of a script on this coupon's keys.
fn call<'s>(redis: &Redis, script: &'s Script, coupon_id: CouponId) -> ScriptInvocation<'s> {
    let name = coupon_id.to_string();
    let mut call = script.prepare_invoke();
    for kind in ["gate", "gate-shares", "gate-places", "gate-news"] {
        call.key(redis.key(kind, &name));
    }
    call
}

fn write_doors(call: &mut ScriptInvocation<'_>, doors: &Doors) {
    call.arg(doors.version).arg(doors.limit.unwrap_or(-1)).arg(doors.issued).arg(doors.opens_at.0).arg(doors.closes_at.0);
    call.arg(doors.per_member).arg(u8::from(doors.queue)).arg(u8::from(doors.gone));
}
