//! Positions move with committed transactions only, and exactly as staged.

use super::{
    fault::Fault,
    flushing::PositionFlush,
    log::{self, StoredMessage},
    position::{Position, SOLE_PARTITION, StreamPartition},
    readers::Readers,
    retries::DEAD_LETTER_AFTER,
    setup::Services,
    transaction::Transaction,
    work::Work,
};
use crate::{
    Service,
    rows::{Changed, Rows},
};
use contracts::{Kind, Message, OrderId, Timestamp, messages::StockReserve};
use db::{Db, DbError, Synchronous, params};
use futures::executor::block_on;
use runtime::ports::ManualClock;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;
use uuid::Uuid;

/// The time of every message and transaction.
const START: Timestamp = Timestamp(1_795_132_800_000_000);

struct TestService {
    name: &'static str,
    reads: &'static [Kind],
}

impl Service for TestService {
    fn name(&self) -> &'static str {
        self.name
    }
    fn reads(&self) -> &'static [Kind] {
        self.reads
    }
}

/// The readers of orders' stream, and the transactions that move them.
struct World {
    readers: Readers,
    transaction: Transaction,
    _folder: TempDir,
}

const STREAM: StreamPartition = StreamPartition { source: "orders", epoch: 1, partition: SOLE_PARTITION };
/// Indices of the readers.
const STOCK: usize = 0;
const COUPONS: usize = 1;
const PAYMENTS: usize = 2;

fn at(seq: i64) -> Position {
    Position { seq, offset: None }
}

fn stock_reserve() -> Message {
    Message::StockReserve(StockReserve { order_id: OrderId(Uuid::nil()), reserve: vec![], check_only: vec![], expires_at: START })
}

/// A stored message that only the stock service handles.
fn stored(seq: i64) -> StoredMessage {
    let (kind, data) = ("stock.reserve".to_owned(), String::new());
    StoredMessage { seq, key: Uuid::nil(), kind, data, at: START, trace: None, offset: None }
}

impl World {
    fn open() -> World {
        let reads: [(&str, &[Kind]); 4] =
            [("orders", &[]), ("stock", &[Kind::StockReserve]), ("coupons", &[Kind::CouponHold]), ("payments", &[Kind::PaymentRequest])];
        let service = |(name, reads)| Arc::new(TestService { name, reads }) as Arc<dyn Service>;
        let services: Services = reads.into_iter().map(service).collect();
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path().join("engine.db"), Synchronous::Normal);
        let mut transaction = block_on(Transaction::open(&db, services.clone(), Arc::new(ManualClock::at(START)), true)).unwrap();
        let mut readers = Readers::new(services, None, DEAD_LETTER_AFTER);
        let (tx, streams) = transaction.tx_and_streams();
        block_on(readers.open_sole(tx, streams)).unwrap();
        assert_eq!(readers.iter().map(|reader| reader.name()).collect::<Vec<_>>(), ["stock", "coupons", "payments"]);
        World { readers, transaction, _folder: folder }
    }

    fn attempt(&mut self, body: impl AsyncFnOnce(&mut Work, &mut Readers) -> Result<(), Fault>) -> Result<(), Fault> {
        self.transaction.attempt(&mut self.readers, &[], body)
    }

    /// The positions in memory, and in the tables.
    fn positions(&mut self) -> [(i64, i64); 3] {
        [STOCK, COUPONS, PAYMENTS].map(|index| {
            let reader = self.readers.get(index);
            let (in_table, _) = block_on(log::read_position(self.transaction.tx(), reader.name(), STREAM)).unwrap();
            assert_eq!(reader.stored_position(), in_table);
            (reader.position().seq, in_table)
        })
    }
}

#[test]
fn a_commit_moves_exactly_the_staged_readers() {
    let mut world = World::open();
    let body = async |_: &mut Work, readers: &mut Readers| {
        readers.stage(STOCK, at(2));
        readers.stage(STOCK, at(3));
        readers.stage(PAYMENTS, at(1));
        assert_eq!((readers.get(STOCK).position(), readers.get(STOCK).reached()), (at(0), at(3)));
        Ok(())
    };
    world.attempt(body).unwrap();
    assert_eq!(world.positions(), [(3, 3), (0, 0), (1, 1)]);
    world.attempt(async |_: &mut Work, _: &mut Readers| Ok(())).unwrap();
    assert_eq!(world.positions(), [(3, 3), (0, 0), (1, 1)], "nothing is staged any more");
}

#[test]
fn a_rollback_leaves_every_position_as_it_was() {
    let mut world = World::open();
    let stage_all = |readers: &mut Readers, seq| [STOCK, COUPONS, PAYMENTS].into_iter().for_each(|index| readers.stage(index, at(seq)));
    let body = async |_: &mut Work, readers: &mut Readers| {
        stage_all(readers, 4);
        Ok(())
    };
    world.attempt(body).unwrap();
    let body = async |_: &mut Work, readers: &mut Readers| {
        stage_all(readers, 5);
        Err(Fault::Injected("in the body".into()))
    };
    assert!(matches!(world.attempt(body), Err(Fault::Injected(_))));
    assert_eq!(world.positions(), [(4, 4); 3]);
    let body = async |_: &mut Work, readers: &mut Readers| {
        stage_all(readers, 6);
        panic!("in the body");
    };
    assert!(matches!(world.attempt(body), Err(Fault::Panic(_))));
    assert_eq!(world.positions(), [(4, 4); 3]);
    world.attempt(async |_: &mut Work, _: &mut Readers| Ok(())).unwrap();
    assert_eq!(world.positions(), [(4, 4); 3], "nothing is staged any more");
}

