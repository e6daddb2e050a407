//! Assignment of stream partitions to the instances of a service. Leases spread the partitions evenly. Safety comes from the fenced
//! positions, not from the leases.

use super::{
    fault::Fault,
    lease,
    notify::Notifications,
    position::{Position, StreamPartition},
    queue::Batch,
    source::{MessageSource, kafka_fault},
    subscriptions::sources,
    wakeup::Wakeup,
};
use crate::Service;
use db::Tx;
use kafka::Consumer;
use runtime::ports::Stopwatch;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// Interval at which leases are renewed and the spread is balanced: a third of a lease's lifetime.
const BALANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Prefix of the lease that each running instance of a service holds, so that instances can be counted.
pub const INSTANCE_LEASE_PREFIX: &str = "instance:";
const PARTITION_LEASE_PREFIX: &str = "lane:";

/// The partition that a lease is for. `None`: the lease is for something else.
pub fn leased_partition(lease: &str) -> Option<i64> {
    lease.strip_prefix(PARTITION_LEASE_PREFIX)?.parse().ok()
}

/// Pairs of reader and source over all services.
pub type Subscriptions = Arc<HashSet<(&'static str, &'static str)>>;

/// State that an engine needs when it is one of several.
pub struct PartitionAssignment {
    instance: Uuid,
    pub(super) notifications: Notifications,
    pub(super) message_source: MessageSource,
    /// Which service reads which stream, over all services of the mall.
    subscriptions: Subscriptions,
    consumer: Option<Consumer>,
    partitions: BTreeSet<i64>,
    since_balance: Option<Stopwatch>,
    /// Time since the leases were last renewed.
    since_renewal: Option<Stopwatch>,
    wakeup: Arc<Wakeup>,
}

impl PartitionAssignment {
    /// Subscribes the engine behind `batch` to wake-ups for the streams that `service` reads.
    pub fn new(
        instance: Uuid,
        notifications: Notifications,
        message_source: MessageSource,
        subscriptions: Subscriptions,
        service: &dyn Service,
        batch: &Batch,
    ) -> Result<PartitionAssignment, Fault> {
        let all: Vec<&'static str> = sources(service).into_iter().map(|(source, _)| source).collect();
        let wakeup = Arc::new(Wakeup::new(&all));
        let wake_fn = |source: Option<&'static str>, wanted: HashSet<&'static str>| {
            let (wakeup, batch, name) = (Arc::clone(&wakeup), batch.clone(), service.name());
            move |kinds: Option<&[&str]>| {
                if wakeup.notify(source, &wanted, kinds) {
                    batch.wake(name);
                }
            }
        };
        let consumer = message_source.open_consumer()?;
        match &consumer {
            Some(consumer) => {
                let wake_fn = wake_fn(None, HashSet::new());
                consumer.on_arrival(move || wake_fn(None));
            }
            None => {
                for (source, wanted) in sources(service) {
                    notifications.subscribe(source, Arc::new(wake_fn(Some(source), wanted)));
                }
            }
        }
        Ok(PartitionAssignment {
            instance,
            notifications,
            message_source,
            subscriptions,
            consumer,
            partitions: BTreeSet::new(),
            since_balance: None,
            since_renewal: None,
            wakeup,
        })
    }

    pub(super) fn is_read_by(&self, reader: &'static str, source: &'static str) -> bool {
        self.subscriptions.contains(&(reader, source))
    }

    /// The streams that may have new messages to act on. Each wake-up is returned once.
    pub(super) fn take_pending(&self) -> Vec<&'static str> {
        self.wakeup.pending.take()
    }

    /// True when a stream has new messages that its reader only skips.
    pub(super) fn has_deferred(&self) -> bool {
        self.wakeup.deferred.has_any()
    }

    /// The streams with new messages that their readers only skip. Each wake-up is returned once.
    pub(super) fn take_deferred(&self) -> Vec<&'static str> {
        self.wakeup.deferred.take()
    }

    /// Number of partitions to assign: the largest number that a stream read by this service has.
    async fn partition_count(&self, service: &dyn Service) -> Result<i64, Fault> {
        let mut count = 0;
        for (source, _) in sources(service) {
            count = count.max(self.message_source.find_stream(source).await?.map_or(0, |stream| stream.partitions));
        }
        Ok(count)
    }
}

/// Leases.
impl PartitionAssignment {
    /// True when the leases must be renewed and the spread balanced.
    pub(super) fn is_balance_due(&self) -> bool {
        self.since_balance.is_none_or(|since| since.elapsed() >= BALANCE_INTERVAL)
    }

    /// Renews this instance's leases, takes free partitions and releases those above its share. Returns the partitions it has then.
    pub(super) async fn balance(&mut self, tx: &mut Tx, service: &dyn Service) -> Result<BTreeSet<i64>, Fault> {
        let chosen = self.choose_partitions(tx, service).await;
        self.since_balance = Some(Stopwatch::start());
        self.since_renewal = self.since_balance;
        chosen
    }

