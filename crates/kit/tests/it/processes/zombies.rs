//! Zombies: processes that still act after they lost a lease. Their writes must have no effect (F20).

use super::world::{Mall, TRANSPORTS, Transport, new_order};
use kit::ports::new_id;
use std::{sync::atomic::Ordering, time::Duration};

/// Longer than two polls of a loop that polls every half second.
const TWO_POLLS: Duration = Duration::from_millis(1_600);

// F20, I-M4: a reader pauses in its transaction past the end of its lease, and another instance reads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reader_that_wakes_after_its_lease_changes_nothing() {
    for transport in TRANSPORTS {
        let mall = Mall::new(transport, 1).await;
        let (one, other) = (mall.join().await, mall.join().await);
        one.ask_all(5).await;
        mall.eventually("select count(*) from orders_asks where state='HELD'", 5).await;
        mall.check().await;
        let calls = || one.stock.calls.load(Ordering::SeqCst) + other.stock.calls.load(Ordering::SeqCst);
        let stalled = new_order();
        let open = mall.stall(stalled);
        let before = calls();
        other.ask_for(stalled).await;
        // The other instance waits for the lease, then handles the message.
        mall.eventually("select count(*) from orders_asks where state='HELD'", 6).await;
        assert_eq!(calls(), before + 2, "{transport:?}: one instance is inside the handler, the other has finished");
        let committed = mall.number("select count(*) from stock_seen").await;
        drop(open);
        // The resumed reader detects the loss of its lease, and both continue normally.
        tokio::time::sleep(TWO_POLLS).await;
        assert_eq!(mall.number("select count(*) from stock_seen").await, committed, "{transport:?}");
        futures::join!(one.ask_all(5), other.ask_all(5));
        mall.eventually("select count(*) from orders_asks where state='HELD'", 16).await;
        mall.check().await;
        assert_eq!(mall.number("select units from stock_shelf").await, super::world::STOCK - 16);
        futures::join!(one.stop(), other.stop());
    }
}

// F20, I-M7: another instance advanced the reader. This one reloads the position instead of repeating the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_position_has_no_effect_on_postgres() {
    let mall = Mall::new(Transport::Tables, 1).await;
    let instance = mall.join().await;
    instance.ask().await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    mall.check().await;
    // As if another instance had handled the next message.
    assert_eq!(mall.execute("update stock_positions set seq=seq+1 where source='orders'").await, 1);
    let calls = instance.stock.calls.load(Ordering::SeqCst);
    instance.ask().await;
    while instance.stock.calls.load(Ordering::SeqCst) == calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(TWO_POLLS).await;
    assert_eq!(mall.number("select count(*) from stock_seen").await, 1);
    assert_eq!(mall.number("select count(*) from stock_reservations").await, 1);
    assert_eq!(mall.number("select seq from stock_positions where source='orders'").await, 3, "position of the other instance");
    assert_eq!(mall.number("select count(*) from stock_dead_letters").await, 0, "a fenced reader writes no dead letter");
    instance.stop().await;
}

// F20, I-M2: a new owner raised the fence. The old sequencer numbers nothing until it has the lease again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequencer_behind_the_fence_numbers_nothing() {
    let mall = Mall::new(Transport::Tables, 1).await;
    let instance = mall.join().await;
    instance.ask().await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    mall.check().await;
    let head = mall.number("select max(seq) from orders_outbox").await;
    assert_eq!(mall.execute("update orders_stream set fence=fence+1").await, 1);
    instance.ask_all(3).await;
    tokio::time::sleep(TWO_POLLS).await;
    assert_eq!(mall.number("select count(*) from orders_pending").await, 3, "messages wait in the outbox");
    assert_eq!(mall.number("select max(seq) from orders_outbox").await, head);
    assert_eq!(mall.number("select max(seq) from orders_heads").await, head);
    // The new owner leaves. Its lease row still has the raised fence.
    let taken = format!("update orders_leases set holder='{}', fence=fence+1, until=0 where name='sequencer'", new_id());
    assert_eq!(mall.execute(&taken).await, 1);
    mall.eventually("select count(*) from orders_asks where state='HELD'", 4).await;
    mall.check().await;
    instance.stop().await;
}

// F20: a sequence number that exists is never used again, and no message is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_sequence_number_stops_the_sequencer() {
    let mall = Mall::new(Transport::Tables, 1).await;
    let instance = mall.join().await;
    mall.faults.hold("stock", "stock.commit");
    mall.faults.hold("coupons", "stock.commit");
    let foreign = format!(
        "insert into orders_outbox (epoch, partition, seq, key, kind, data, at) values (1,0,1,'{}','stock.commit','{{}}',0)",
        new_id()
    );
    mall.execute(&foreign).await;
    instance.ask_all(2).await;
    tokio::time::sleep(TWO_POLLS).await;
    assert_eq!(mall.number("select count(*) from orders_pending").await, 2);
    assert_eq!(mall.number("select count(*) from orders_outbox").await, 1);
    mall.execute("delete from orders_outbox").await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 2).await;
    mall.check().await;
    instance.stop().await;
}

// F20: a late relay does not move the mark of the next relay back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_relay_does_not_move_the_mark_back() {
    let mall = Mall::new(Transport::Kafka, 1).await;
    let (one, other) = (mall.join().await, mall.join().await);
    let mut highest = 0;
    for _ in 0..10 {
        mall.execute("update orders_leases set until=0 where name='relay'").await;
        futures::join!(one.ask_all(5), other.ask_all(5));
        let mark = mall.number("select coalesce(max(seq), 0) from orders_relay").await;
        assert!(mark >= highest, "{mark} after {highest}");
        highest = mark;
    }
    mall.eventually("select count(*) from orders_asks where state='HELD'", 100).await;
    mall.published("orders").await;
    mall.check().await;
    futures::join!(one.stop(), other.stop());
}
