use super::*;
use crate::{
    Code, MemberId, Won,
    messages::{CouponHold, PointsHold, RequestToStock, RequestToWallet, SlipStep, StepCommand, StockReserve, StockTake},
};
use uuid::Uuid;

const ORDER: OrderId = OrderId(Uuid::from_u128(1));
const NOW: Timestamp = Timestamp(5);

/// Records the actions of stock. Refuses the steps with this name.
#[derive(Default)]
struct RecordingStock {
    refuses: &'static str,
    actions: Vec<&'static str>,
}

impl Participant for RecordingStock {
    type Request<'m> = RequestToStock<'m>;
    type Error = String;

    fn execute(&mut self, request: RequestToStock<'_>, _: Timestamp) -> Result<Result<(), Refusal>, String> {
        let action = match request {
            RequestToStock::StockReserve(_) => "reserve",
            RequestToStock::StockTake(_) => "take",
        };
        self.actions.push(action);
        match self.refuses {
            "broken" => Err("a bug".to_owned()),
            refused => Ok(if refused == action { Err(Code::OutOfStock.into()) } else { Ok(()) }),
        }
    }
    fn undo(&mut self, order_id: OrderId, _: Timestamp) -> Result<(), String> {
        assert_eq!(order_id, ORDER);
        self.actions.push("undo");
        Ok(())
    }
    fn commit(&mut self, order_id: OrderId, _: Timestamp) -> Result<(), String> {
        assert_eq!(order_id, ORDER);
        self.actions.push("commit");
        Ok(())
    }
}

fn reserve() -> StockReserve {
    StockReserve { order_id: ORDER, reserve: vec![], check_only: vec![], expires_at: NOW }
}

fn take() -> SlipStep {
    SlipStep::StockTake(StockTake { order_id: ORDER, lines: vec![], expires_at: NOW })
}

fn points() -> SlipStep {
    let (member_id, amount) = (MemberId(Uuid::from_u128(2)), Won(1));
    SlipStep::PointsHold(PointsHold { order_id: ORDER, member_id, amount, expires_at: NOW })
}

/// Executes the message with a stock that refuses these steps. Returns the actions and the kind of the answer.
fn run(refuses: &'static str, message: &Message) -> (Vec<&'static str>, Option<Message>) {
    let mut stock = RecordingStock { refuses, actions: Vec::new() };
    let answer = execute_tasks(&mut stock, message, NOW).expect("no bug");
    (stock.actions, answer)
}

#[test]
fn a_command_is_executed_and_answered() {
    let command = StepCommand { order_id: ORDER };
    for (refuses, message, action, kind) in [
        ("", Message::StockReserve(reserve()), "reserve", Some("stock.reserved")),
        ("reserve", Message::StockReserve(reserve()), "reserve", Some("stock.refused")),
        ("", take().into(), "take", Some("stock.taken")),
        ("take", take().into(), "take", Some("stock.take_refused")),
        ("", Message::StockRelease(command), "undo", Some("stock.released")),
        ("", Message::StockCommit(command), "commit", None),
    ] {
        let (actions, answer) = run(refuses, &message);
        assert_eq!((actions, answer.as_ref().map(Message::kind)), (vec![action], kind), "{message:?}");
        assert_eq!(saga_tasks::<RequestToStock>(&message).count(), 1);
    }
}

#[test]
fn messages_to_other_services_are_left_alone() {
    let others_turn = RoutingSlip::forward(ORDER, 1, vec![SlipStep::StockReserve(reserve()), points()], 1, false);
    let ended = RoutingSlip { next: None, ..others_turn.clone() };
    for message in [points().into(), Message::OrdersSlip(others_turn), Message::OrdersSlip(ended), Message::StockSlip(out_of_range())] {
        assert_eq!(run("", &message), (vec![], None), "{message:?}");
        assert_eq!(saga_tasks::<RequestToStock>(&message).count(), 0);
    }
}