    /// Replaces the assigned partitions. Returns those of before.
    pub(super) fn replace_partitions(&mut self, partitions: BTreeSet<i64>) -> BTreeSet<i64> {
        std::mem::replace(&mut self.partitions, partitions)
    }

    /// Renews the leases when they are due, in the middle of long work.
    pub(super) fn renew_leases(&mut self, tx: &mut Tx, service: &str) {
        if self.since_renewal.is_none_or(|since| since.elapsed() < BALANCE_INTERVAL) {
            return;
        }
        self.since_renewal = Some(Stopwatch::start());
        let renewed = futures::executor::block_on(async {
            tx.reconnect_if_lost().await?;
            lease::renew(tx, service, self.instance).await
        });
        if let Err(error) = renewed {
            tracing::debug!(service, %error, "lease renewal failed");
        }
    }

    async fn choose_partitions(&self, tx: &mut Tx, service: &dyn Service) -> Result<BTreeSet<i64>, Fault> {
        let (name, instance) = (service.name(), self.instance);
        let count = self.partition_count(service).await?;
        tx.reconnect_if_lost().await?;
        lease::renew(tx, name, instance).await?;
        if !self.message_source.is_ready() {
            // Takes no share, because this instance cannot read yet; the other instances keep the partitions.
            return Ok(BTreeSet::new());
        }
        lease::acquire(tx, name, &format!("{INSTANCE_LEASE_PREFIX}{instance}"), instance).await?;
        let instances = lease::running(tx, name, INSTANCE_LEASE_PREFIX).await?.len().max(1);
        let leased = lease::running(tx, name, PARTITION_LEASE_PREFIX).await?;
        let mut partitions: BTreeSet<i64> =
            leased.iter().filter(|(_, holder)| *holder == instance).filter_map(|(name, _)| leased_partition(name)).collect();
        let others: HashSet<i64> =
            leased.iter().filter(|(_, holder)| *holder != instance).filter_map(|(name, _)| leased_partition(name)).collect();
        let share = usize::try_from(count).unwrap_or(0).div_ceil(instances);
        for partition in (0..count).filter(|partition| !others.contains(partition)) {
            if partitions.len() >= share {
                break;
            }
            if !partitions.contains(&partition)
                && lease::acquire(tx, name, &format!("{PARTITION_LEASE_PREFIX}{partition}"), instance).await?.is_some()
            {
                partitions.insert(partition);
            }
        }
        while partitions.len() > share {
            let Some(partition) = partitions.pop_last() else { break };
            lease::release(tx, name, &format!("{PARTITION_LEASE_PREFIX}{partition}"), instance).await?;
        }
        lease::delete_expired(tx, name, INSTANCE_LEASE_PREFIX).await?;
        Ok(partitions)
    }

    /// Releases all leases, so that other instances need not wait until they expire.
    pub(super) fn release(&self, tx: &mut Tx, service: &str) {
        let mut names: Vec<String> = self.partitions.iter().map(|partition| format!("{PARTITION_LEASE_PREFIX}{partition}")).collect();
        names.push(format!("{INSTANCE_LEASE_PREFIX}{}", self.instance));
        let released = futures::executor::block_on(async {
            for lease in &names {
                lease::release(tx, service, lease, self.instance).await?;
            }
            Ok::<(), Fault>(())
        });
        if let Err(fault) = released {
            tracing::warn!(service, error = %fault, "lease release failed, leases expire by themselves");
        }
    }
}

/// The Kafka consumer. Each method does nothing where messages are read from tables.
impl PartitionAssignment {
    pub(super) fn reads_kafka(&self) -> bool {
        self.consumer.is_some()
    }

    pub(super) fn consumer(&mut self) -> Option<&mut Consumer> {
        self.consumer.as_mut()
    }

    /// Assigns a partition to the consumer, from behind this position.
    pub(super) fn consume_from(&mut self, stream: StreamPartition, position: Position, is_request_log: bool) -> Result<(), Fault> {
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        let StreamPartition { source, partition, .. } = stream;
        let assigned = match position.offset {
            offset if is_request_log => consumer.assign_log(source, partition, offset),
            // Without an offset, the sequence numbers tell which message is next: the stream was read from tables before, or the
            // offsets were deleted.
            None if position.seq > 0 => consumer.assign_oldest(source, partition),
            offset => consumer.assign(source, partition, offset),
        };
        assigned.map_err(kafka_fault)
    }

    pub(super) fn stop_consuming(&mut self, stream: StreamPartition) {
        if let Some(consumer) = &mut self.consumer {
            consumer.unassign(stream.source, stream.partition);
        }
    }

    /// Releases the messages up to this offset from the consumer's buffer.
    pub(super) fn advance_past(&mut self, stream: StreamPartition, offset: i64) {
        if let Some(consumer) = &mut self.consumer {
            consumer.advance_past(stream.source, stream.partition, offset);
        }
    }

    /// Messages of a topic's partition behind the consumer. `None`: unknown, or messages are read from tables.
    pub(super) fn behind(&self, stream: StreamPartition) -> Option<i64> {
        self.consumer.as_ref()?.lag(stream.source, stream.partition)
    }
}
