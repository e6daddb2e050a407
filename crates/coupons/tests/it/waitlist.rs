use crate::support::*;
use contracts::{CouponId, MemberId, Message};
use serde_json::json;

/// A coupon of one unit, its owner, and its waiting members.
async fn queue(mall: &Mall, length: usize) -> (CouponId, MemberId, Vec<MemberId>) {
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    let (owner, waiters) = (member(), members(length));
    mall.get_one(coupon, owner).await;
    for member in &waiters {
        let _ = mall.claim(coupon, *member).await.expect(202);
    }
    (coupon, owner, waiters)
}

async fn positions(mall: &Mall, coupon: CouponId, members: &[MemberId]) -> Vec<i64> {
    let mut positions = Vec::new();
    for member in members {
        positions.push(mall.standing(coupon, *member).await.expect(200).body["position"].as_i64().unwrap_or(0));
    }
    positions
}

// C9
#[tokio::test]
async fn each_waiting_member_has_one_ticket_and_position() {
    let mall = Mall::open().await;
    let (coupon, _, waiters) = queue(&mall, 4).await;
    for (index, member) in waiters.iter().enumerate() {
        let again = mall.claim(coupon, *member).await.expect(202);
        assert_eq!(again.body, json!({"state": "waiting", "ticket": index + 1, "position": index + 1}));
        assert_eq!(mall.standing(coupon, *member).await.expect(200).body, again.body);
    }
    assert_eq!(mall.coupon_now(coupon).await["waiting"], 4);
}

// C9: also when the member's claims arrive together, behind a crowd that keeps the writer busy
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_claims_share_one_ticket() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    let me = member();
    let mut crowd = members(300);
    crowd.extend([me; 30]);
    let answers = mall.claim_all(coupon, &crowd).await;
    let mut tickets: Vec<_> = answers[300..].iter().map(|answer| answer.body["ticket"].as_i64()).collect();
    tickets.dedup();
    assert!(matches!(tickets.as_slice(), [Some(_)]), "{tickets:?}");
    assert_eq!(mall.coupon_now(coupon).await["waiting"], 300);
    mall.audit().await;
}