#[test]
fn a_position_moved_by_another_instance_fences_the_writer() {
    let mut world = World::open();
    let reader = world.readers.get(STOCK).name();
    let sql = format!("insert into {reader}_positions (source, epoch, partition, seq) values ('orders', 1, 0, 7)");
    block_on(world.transaction.tx().execute(&sql, &params![])).unwrap();
    let body = async |_: &mut Work, readers: &mut Readers| {
        readers.stage(STOCK, at(1));
        readers.stage(COUPONS, at(1));
        Ok(())
    };
    assert!(matches!(world.attempt(body), Err(Fault::Fenced(_))));
    let positions: Vec<Position> = world.readers.iter().map(|reader| reader.position()).collect();
    assert_eq!(positions, [at(0); 3]);
}

#[test]
fn a_skip_moves_the_reader_in_memory_until_the_flush() {
    let mut world = World::open();
    let (mut flush, waiting) = (PositionFlush::default(), [stored(1), stored(2)]);
    assert!(!world.readers.skip(STOCK, &waiting), "the stock service handles them");
    assert!(world.readers.skip(COUPONS, &waiting));
    assert_eq!(world.positions(), [(0, 0), (2, 0), (0, 0)]);
    assert!(flush.is_due(&world.readers));
    flush.flush(&mut world.readers, &mut world.transaction);
    assert_eq!(world.positions(), [(0, 0), (2, 2), (0, 0)]);
    assert!(!flush.is_due(&world.readers));
}

#[test]
fn a_sole_reader_is_due_while_it_is_behind_the_head() {
    let mut world = World::open();
    world.readers.mark_due(world.transaction.heads());
    assert!(world.readers.iter().all(|reader| !reader.is_due()));
    let body = async |work: &mut Work, readers: &mut Readers| {
        work.act_as("orders");
        work.emit(Uuid::nil(), stock_reserve())?;
        readers.stage(COUPONS, at(1));
        Ok(())
    };
    world.attempt(body).unwrap();
    world.readers.mark_due(world.transaction.heads());
    assert_eq!(world.readers.iter().map(|reader| reader.is_due()).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_rollback_gives_its_sequence_numbers_back() {
    let mut world = World::open();
    for (has_failed, head) in [(false, 1), (true, 1), (false, 2)] {
        let body = async |work: &mut Work, _: &mut Readers| {
            work.act_as("orders");
            work.emit(Uuid::nil(), stock_reserve())?;
            if has_failed { Err(Fault::Injected("in the body".into())) } else { Ok(()) }
        };
        assert_eq!(world.attempt(body).is_err(), has_failed);
        assert_eq!(world.transaction.heads()["orders"], head);
    }
}

type Shelves = Rows<i64, i64>;

async fn save_shelves(work: &mut Work) -> Result<(), DbError> {
    let (tx, shelves) = work.rows::<Shelves>();
    let Changed { new, existing } = shelves.take_changed();
    tx.execute_many("insert into stock_shelf (id, units) values (1,$1)", new.iter().map(|units| params![**units])).await?;
    tx.execute_many("update stock_shelf set units=$1 where id=1", existing.iter().map(|units| params![**units])).await?;
    Ok(())
}

#[test]
fn a_row_changed_after_a_save_is_saved_again() {
    let mut world = World::open();
    block_on(world.transaction.tx().batch("create table stock_shelf (id BIGINT primary key, units BIGINT not null)")).unwrap();
    let body = async |work: &mut Work, _: &mut Readers| {
        for units in [5, 4] {
            work.loaded::<Shelves>().put(1, units);
        }
        save_shelves(work).await?;
        **work.loaded::<Shelves>().get_mut(1).unwrap() -= 1;
        Ok(save_shelves(work).await?)
    };
    world.attempt(body).unwrap();
    let (units,): (i64,) = block_on(world.transaction.tx().query_one("select units from stock_shelf", &[])).unwrap();
    assert_eq!(units, 3);
    let body = async |work: &mut Work, _: &mut Readers| {
        assert!(work.loaded::<Shelves>().get(1).is_none(), "rows end with their transaction");
        Ok(())
    };
    world.attempt(body).unwrap();
}

#[test]
fn hooks_learn_the_outcome_and_survive_a_panicking_hook() {
    let mut world = World::open();
    for (has_failed, durable, lost) in [(false, 1, 0), (true, 0, 1)] {
        let counts = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let seen = Arc::clone(&counts);
        let body = async |work: &mut Work, _: &mut Readers| {
            work.at_end(|_| panic!("in a hook"));
            work.at_end(move |is_durable| {
                let count = if is_durable { &seen.0 } else { &seen.1 };
                count.fetch_add(1, Ordering::SeqCst);
            });
            if has_failed { Err(Fault::Injected("in the body".into())) } else { Ok(()) }
        };
        assert_eq!(world.attempt(body).is_err(), has_failed);
        assert_eq!((counts.0.load(Ordering::SeqCst), counts.1.load(Ordering::SeqCst)), (durable, lost));
    }
}
