//! Stand-ins for the services around orders: participants that do as the test says, and books to look prices, coupons and stores up in.

use contracts::{
    Code, CouponId, IssuedCouponId, MemberId, Message, OrderId, ProductId, Refusal, Sku, StoreId, Timestamp, Won,
    calls::{CouponScope, Discount, GetIssuedCoupons, GetPrices, GetStore, IssuedCouponTerms, PricedSku, StoreCard},
    messages::{PaymentApproved, PaymentRefused, RoutingSlip, StepCommand, StepDone, StepRefused, StockPolicy, Stop, Way},
};
use futures::future::BoxFuture;
use kit::{Fault, Kit, Service, Work, db::Migration, engine::Envelope, links::Answers, ports::new_id};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

/// What a participant does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    Comply,
    Refuse(Code),
    Silence,
}

/// What the stand-ins know and remember. Outlives a restart of the services.
#[derive(Clone, Default)]
pub struct Others(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    reactions: HashMap<&'static str, Reaction>,
    heard: Vec<(Uuid, Message)>,
    prices: Vec<PricedSku>,
    coupons: Vec<(MemberId, IssuedCouponTerms)>,
    stores: Vec<StoreCard>,
}

/// Who reads what.
const PARTICIPANTS: &[(&str, &[&str])] = &[
    (
        "stock",
        &["stock.reserve", "stock.take", "stock.release", "stock.commit", "orders.slip", "coupons.slip", "wallet.slip", "payments.slip"],
    ),
    ("coupons", &["coupon.hold", "coupon.unhold", "coupon.use", "orders.slip", "stock.slip", "wallet.slip", "payments.slip"]),
    ("wallet", &["points.hold", "points.unhold", "points.use", "orders.slip", "stock.slip", "coupons.slip", "payments.slip"]),
    ("payments", &["payment.request", "payment.cancel", "orders.slip", "stock.slip", "coupons.slip", "wallet.slip"]),
    ("catalog", &[]),
    ("stores", &[]),
];

impl Others {
    pub fn services(&self, kit: &Kit) -> Vec<Arc<dyn Service>> {
        let stand_in = |(name, reads): &(&'static str, &'static [&'static str])| {
            Arc::new(StandIn { kit: kit.clone(), name, reads, others: self.clone() }) as Arc<dyn Service>
        };
        PARTICIPANTS.iter().map(stand_in).collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("not poisoned")
    }

    /// From now on questions of this kind are met like this.
    pub fn meet(&self, kind: &'static str, reaction: Reaction) {
        self.books().reactions.insert(kind, reaction);
    }

    /// Everything the participants were told about an order, in the order in which they acted on it.
    pub fn heard(&self, id: OrderId) -> Vec<Message> {
        self.books().heard.iter().filter(|(of, _)| *of == id.0).map(|(_, message)| message.clone()).collect()
    }

    pub fn sell_in(&self, store_id: StoreId, price: i64, policy: StockPolicy) -> Sku {
        let sku = Sku(new_id());
        let mut books = self.books();
        let name = format!("thing {}", books.prices.len() + 1);
        books.prices.push(PricedSku { sku, product_id: ProductId(new_id()), store_id, name, price: Won(price), policy });
        sku
    }

    pub fn change_price(&self, sku: Sku, price: i64) {
        let mut books = self.books();
        books.prices.iter_mut().filter(|priced| priced.sku == sku).for_each(|priced| priced.price = Won(price));
    }

    pub fn withdraw(&self, sku: Sku) {
        self.books().prices.retain(|priced| priced.sku != sku);
    }

    pub fn open_store(&self, seller_id: MemberId) -> StoreId {
        let store_id = StoreId(new_id());
        self.books().stores.push(StoreCard { store_id, name: "A store".into(), seller_id: Some(seller_id) });
        store_id
    }

    /// A coupon of this many won, in a member's hands.
    pub fn issue(&self, owner: MemberId, scope: CouponScope, won: i64) -> IssuedCouponId {
        let id = IssuedCouponId(new_id());
        let terms = IssuedCouponTerms {
            issued_coupon_id: id,
            coupon_id: CouponId(new_id()),
            name: format!("{won} off"),
            discount: Discount::Amount { won: Won(won) },
            scope,
            store_id: None,
            min_order: Won::ZERO,
            expires_at: Timestamp::MAX,
            refusal: None,
        };
        self.books().coupons.push((owner, terms));
        id
    }

    pub fn change_coupon(&self, id: IssuedCouponId, change: impl FnOnce(&mut IssuedCouponTerms)) {
        let mut books = self.books();
        let found = books.coupons.iter_mut().find(|(_, terms)| terms.issued_coupon_id == id);
        change(&mut found.expect("it was issued").1);
    }

    fn reaction(&self, question: &Message) -> Reaction {
        self.books().reactions.get(question.kind()).copied().unwrap_or(Reaction::Comply)
    }

    fn answer(&self, message: &Message) -> Option<Message> {
        match self.reaction(message) {
            Reaction::Comply => done(message),
            Reaction::Refuse(code) => Some(refused(message, code)),
            Reaction::Silence => None,
        }
    }
}

/// The answer of a participant that did as it was asked. What is made final is not answered.
pub fn done(question: &Message) -> Option<Message> {
    let done = |order_id| StepDone { order_id };
    Some(match question {
        Message::StockReserve(ask) => Message::StockReserved(done(ask.order_id)),
        Message::StockTake(ask) => Message::StockTaken(done(ask.order_id)),
        Message::StockRelease(ask) => Message::StockReleased(done(ask.order_id)),
        Message::CouponHold(ask) => Message::CouponHeld(done(ask.order_id)),
        Message::CouponUnhold(ask) => Message::CouponReleased(done(ask.order_id)),
        Message::PointsHold(ask) => Message::PointsHeld(done(ask.order_id)),
        Message::PointsUnhold(ask) => Message::PointsReleased(done(ask.order_id)),
        Message::PaymentCancel(ask) => Message::PaymentCancelled(done(ask.order_id)),
        Message::PaymentRequest(ask) => {
            Message::PaymentApproved(PaymentApproved { order_id: ask.order_id, payment_id: ask.payment_id, amount: ask.amount })
        }
        _ => return None,
    })
}

/// The answer of one that says no.
pub fn refused(question: &Message, code: Code) -> Message {
    let refused = |order_id| StepRefused { order_id, code, detail: format!("No: {}.", code.slug()) };
    match question {
        Message::StockReserve(ask) => Message::StockRefused(refused(ask.order_id)),
        Message::StockTake(ask) => Message::StockTakeRefused(refused(ask.order_id)),
        Message::CouponHold(ask) => Message::CouponRefused(refused(ask.order_id)),
        Message::PointsHold(ask) => Message::PointsRefused(refused(ask.order_id)),
        Message::PaymentRequest(ask) => Message::PaymentFailed(PaymentRefused {
            order_id: ask.order_id,
            payment_id: ask.payment_id,
            code,
            detail: format!("No: {}.", code.slug()),
        }),
        other => panic!("{} cannot be refused", other.kind()),
    }
}

struct StandIn {
    kit: Kit,
    name: &'static str,
    reads: &'static [&'static str],
    others: Others,
}