/// A slip whose next step does not exist.
fn out_of_range() -> RoutingSlip {
    RoutingSlip { next: Some(9), ..RoutingSlip::forward(ORDER, 1, vec![take()], 0, false) }
}

// G3
#[test]
fn neighbouring_steps_of_a_slip_are_executed_at_once() {
    let coupons =
        SlipStep::CouponHold(CouponHold { order_id: ORDER, member_id: MemberId(Uuid::from_u128(2)), coupons: vec![], expires_at: NOW });
    let steps = vec![coupons, SlipStep::StockReserve(reserve()), take(), points()];
    let message = Message::CouponsSlip(RoutingSlip::forward(ORDER, 1, steps, 1, false));
    assert_eq!(saga_tasks::<RequestToStock>(&message).count(), 2);
    assert_eq!(saga_tasks::<RequestToWallet>(&message).count(), 0, "stock comes first");
    let (actions, answer) = run("", &message);
    let Some(Message::StockSlip(slip)) = answer else { panic!("{answer:?}") };
    assert_eq!((actions, slip.next, slip.way, slip.log.len()), (vec!["reserve", "take"], Some(3), Direction::Forward, 2));
    let (actions, answer) = run("take", &message);
    let Some(Message::StockSlip(slip)) = answer else { panic!("{answer:?}") };
    assert_eq!((actions, slip.next, slip.way, slip.log.len()), (vec!["reserve", "take", "undo"], Some(0), Direction::Back, 3));
}

// G3
#[test]
fn a_slip_back_is_undone_and_passed_on() {
    let steps = vec![points(), SlipStep::StockReserve(reserve()), take()];
    let message = Message::OrdersSlip(RoutingSlip::back(ORDER, 2, steps));
    let tasks: Vec<_> = saga_tasks::<RequestToStock>(&message).collect();
    assert_eq!(tasks, [SagaTask { order_id: ORDER, action: SagaAction::Undo(SagaStep::StockReserve) }]);
    for _ in 0..2 {
        let (actions, answer) = run("", &message);
        let Some(Message::StockSlip(slip)) = answer else { panic!("{answer:?}") };
        assert_eq!((actions, slip.next, slip.way, slip.log.len()), (vec!["undo"], Some(0), Direction::Back, 1));
    }
}

#[test]
fn an_error_of_the_participant_ends_the_message() {
    let mut stock = RecordingStock { refuses: "broken", actions: Vec::new() };
    let slip = RoutingSlip::forward(ORDER, 1, vec![SlipStep::StockReserve(reserve()), take()], 0, false);
    assert_eq!(execute_tasks(&mut stock, &Message::OrdersSlip(slip), NOW), Err("a bug".to_owned()));
    assert_eq!(stock.actions, ["reserve"]);
}

// G3: a service that answers later passes on the slip that asked it.
#[test]
fn a_late_answer_goes_back_as_it_was_asked() {
    let request = reserve();
    let request = RequestToStock::StockReserve(&request);
    let slip = RoutingSlip::forward(ORDER, 1, vec![SlipStep::StockReserve(reserve()), points()], 0, false);
    assert_eq!(reply_result(request, None, Ok(()), NOW).kind(), "stock.reserved");
    assert_eq!(reply_result(request, None, Err(Code::OutOfStock.into()), NOW).kind(), "stock.refused");
    let Message::StockSlip(passed_on) = reply_result(request, Some(&slip), Ok(()), NOW) else { panic!("a slip") };
    assert_eq!((passed_on.next, passed_on.log.len()), (Some(1), 1));
    let undone = |slip| reply_undone::<RequestToStock>(SagaStep::StockReserve, ORDER, slip, NOW);
    assert_eq!(undone(None).as_ref().map(Message::kind), Some("stock.released"));
    let back = RoutingSlip::back(ORDER, 2, slip.stops[..1].to_vec());
    let Some(Message::StockSlip(passed_on)) = undone(Some(&back)) else { panic!("a slip") };
    assert_eq!((passed_on.next, passed_on.log.len()), (None, 1));
}
