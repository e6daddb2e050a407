//! Instances join and leave while messages flow.

use super::world::{Mall, TRANSPORTS};
use std::{collections::VecDeque, time::Duration};

const ROUNDS: usize = 5;

// F19, I-M4 to I-M6: readers move between instances every second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frequent_rebalances_lose_and_repeat_nothing() {
    for transport in TRANSPORTS {
        let mall = Mall::new(transport, 4).await;
        let mut running = VecDeque::from([mall.join().await, mall.join().await]);
        let (mut asked, mut before, mut moves) = (0, 0, 0);
        for _ in 0..ROUNDS {
            running.push_back(mall.join().await);
            let oldest = running.pop_front().unwrap();
            let (stayed, first) = (running.back().unwrap(), running.front().unwrap());
            let asking = async {
                for _ in 0..10 {
                    futures::join!(stayed.ask_all(3), first.ask_all(3));
                    tokio::time::sleep(Duration::from_millis(90)).await;
                }
            };
            futures::join!(asking, oldest.stop());
            asked += 60;
            moves += u32::from(mall.held().await > before);
            before = mall.held().await;
        }
        // A rebalance takes about as long as a round. At least two rounds must still make progress.
        assert!(moves >= 2, "{transport:?}: {before} of {asked} completed during the rebalances");
        mall.eventually("select count(*) from orders_asks where state='HELD'", asked).await;
        mall.check().await;
        for instance in running {
            instance.stop().await;
        }
    }
}
