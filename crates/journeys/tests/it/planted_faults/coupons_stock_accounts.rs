//! Faults in coupons, stock and accounts.

use super::{PlantedFault, fault};

pub fn planted_faults() -> Vec<PlantedFault> {
    [coupons(), stock(), accounts(), closed_accounts()].into_iter().flatten().collect()
}

fn coupons() -> Vec<PlantedFault> {
    const ISSUED: &[&str] = &["coupons_issued"];
    vec![
        fault("I-C1", &["coupons_definitions"], "update coupons_definitions set quantity=2", "{coupon}"),
        fault("I-C1", &["coupons_definitions"], "update coupons_definitions set issued=issued-1", "{coupon}"),
        fault("I-C2", ISSUED, "update coupons_issued set member_id={buyer} where member_id<>{buyer}", "{buyer}"),
        fault("I-C3", ISSUED, "update coupons_issued set number=9 where number=2", "{coupon}"),
        fault("I-C3", ISSUED, "update coupons_issued set number=2 where number=3", "{coupon}"),
        fault("I-C3", ISSUED, "update coupons_issued set number=number+1", "{coupon}"),
        fault("I-C5", &[], "update coupons_issued set order_id={unpaid} where state='USED'", "{unpaid}"),
        fault("I-C5", &[], "update coupons_issued set order_id=x'00000000000000000000000000000001' where state='USED'", "00000000-"),
        // A paid order that did not use the coupon.
        fault("I-C5", &[], "update coupons_issued set order_id={tested} where state='USED'", "{tested}"),
        fault(
            "I-C6",
            &[],
            "insert into orders_coupons select {unpaid}, issued_coupon_id, name, scope, store_id, base, discount from orders_coupons
             where order_id={paid}",
            " 2",
        ),
        fault("I-C7", ISSUED, "update coupons_issued set used_at=expires_at where state='USED'", " "),
        fault("I-C9", &[], "update orders_orders set discount=-1 where id={paid}", "{paid}"),
        fault("I-C9", &[], "update orders_orders set discount=subtotal+1 where id={paid}", "{paid}"),
        fault("I-C9", &[], "update orders_orders set points_used=-1 where id={paid}", "{paid}"),
        fault("I-C9", &[], "update orders_orders set shipping=-1 where id={paid}", "{paid}"),
        fault("I-C9", &[], "update orders_orders set total=-1 where id={paid}", "{paid}"),
        fault(
            "I-W1",
            &[],
            "update coupons_waiting set state=case state when 'ADMITTED' then 'WAITING' else 'ADMITTED' end where ticket in (1,2)",
            "{coupon} 2",
        ),
        fault("I-W1", &["coupons_definitions"], "update coupons_definitions set waiting=waiting+1", "{coupon} 2"),
    ]
}

fn stock() -> Vec<PlantedFault> {
    const ITEMS: &[&str] = &["stock_items"];
    const MOVEMENTS: &[&str] = &["stock_movements"];
    vec![
        fault("I-S1", ITEMS, "update stock_items set on_hand=-1 where sku={sku}", "{sku}"),
        fault("I-S1", ITEMS, "update stock_items set reserved=-1 where sku={sku}", "{sku}"),
        fault("I-S1", ITEMS, "update stock_items set reserved=on_hand+1 where sku={sku}", "{sku}"),
        fault("I-S1", ITEMS, "update stock_items set sold=-1 where sku={sku}", "{sku}"),
        fault("I-S2", &[], "update stock_items set on_hand=on_hand+1 where sku={sku}", "{sku}"),
        fault("I-S2", &[], "update stock_items set sold=sold+1 where sku={sku}", "{sku}"),
        fault("I-S2", &[], "delete from stock_movements where sku={sku}", "{sku}"),
        fault("I-S3", &[], "update stock_items set reserved=reserved+1 where sku={sku}", "{sku}"),
        fault("I-S3", &[], "update stock_holds set state='RELEASED' where order_id={unpaid}", "{sku}"),
        fault(
            "I-S4",
            MOVEMENTS,
            "insert into stock_movements select sku, n+100, kind, quantity, order_id, line_no, reason, at from stock_movements
             where kind='SALE' and order_id={paid}",
            "{paid}",
        ),
        fault("I-S5", &[], "update stock_reservations set expires_at=1 where order_id={unpaid}", "{unpaid}"),
        // The final stock is right, but at one time more was sold than there was.
        fault(
            "I-S6",
            MOVEMENTS,
            "insert into stock_movements (sku, n, kind, quantity, at) values ({sku}, 0, 'ADJUST', -1, 1), ({sku}, 900, 'ADJUST', 1, 1)",
            "{sku}",
        ),
    ]
}

