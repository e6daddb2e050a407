//! The routing slip of a choreographed checkout.
//!
//! Owns the route of a slip: forward step by step, back over the earlier steps after a refusal, and then to the orders service. It does
//! not know what a step does. The service that the slip calls next does its step, records the result and passes the slip on in its own
//! stream. All other services ignore the slip.
//!
//! Field names are the JSON names of the message.

use super::{
    DecodeError, SlipStep,
    saga::{SagaAction, SagaTask, ServiceRequest, StepOutcome},
};
use crate::{OrderId, Refusal, Timestamp};
use serde::{Deserialize, Serialize};

/// Direction in which a slip travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Steps are done, first to last.
    Forward,
    /// Steps are undone, last to first.
    Back,
}

/// Log entry of one executed step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlipEntry {
    /// Index into the slip's steps.
    pub stop: usize,
    #[serde(flatten)]
    pub outcome: StepOutcome,
    pub at: Timestamp,
}

/// A routing slip with the results so far. Readers may see it late, twice, and in any order across the streams. The longest log contains
/// all shorter ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingSlip {
    pub order_id: OrderId,
    /// Number of this slip among the slips of its order. Orders increments it for every new slip, so that late old slips are recognized.
    pub run: u32,
    pub stops: Vec<SlipStep>,
    pub way: Direction,
    /// Index of the next step. `None`: the route has ended.
    pub next: Option<usize>,
    /// True: a refused payment ends the route and keeps the other steps done, because the buyer may pay again. Every other refusal turns
    /// the slip back.
    pub payable_again: bool,
    pub log: Vec<SlipEntry>,
}

impl RoutingSlip {
    /// A slip that does these steps from index `from`. The steps before it are already done, and are undone if one is refused.
    pub fn forward(order_id: OrderId, run: u32, stops: Vec<SlipStep>, from: usize, payable_again: bool) -> RoutingSlip {
        let next = Some(from).filter(|from| *from < stops.len());
        RoutingSlip { order_id, run, stops, way: Direction::Forward, next, payable_again, log: Vec::new() }
    }

    /// A slip that undoes these steps, whether or not they were done.
    pub fn back(order_id: OrderId, run: u32, stops: Vec<SlipStep>) -> RoutingSlip {
        let mut slip = RoutingSlip { order_id, run, stops, way: Direction::Back, next: None, payable_again: false, log: Vec::new() };
        slip.next = slip.undo_before(slip.stops.len());
        slip
    }

    /// The step that this service has to execute now. `None`: it is another service's turn, or the route has ended.
    pub fn next_step(&self, service: &str) -> Option<(Direction, &SlipStep)> {
        let stop = self.stops.get(self.next?)?;
        (stop.service() == service).then_some((self.way, stop))
    }

    /// The next step and its request. `None`: it is not a step of the service of `R`, or the route has ended.
    pub fn next_request<'m, R: ServiceRequest<'m>>(&'m self) -> Option<(Direction, R)> {
        let (way, step) = self.next_step(R::SERVICE)?;
        Some((way, R::in_slip(step)?))
    }

    /// The steps that the service of `R` has to execute now, up to the first one of another service.
    pub fn next_tasks<'m, R: ServiceRequest<'m>>(&'m self) -> impl Iterator<Item = SagaTask<R>> {
        let following = move |at: &usize| match self.way {
            Direction::Forward => Some(at + 1),
            Direction::Back => self.undo_before(*at),
        };
        std::iter::successors(self.next, following).map_while(move |at| {
            let step = self.stops.get(at)?;
            let request = R::in_slip(step)?;
            let action = if self.way == Direction::Forward { SagaAction::Do(request) } else { SagaAction::Undo(step.step()) };
            Some(SagaTask { order_id: self.order_id, action })
        })
    }

    /// Records that the next step was done or refused, and moves on or turns back.
    pub fn record_result(&mut self, answer: Result<(), Refusal>, at: Timestamp) {
        let Some(here) = self.next else { return };
        match answer {
            Ok(()) => {
                self.log.push(SlipEntry { stop: here, outcome: StepOutcome::Done, at });
                self.next = Some(here + 1).filter(|next| *next < self.stops.len());
            }
            Err(refusal) => {
                self.log.push(SlipEntry { stop: here, outcome: StepOutcome::Refused(refusal), at });
                if self.payable_again && matches!(self.stops.get(here), Some(SlipStep::Payment(_))) {
                    self.next = None;
                } else {
                    self.way = Direction::Back;
                    self.next = self.undo_before(here);
                }
            }
        }
    }

    /// Records that the next step was undone, and moves to the step before it.
    pub fn record_undone(&mut self, at: Timestamp) {
        let Some(here) = self.next else { return };
        self.log.push(SlipEntry { stop: here, outcome: StepOutcome::Undone, at });
        self.next = self.undo_before(here);
    }

    /// As JSON, for services that store a slip until they can answer. `Err`: the slip cannot be encoded.
    pub fn encode(&self) -> Result<String, DecodeError> {
        Ok(serde_json::to_string(self)?)
    }

