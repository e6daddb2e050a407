//! Stubs of the services around orders: participants with the reactions that a test sets, and prices, coupons and stores to look up.

use contracts::{
    Code, CouponId, IssuedCouponId, Kind, MemberId, Message, OrderId, ProductId, Refusal, Sku, StoreId, Timestamp, Won,
    calls::{CouponScope, Discount, GetAvailability, GetIssuedCoupons, GetPrices, GetStore, IssuedCouponTerms, PricedSku, StoreCard},
    messages::{Direction, PaymentApproved, PaymentRefused, RoutingSlip, StepDone, StepRefused, StockPolicy, saga_reads},
};
use kit::{Fault, Kit, Module, Work, engine::Envelope, ports::new_id};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use testkit::StubService;
use uuid::Uuid;

/// Reaction of a participant to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    Comply,
    Refuse(Code),
    Silence,
}

/// State of all stubs. It survives a restart of the services.
#[derive(Clone, Default)]
pub struct ParticipantsStub(Arc<Mutex<StubState>>);

#[derive(Default)]
struct StubState {
    reactions: HashMap<&'static str, Reaction>,
    received: Vec<(Uuid, Message)>,
    prices: Vec<PricedSku>,
    coupons: Vec<(MemberId, IssuedCouponTerms)>,
    stores: Vec<StoreCard>,
    available: HashMap<Sku, i64>,
}

/// The stubbed participants of the saga.
const PARTICIPANTS: &[&str] = &["stock", "coupons", "wallet", "payments"];
/// The other stubbed services. They read no message.
const LOOKED_UP: &[&str] = &["catalog", "stores", "accounts"];

impl ParticipantsStub {
    pub fn services(&self, kit: &Kit) -> Vec<Arc<dyn Module>> {
        let participants = PARTICIPANTS.iter().map(|name| (*name, &*saga_reads(name, &[]).leak()));
        let services = participants.chain(LOOKED_UP.iter().map(|name| (*name, &[] as &[Kind])));
        services.map(|(name, reads)| Arc::new(self.service(kit, name, reads)) as Arc<dyn Module>).collect()
    }

    fn service(&self, kit: &Kit, name: &'static str, reads: &'static [Kind]) -> StubService {
        let [reactions, prices, coupons, stores, available] = std::array::from_fn(|_| self.clone());
        let stub = StubService::new(kit, name).reads(reads).on_message(move |work, envelope| reactions.handle(name, work, envelope));
        match name {
            "catalog" => stub.answers::<GetPrices>(move |call| {
                Ok(prices.state().prices.iter().filter(|priced| call.skus.contains(&priced.sku)).cloned().collect())
            }),
            "stock" => stub.answers::<GetAvailability>(move |call| {
                let state = available.state();
                Ok(call.skus.iter().filter_map(|sku| Some((*sku, *state.available.get(sku)?))).collect())
            }),
            "coupons" => stub.answers::<GetIssuedCoupons>(move |call| {
                let state = coupons.state();
                let own =
                    state.coupons.iter().filter(|(owner, terms)| *owner == call.member_id && call.ids.contains(&terms.issued_coupon_id));
                Ok(own.map(|(_, terms)| terms.clone()).collect())
            }),
            "stores" => stub
                .answers::<GetStore>(move |call| Ok(stores.state().stores.iter().find(|store| store.store_id == call.store_id).cloned())),
            _ => stub,
        }
    }

    fn state(&self) -> MutexGuard<'_, StubState> {
        self.0.lock().expect("not poisoned")
    }

    /// Sets the reaction to requests of this kind from now on.
    pub fn set_reaction(&self, kind: &'static str, reaction: Reaction) {
        self.state().reactions.insert(kind, reaction);
    }

    /// All messages about an order that the participants received, in the order of handling.
    pub fn received(&self, id: OrderId) -> Vec<Message> {
        self.state().received.iter().filter(|(of, _)| *of == id.0).map(|(_, message)| message.clone()).collect()
    }

    pub fn sell_in(&self, store_id: StoreId, price: i64, policy: StockPolicy) -> Sku {
        let sku = Sku(new_id());
        let mut state = self.state();
        let name = format!("thing {}", state.prices.len() + 1);
        state.prices.push(PricedSku { sku, product_id: ProductId(new_id()), store_id, name, price: Won(price), policy, max_unpaid: None });
        sku
    }

    pub fn change_price(&self, sku: Sku, price: i64) {
        let mut state = self.state();
        state.prices.iter_mut().filter(|priced| priced.sku == sku).for_each(|priced| priced.price = Won(price));
    }

    /// Sets the units that can be ordered now. Without it, stock does not know the SKU.
    pub fn stock(&self, sku: Sku, units: i64) {
        self.state().available.insert(sku, units);
    }

    pub fn limit_unpaid(&self, sku: Sku, most: u32) {
        let mut state = self.state();
        state.prices.iter_mut().filter(|priced| priced.sku == sku).for_each(|priced| priced.max_unpaid = Some(most));
    }

    pub fn withdraw(&self, sku: Sku) {
        self.state().prices.retain(|priced| priced.sku != sku);
    }

    pub fn open_store(&self, seller_id: MemberId) -> StoreId {
        let store_id = StoreId(new_id());
        self.state().stores.push(StoreCard { store_id, name: "A store".into(), seller_id: Some(seller_id) });
        store_id
    }

    /// Issues a coupon with a discount of this many won to a member.
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
        self.state().coupons.push((owner, terms));
        id
    }

    pub fn change_coupon(&self, id: IssuedCouponId, change: impl FnOnce(&mut IssuedCouponTerms)) {
        let mut state = self.state();
        let found = state.coupons.iter_mut().find(|(_, terms)| terms.issued_coupon_id == id);
        change(&mut found.expect("it was issued").1);
    }

    fn reaction(&self, request: &Message) -> Reaction {
        self.state().reactions.get(request.kind()).copied().unwrap_or(Reaction::Comply)
    }

    fn answer(&self, message: &Message) -> Option<Message> {
        match self.reaction(message) {
            Reaction::Comply => compliant_answer(message),
            Reaction::Refuse(code) => Some(refusing_answer(message, code)),
            Reaction::Silence => None,
        }
    }
}