fn accounts() -> Vec<PlantedFault> {
    const TOKENS: &[&str] = &["accounts_refresh_tokens"];
    let another = |state: &str| {
        format!(
            "insert into accounts_refresh_tokens select x'00', session_id, '{state}', issued_at, expires_at from accounts_refresh_tokens
             where session_id={{session}} limit 1"
        )
    };
    let cookie = |expires_at: &str| {
        format!("insert into accounts_web_sessions select x'00', id, {expires_at} from accounts_sessions where id={{session}}")
    };
    let ended = format!("update accounts_sessions set revoked_at=1, reason='signed_out' where id={{session}}; {}", cookie("1"));
    vec![
        fault("I-A4", &[], cookie("expires_at+1"), "{session}"),
        fault("I-A4", &[], ended, "{session}"),
        fault("I-A2", TOKENS, another("LIVE"), "{session}"),
        fault("I-A2", TOKENS, another("REUSED"), "{session}"),
        fault(
            "I-A3",
            &["orders_idempotency"],
            "insert into orders_idempotency select * from orders_idempotency where operation='orders.create' limit 1",
            "orders orders.create",
        ),
        fault(
            "I-A3",
            &["wallet_idempotency"],
            "update wallet_idempotency set request_hash=null where operation='wallet.charge'",
            "wallet wallet.charge",
        ),
        fault(
            "I-A3",
            &["orders_idempotency"],
            "update orders_idempotency set body=null where operation='orders.cancel'",
            "orders orders.cancel",
        ),
    ]
}

/// Things that a closed account must not have.
fn closed_accounts() -> Vec<PlantedFault> {
    let settled = "update accounts_members set closings=2 where id={closed}";
    let late = "insert into stores_stores (id, name, seller_id, created_at)";
    vec![
        fault("I-A6", &["accounts_sessions"], "update accounts_sessions set revoked_at=null where member_id={closed}", "{closed} session"),
        fault(
            "I-A6",
            &["accounts_idempotency"],
            "insert into accounts_idempotency (scope, operation, key, request_hash, status, body, at)
             values ({closed}, 'accounts.edit_me', 'k', x'00', 200, x'7b7d', 1)",
            "{closed} stored answer",
        ),
        fault("I-A6", &[], format!("{late} values (x'01', 'Wine', {{closed}}, 1)"), "{closed} store"),
        fault(
            "I-A6",
            &[],
            format!("{settled}; {late} select x'01', 'Wine', id, closed_at+1 from accounts_members where id={{closed}}"),
            "{closed} store",
        ),
        fault("I-A6", &[], format!("{settled}; insert into orders_cart_items values ({{closed}}, {{sku}}, 1)"), "{closed} cart"),
        fault("I-A6", &[], "update orders_orders set member_id={closed} where id={unpaid}", "{closed} unpaid order {unpaid}"),
        fault("I-A6", &[], "update wallet_accounts set balance=5 where owner_id={closed} and kind='REWARD'", "{closed} points 5"),
        fault("I-A6", &["coupons_issued"], "update coupons_issued set member_id={closed} where state='ISSUED'", "{closed} coupon"),
        fault(
            "I-A6",
            &["coupons_waiting"],
            "update coupons_waiting set member_id={closed} where ticket=(select max(ticket) from coupons_waiting where state='WAITING')",
            "{closed} waiting",
        ),
    ]
}