    pub fn decode(text: &str) -> Result<RoutingSlip, DecodeError> {
        Ok(serde_json::from_str(text)?)
    }

    fn undo_before(&self, end: usize) -> Option<usize> {
        self.stops.iter().take(end).rposition(|step| step.step().has_undo())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Code, MemberId, PaymentId, Won,
        messages::{CouponHold, Message, PaymentMethod, PaymentRequest, PointsHold, StockReserve, StockTake},
    };
    use uuid::Uuid;

    const ORDER: OrderId = OrderId(Uuid::from_u128(1));
    const NOW: Timestamp = Timestamp(5);

    fn stops() -> Vec<SlipStep> {
        let (member_id, expires_at) = (MemberId(Uuid::from_u128(2)), Timestamp(9));
        let (payment_id, method) = (PaymentId(Uuid::from_u128(3)), PaymentMethod::Wallet);
        vec![
            SlipStep::StockReserve(StockReserve { order_id: ORDER, reserve: vec![], check_only: vec![], expires_at }),
            SlipStep::CouponHold(CouponHold { order_id: ORDER, member_id, coupons: vec![], expires_at }),
            SlipStep::PointsHold(PointsHold { order_id: ORDER, member_id, amount: Won(1), expires_at }),
            SlipStep::StockTake(StockTake { order_id: ORDER, lines: vec![], expires_at }),
            SlipStep::Payment(PaymentRequest { order_id: ORDER, payment_id, member_id, amount: Won(2), method, token: None }),
        ]
    }

    /// Executes the slip to its end and refuses the step at index `refuse`. Returns the executed steps.
    fn advance(mut slip: RoutingSlip, refuse: Option<usize>) -> (Vec<String>, RoutingSlip) {
        let mut calls = Vec::new();
        while let Some((way, stop)) = slip.next.and_then(|next| slip.next_step(slip.stops[next].service())) {
            calls.push(format!("{} {}", stop.step().as_str(), if way == Direction::Forward { "do" } else { "undo" }));
            match way {
                Direction::Back => slip.record_undone(NOW),
                Direction::Forward if slip.next == refuse => slip.record_result(Err(Code::OutOfStock.into()), NOW),
                Direction::Forward => slip.record_result(Ok(()), NOW),
            }
        }
        (calls, slip)
    }

    // G3
    #[test]
    fn a_slip_advances_step_by_step_and_undoes_in_reverse() {
        let there = ["stock.reserve do", "coupon.hold do", "points.hold do", "stock.take do", "payment.request do"];
        let back = ["points.hold undo", "coupon.hold undo", "stock.reserve undo"];
        let (calls, slip) = advance(RoutingSlip::forward(ORDER, 1, stops(), 0, false), None);
        assert_eq!((calls, slip.next, slip.way), (there.map(str::to_owned).to_vec(), None, Direction::Forward));
        for (refused, undone) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)] {
            let (calls, slip) = advance(RoutingSlip::forward(ORDER, 1, stops(), 0, false), Some(refused));
            assert_eq!(calls, [&there[..=refused], &back[3 - undone..]].concat());
            assert_eq!((slip.next, slip.way, slip.log.len()), (None, Direction::Back, calls.len()));
        }
        let (calls, _) = advance(RoutingSlip::back(ORDER, 2, stops()), None);
        assert_eq!(calls, [&["payment.request undo"], &back[..]].concat());
    }

    // G3: on a slip that pays, missing stock undoes the earlier steps. A refused payment keeps them.
    #[test]
    fn a_refused_payment_keeps_the_other_steps_done() {
        let (calls, slip) = advance(RoutingSlip::forward(ORDER, 2, stops(), 3, true), Some(4));
        assert_eq!((calls.len(), slip.next, slip.way), (2, None, Direction::Forward));
        let (calls, _) = advance(RoutingSlip::forward(ORDER, 2, stops(), 3, true), Some(3));
        assert_eq!(calls, ["stock.take do", "points.hold undo", "coupon.hold undo", "stock.reserve undo"]);
    }

    #[test]
    fn a_slip_round_trips_and_names_only_the_next_service() {
        let (_, slip) = advance(RoutingSlip::forward(ORDER, 7, stops(), 0, false), Some(2));
        let message = Message::WalletSlip(slip);
        let data = message.encode().expect("plain data encodes");
        assert_eq!(Message::decode(message.kind(), &data).expect("it was just encoded"), message);
        let fresh = RoutingSlip::forward(ORDER, 1, stops(), 0, false);
        assert!(fresh.next_step("stock").is_some());
        assert!(["orders", "coupons", "wallet", "payments"].iter().all(|other| fresh.next_step(other).is_none()));
        let broken = RoutingSlip { next: Some(99), ..fresh };
        assert!(["stock", "coupons", "wallet", "payments"].iter().all(|other| broken.next_step(other).is_none()));
    }
}