/// The answer of a participant that did the request. `None`: messages that make a hold final are not answered.
pub fn compliant_answer(request: &Message) -> Option<Message> {
    let done = |order_id| StepDone { order_id };
    Some(match request {
        Message::StockReserve(request) => Message::StockReserved(done(request.order_id)),
        Message::StockTake(request) => Message::StockTaken(done(request.order_id)),
        Message::StockRelease(request) => Message::StockReleased(done(request.order_id)),
        Message::CouponHold(request) => Message::CouponHeld(done(request.order_id)),
        Message::CouponUnhold(request) => Message::CouponReleased(done(request.order_id)),
        Message::PointsHold(request) => Message::PointsHeld(done(request.order_id)),
        Message::PointsUnhold(request) => Message::PointsReleased(done(request.order_id)),
        Message::PaymentCancel(request) => Message::PaymentCancelled(done(request.order_id)),
        Message::PaymentRequest(request) => {
            Message::PaymentApproved(PaymentApproved { order_id: request.order_id, payment_id: request.payment_id, amount: request.amount })
        }
        _ => return None,
    })
}

/// The answer of a participant that refused the request.
pub fn refusing_answer(request: &Message, code: Code) -> Message {
    let refused = |order_id| StepRefused { order_id, code, detail: format!("No: {}.", code.slug()) };
    match request {
        Message::StockReserve(request) => Message::StockRefused(refused(request.order_id)),
        Message::StockTake(request) => Message::StockTakeRefused(refused(request.order_id)),
        Message::CouponHold(request) => Message::CouponRefused(refused(request.order_id)),
        Message::PointsHold(request) => Message::PointsRefused(refused(request.order_id)),
        Message::PaymentRequest(request) => Message::PaymentFailed(PaymentRefused {
            order_id: request.order_id,
            payment_id: request.payment_id,
            code,
            detail: format!("No: {}.", code.slug()),
        }),
        other => panic!("{} cannot be refused", other.kind()),
    }
}

impl ParticipantsStub {
    /// Handles a message as the participant `name`.
    fn handle(&self, name: &str, work: &mut Work, envelope: &Envelope) -> Result<(), Fault> {
        if let Some(slip) = envelope.message.slip() {
            return self.advance_slip(name, work, slip.clone());
        }
        if let Some(answer) = self.answer(&envelope.message) {
            work.emit(envelope.key, answer)?;
        }
        self.record_received(work, envelope.key, envelope.message.clone());
        Ok(())
    }

    /// Records a received message after the commit.
    fn record_received(&self, work: &mut Work, key: Uuid, message: Message) {
        let participants = self.clone();
        work.after_commit(move || participants.state().received.push((key, message)));
    }

    /// Reacts to each step of a slip as to the same request of an orchestrated order, and passes the slip on.
    fn advance_slip(&self, name: &str, work: &mut Work, mut slip: RoutingSlip) -> Result<(), Fault> {
        if slip.next_step(name).is_none() {
            return Ok(());
        }
        while let Some((direction, slip_step)) = slip.next_step(name) {
            let request = match direction {
                Direction::Forward => slip_step.clone().into(),
                Direction::Back => slip_step.step().undo(slip.order_id).expect("only steps with an undo are undone"),
            };
            let reaction = self.reaction(&request);
            self.record_received(work, slip.order_id.0, request);
            match (reaction, direction) {
                (Reaction::Silence, _) => return Ok(()),
                (_, Direction::Back) => slip.record_undone(work.now),
                (Reaction::Comply, _) => slip.record_result(Ok(()), work.now),
                (Reaction::Refuse(code), _) => slip.record_result(Err(Refusal::new(code, format!("No: {}.", code.slug()))), work.now),
            }
        }
        work.emit(slip.order_id, slip_message(name, slip))
    }
}

/// The message with which a service passes a slip on.
pub fn slip_message(by: &str, slip: RoutingSlip) -> Message {
    match by {
        "stock" => Message::StockSlip(slip),
        "coupons" => Message::CouponsSlip(slip),
        "wallet" => Message::WalletSlip(slip),
        "payments" => Message::PaymentsSlip(slip),
        other => panic!("{other} passes nothing on"),
    }
}
