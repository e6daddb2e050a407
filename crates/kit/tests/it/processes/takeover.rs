//! A reader loads its position while the previous owner commits.

use super::world::{Mall, Transport, commit, new_order};
use testkit::START;

/// The last transaction of the previous owner: dead-letters the first message and advances.
const DEAD_LETTER_AND_ADVANCE: &str = "lock table stock_positions in access exclusive mode;
    insert into stock_dead_letters (source, epoch, partition, seq, key, kind, data, written_at, error, state, at)
        select 'orders', epoch, partition, seq, key, kind, data, at, 'bug: it fails', 'dead', at from orders_outbox where seq=1;
    insert into stock_deliveries (source, epoch, partition, from_seq, to_seq, at)
        select 'orders', epoch, partition, 1, 1, at from orders_outbox where seq=1;
    insert into stock_positions (source, epoch, partition, seq) values ('orders', 1, 0, 1)";

// I-M8, F20: the owner of a position also knows the dead letters before it. The position is loaded while it moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_over_knows_earlier_dead_letters() {
    let mall = Mall::new(Transport::Tables, 1).await;
    let before = mall.join().await;
    mall.faults.hold("stock", "stock.reserve");
    let order = before.ask().await;
    mall.eventually("select count(*) from orders_outbox", 1).await;
    let data = commit(order).encode().unwrap();
    let later =
        format!("insert into orders_pending (partition, key, kind, data, at) values (0,'{}','stock.commit','{data}',{})", order.0, START.0);
    assert_eq!(mall.execute(&later).await, 1);
    mall.eventually("select count(*) from orders_outbox", 2).await;
    before.stop().await;
    mall.faults.release("stock", "stock.reserve");
    let mut late = mall.open_transaction(DEAD_LETTER_AND_ADVANCE).await;
    let next = mall.join().await;
    let waits = "select count(*) from pg_locks where not granted and relation='stock.stock_positions'::regclass";
    mall.eventually(waits, 1).await;
    late.commit().await.unwrap();
    mall.eventually("select seq from stock_positions where source='orders'", 2).await;
    let letters: Vec<(i64, String)> = mall.rows("select seq, state from stock_dead_letters order by seq").await;
    assert_eq!(letters, [(1, "dead".to_owned()), (2, "parked".to_owned())]);
    assert_eq!(mall.number("select count(*) from stock_seen").await, 0, "a message overtook the dead letter");
    next.ask_for(new_order()).await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    mall.check().await;
    next.stop().await;
}