// C9, C10: a returned unit goes to exactly the next member, once, with one message
#[tokio::test]
async fn a_returned_unit_goes_to_the_next_member() {
    let mall = Mall::open().await;
    let (coupon, owner, waiters) = queue(&mall, 3).await;
    let _ = mall.give_back(coupon, owner).await.expect(204);
    let _ = mall.give_back(coupon, owner).await.expect(204);
    let served = mall.standing(coupon, waiters[0]).await.expect(200);
    assert_eq!((&served.body["state"], &served.body["number"]), (&json!("issued"), &json!(2)));
    assert_eq!(positions(&mall, coupon, &waiters).await, [0, 1, 2]);
    let messages: Vec<Message> = mall.app.messages("coupons").await.into_iter().map(|(_, message)| message).collect();
    let [Message::CouponIssued(first), Message::CouponCancelled(cancelled), Message::CouponIssued(second)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert_eq!((first.promoted, cancelled.member_id, second.promoted, second.member_id), (false, owner, true, waiters[0]));
    let _ = mall.claim(coupon, waiters[0]).await.expect_problem(409, "already-issued");
    mall.audit().await;
}

// C9: pretix #1163: a promoted unit that is returned goes to the next member
#[tokio::test]
async fn a_unit_returned_again_goes_down_the_queue() {
    let mall = Mall::open().await;
    let (coupon, owner, waiters) = queue(&mall, 3).await;
    let mut holder = owner;
    for (index, next) in waiters.iter().enumerate() {
        let _ = mall.give_back(coupon, holder).await.expect(204);
        assert_eq!(mall.standing(coupon, *next).await.expect(200).body["number"], index + 2);
        holder = *next;
    }
    let _ = mall.give_back(coupon, holder).await.expect(204);
    assert_eq!(mall.coupon_now(coupon).await["remaining"], 1);
    assert_eq!(mall.claim(coupon, member()).await.expect(201).body["number"], 5);
    mall.audit().await;
}

// C9: a new claim never overtakes, also when it arrives together with the return
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_claim_never_overtakes() {
    let mall = Mall::open().await;
    let (coupon, owner, waiters) = queue(&mall, 1).await;
    let newcomers = members(50);
    let (returned, answers) = tokio::join!(mall.give_back(coupon, owner), mall.claim_all(coupon, &newcomers));
    let _ = returned.expect(204);
    assert!(answers.iter().all(|answer| answer.status == 202), "{:?}", numbers(&answers));
    assert_eq!(mall.standing(coupon, waiters[0]).await.expect(200).body["state"], "issued");
    mall.audit().await;
}

// C9
#[tokio::test]
async fn a_departure_moves_later_members_up() {
    let mall = Mall::open().await;
    let (coupon, owner, waiters) = queue(&mall, 6).await;
    for leaver in [1, 4, 0] {
        let _ = mall.give_back(coupon, waiters[leaver]).await.expect(204);
        let _ = mall.give_back(coupon, waiters[leaver]).await.expect(204);
        let _ = mall.standing(coupon, waiters[leaver]).await.expect_problem(404, "not-found");
    }
    let staying = [waiters[2], waiters[3], waiters[5]];
    assert_eq!(positions(&mall, coupon, &staying).await, [1, 2, 3]);
    let _ = mall.give_back(coupon, owner).await.expect(204);
    assert_eq!(positions(&mall, coupon, &staying).await, [0, 1, 2]);
    // A member who left may come back, at the end.
    assert_eq!(mall.claim(coupon, waiters[1]).await.expect(202).body, json!({"state": "waiting", "ticket": 7, "position": 3}));
    mall.audit().await;
}

// C9: never after the end, and the waiting members see it
#[tokio::test]
async fn no_member_is_served_after_the_end() {
    let mall = Mall::open().await;
    let (coupon, owner, waiters) = queue(&mall, 2).await;
    mall.app.clock.advance(10 * DAY - HOUR);
    let until = mall.now().after(HOUR);
    let _ = mall.change(coupon, json!({"issue_until": until})).await.expect(200);
    mall.app.clock.advance(HOUR - std::time::Duration::from_micros(1));
    let _ = mall.change(coupon, json!({"quantity": 2})).await.expect(200);
    assert_eq!(mall.standing(coupon, waiters[0]).await.expect(200).body["state"], "issued", "a moment before the end");
    mall.app.clock.advance(std::time::Duration::from_micros(1));
    let _ = mall.change(coupon, json!({"quantity": 5})).await.expect(200);
    let _ = mall.give_back(coupon, owner).await;
    assert_eq!(mall.standing(coupon, waiters[1]).await.expect(200).body["state"], "waiting", "the pass has not come yet");
    let _ = mall.claim(coupon, waiters[1]).await.expect_problem(409, "closed");
    mall.app.job("coupons.promote").await;
    mall.app.job("coupons.close").await;
    assert_eq!(mall.standing(coupon, waiters[1]).await.expect(200).body, json!({"state": "closed", "ticket": 2}));
    assert_eq!(mall.coupon_now(coupon).await["waiting"], 0);
    mall.audit().await;
}

// C9: closed in bounded passes
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_waitlist_is_closed_completely() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 1, "waitlist": true})).await;
    let _ = mall.claim_all(coupon, &members(2_500)).await;
    mall.app.clock.advance(10 * DAY);
    mall.app.job("coupons.close").await;
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_waiting where state = 'CLOSED'").await, 2_499);
    mall.audit().await;
}

// C9: closed to new members, it still serves the waiting ones
#[tokio::test]
async fn a_closed_waitlist_still_serves() {
    let mall = Mall::open().await;
    let (coupon, owner, waiters) = queue(&mall, 2).await;
    let _ = mall.change(coupon, json!({"waitlist": false})).await.expect(200);
    let _ = mall.claim(coupon, member()).await.expect_problem(409, "sold-out");
    assert_eq!(mall.claim(coupon, waiters[1]).await.expect(202).body["position"], 2);
    let _ = mall.give_back(coupon, owner).await.expect(204);
    assert_eq!(positions(&mall, coupon, &waiters).await, [0, 1]);
    let _ = mall.give_back(coupon, waiters[0]).await.expect(204);
    assert_eq!(mall.standing(coupon, waiters[1]).await.expect(200).body["number"], 3);
    mall.audit().await;
}

// C5, C9: with a limit above one, a member may own a coupon and wait for another
#[tokio::test]
async fn a_member_can_wait_for_a_second_coupon() {
    let mall = Mall::open().await;
    let coupon = mall.announce(json!({"quantity": 2, "per_member": 2, "waitlist": true})).await;
    let (greedy, other) = (member(), member());
    mall.get_one(coupon, greedy).await;
    mall.get_one(coupon, other).await;
    let _ = mall.claim(coupon, greedy).await.expect(202);
    let _ = mall.give_back(coupon, other).await.expect(204);
    assert_eq!(mall.standing(coupon, greedy).await.expect(200).body["number"], 3);
    let _ = mall.claim(coupon, greedy).await.expect_problem(409, "already-issued");
    assert_eq!(mall.my_coupons(greedy, "").await["items"].as_array().unwrap().len(), 2);
    mall.audit().await;
}