impl StandIn {
    /// Only what is committed was heard.
    fn hear(&self, work: &mut Work, key: Uuid, message: Message) {
        let others = self.others.clone();
        work.after_commit(move || others.books().heard.push((key, message)));
    }

    /// Meets what a slip calls for like the question that asks the same.
    fn travel(&self, work: &mut Work, mut slip: RoutingSlip) -> Result<(), Fault> {
        if slip.call(self.name).is_none() {
            return Ok(());
        }
        while let Some((way, stop)) = slip.call(self.name) {
            let question = match way {
                Way::Forward => stop.clone().into(),
                Way::Back => undo(stop),
            };
            let reaction = self.others.reaction(&question);
            self.hear(work, slip.order_id.0, question);
            match (reaction, way) {
                (Reaction::Silence, _) => return Ok(()),
                (_, Way::Back) => slip.undone(work.now),
                (Reaction::Comply, _) => slip.answer(Ok(()), work.now),
                (Reaction::Refuse(code), _) => slip.answer(Err(Refusal::new(code, format!("No: {}.", code.slug()))), work.now),
            }
        }
        work.emit(slip.order_id, passed_on(self.name, slip))
    }
}

/// The message that undoes a stop.
fn undo(stop: &Stop) -> Message {
    let command = |order_id| StepCommand { order_id };
    match stop {
        Stop::StockReserve(ask) => Message::StockRelease(command(ask.order_id)),
        Stop::CouponHold(ask) => Message::CouponUnhold(command(ask.order_id)),
        Stop::PointsHold(ask) => Message::PointsUnhold(command(ask.order_id)),
        Stop::Payment(ask) => Message::PaymentCancel(command(ask.order_id)),
        Stop::StockTake(_) => panic!("it is undone with the reservation"),
    }
}

/// A slip in the stream of who passes it on.
pub fn passed_on(by: &str, slip: RoutingSlip) -> Message {
    match by {
        "stock" => Message::StockSlip(slip),
        "coupons" => Message::CouponsSlip(slip),
        "wallet" => Message::WalletSlip(slip),
        "payments" => Message::PaymentsSlip(slip),
        other => panic!("{other} passes nothing on"),
    }
}

impl Service for StandIn {
    fn name(&self) -> &'static str {
        self.name
    }
    fn migrations(&self) -> &'static [Migration] {
        &[]
    }
    fn kit(&self) -> &Kit {
        &self.kit
    }
    fn router(self: Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
    }
    fn reads(&self) -> &'static [&'static str] {
        self.reads
    }
    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            for envelope in messages {
                if let Some(slip) = envelope.message.slip() {
                    self.travel(work, slip.clone())?;
                    continue;
                }
                if let Some(answer) = self.others.answer(&envelope.message) {
                    work.emit(envelope.key, answer)?;
                }
                self.hear(work, envelope.key, envelope.message.clone());
            }
            Ok(())
        })
    }
    fn answers(self: Arc<Self>, answers: &mut Answers) {
        let others = self.others.clone();
        match self.name {
            "catalog" => answers.add::<GetPrices, _, _, _>(move |call| {
                let found = others.books().prices.iter().filter(|priced| call.skus.contains(&priced.sku)).cloned().collect();
                async move { Ok::<_, String>(found) }
            }),
            "coupons" => answers.add::<GetIssuedCoupons, _, _, _>(move |call| {
                let books = others.books();
                let own =
                    books.coupons.iter().filter(|(owner, terms)| *owner == call.member_id && call.ids.contains(&terms.issued_coupon_id));
                let found = own.map(|(_, terms)| terms.clone()).collect();
                async move { Ok::<_, String>(found) }
            }),
            "stores" => answers.add::<GetStore, _, _, _>(move |call| {
                let found = others.books().stores.iter().find(|store| store.store_id == call.store_id).cloned();
                async move { Ok::<_, String>(found) }
            }),
            _ => {}
        }
    }
}
