//! From the door to the transaction (C25): who is told at once that there is nothing for him, and what a claim carries that goes on.
//!
//! Only refusals are decided here, and only such as the database would give. With the gate in Redis every claim carries its place there to
//! the transaction, which must not settle it on a place that is too old.

use crate::{
    Coupons,
    redis_gate::{News, Place, SharedGate, Verdict},
    store::Books,
};
use contracts::{Code, CouponId, MemberId};
use kit::{Work, ports::Stopwatch};
use std::{sync::Arc, time::Duration};

/// While every unit left is kept for somebody, one may come back: so often, and so far apart, it is asked whether one has.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Who comes to the door.
#[derive(Clone, Copy, Debug)]
pub struct Applicant {
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    /// His answer may have been given before, and must then be the same: only the database may refuse him.
    pub repeats: bool,
    /// He need not be kept waiting for a unit to come back: he waits elsewhere.
    pub waits: bool,
}

/// What a claim carries to its transaction.
#[derive(Debug, Default)]
pub struct Pass {
    place: Option<Arc<Place>>,
    /// When the gate was asked, and how long its answer is good for; absent where there is no gate of all processes.
    asked: Option<(Stopwatch, Duration)>,
}

impl Pass {
    pub fn at(place: Arc<Place>) -> Pass {
        Pass { place: Some(place), asked: None }
    }

    pub fn asked(place: Option<Arc<Place>>, asked: Stopwatch, good: Duration) -> Pass {
        Pass { place, asked: Some((asked, good)) }
    }

    pub fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }

    /// Its claim is settled by this transaction: the gate must be told, together with what became of the coupon.
    pub fn settled(&self, books: &mut Books, coupon_id: CouponId) {
        if let Some(place) = &self.place {
            books.changes.settled(coupon_id, place);
        }
    }

    /// False: the gate may know nothing of this claim any more, and must be asked again. To be looked at when the coupon's row is locked.
    pub fn is_current(&self) -> bool {
        self.place.as_ref().is_none_or(|place| place.is_current())
            && self.asked.as_ref().is_none_or(|(asked, good)| asked.elapsed() < *good)
    }
}

impl Coupons {
    /// What the applicant carries on, or what he is told at once.
    pub async fn enter(&self, applicant: Applicant) -> Result<Pass, Code> {
        let Applicant { coupon_id, member_id, repeats, .. } = applicant;
        match &self.shared {
            Some(gate) => self.enter_by(gate, applicant).await,
            None if repeats => Ok(Pass::default()),
            None => self.gate.refusal(&self.kit, coupon_id, member_id).await.map_or_else(|| Ok(Pass::default()), Err),
        }
    }

    async fn enter_by(&self, gate: &SharedGate, applicant: Applicant) -> Result<Pass, Code> {
        let Applicant { coupon_id, member_id, repeats, waits } = applicant;
        let looks = if repeats || waits { u32::from(!repeats) } else { LOOKS };
        for look in 1..=looks {
            // Before the call: what it answers is not younger than it is believed to be.
            let asked = Stopwatch::start();
            let place = match gate.admit(coupon_id, member_id, self.kit.clock.now()).await {
                Verdict::Admitted(place) => Some(place),
                Verdict::Ask(place) => place,
                Verdict::Refused(code) => return Err(code),
                Verdict::Full => {
                    if look < looks {
                        tokio::time::sleep(BETWEEN_LOOKS).await;
                    }
                    continue;
                }
            };
            return Ok(Pass::asked(place, asked, gate.current()));
        }
        let asked = Stopwatch::start();
        let place = gate.insist(coupon_id, member_id, self.kit.clock.now()).await;
        Ok(Pass::asked(place, asked, gate.current()))
    }

    /// Returns when the gate of all processes, if there is one, knows what was committed here.
    pub async fn told(&self) {
        if let Some(gate) = &self.shared {
            gate.told().await;
        }
    }

    /// Writes back what the transaction changed. The gates learn of it with the commit.
    pub(crate) async fn save(&self, work: &mut Work) -> Result<(), kit::Fault> {
        let mut books = work.take_stash::<Books>();
        let mut changes = std::mem::take(&mut books.changes);
        let changed = books.save(&mut work.tx).await?;
        match &self.shared {
            Some(gate) => {
                let news = changed.into_iter().map(|definition| {
                    let change = changes.take(definition.id);
                    News { coupon_id: definition.id, doors: definition.into(), shares: change.shares, settled: change.settled }
                });
                let untold = Untold { gate: gate.clone(), news: news.collect() };
                let refused = changes.rest().filter_map(|(coupon_id, change)| {
                    let doors = books.definitions.get(coupon_id)?.into();
                    Some(News { coupon_id, doors, shares: Vec::new(), settled: change.settled })
                });
                let refused: Vec<News> = refused.collect();
                work.at_end(move |durable| untold.end(durable, refused));
            }
            None if changed.is_empty() => {}
            None => {
                let news: Vec<_> = changed.into_iter().map(|definition| (definition.id, definition.into())).collect();
                let gate = Arc::clone(&self.gate);
                work.after_commit(move || gate.learn(news));
            }
        }
        work.put_stash(books);
        Ok(())
    }
}

/// News that wait for their commit. When nobody knows what came of it, the gate is built anew.
struct Untold {
    gate: SharedGate,
    news: Vec<News>,
}

impl Untold {
    /// What was taken back is no news. The places are still held by the claims, which are tried again or give them back.
    fn end(mut self, durable: bool, refused: Vec<News>) {
        let news = std::mem::take(&mut self.news);
        if durable {
            self.gate.learn(news);
            self.gate.refused(refused);
        }
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if !self.news.is_empty() {
            self.gate.doubt(self.news.iter().map(|news| news.coupon_id));
        }
    }
}
