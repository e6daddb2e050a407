//! Assignment of stream partitions to the instances of a service. Leases spread the partitions evenly. Safety comes from the fenced
//! positions, not from the leases.

use super::{Engine, Fault, MessageSource, lease, notify::Notifications, reader::sources, wakeup::Wakeup};
use crate::{batch::Batch, engine::Service, kafka::Consumer, ports::Stopwatch};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// Interval at which leases are renewed and the spread is balanced: a third of a lease's lifetime.
const BALANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Prefix of the lease that each running instance of a service holds, so that instances can be counted.
pub(crate) const INSTANCE_LEASE_PREFIX: &str = "instance:";
const PARTITION_LEASE_PREFIX: &str = "lane:";

/// The partition that a lease is for. `None`: the lease is for something else.
pub(crate) fn leased_partition(lease: &str) -> Option<i64> {
    lease.strip_prefix(PARTITION_LEASE_PREFIX)?.parse().ok()
}

/// Pairs of reader and source over all services.
pub type Subscriptions = Arc<HashSet<(&'static str, &'static str)>>;

/// State that an engine needs when it is one of several.
pub struct PartitionAssignment {
    pub instance: Uuid,
    pub notifications: Notifications,
    pub message_source: MessageSource,
    /// Which service reads which stream, over all services of the mall.
    subscriptions: Subscriptions,
    pub(super) consumer: Option<Consumer>,
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

impl Engine {
    /// Renews this instance's leases, takes free partitions and releases those above its share. Does nothing where the engine is the only
    /// one.
    pub(super) fn balance_partitions(&mut self) {
        let is_due = self
            .assignment
            .as_ref()
            .is_some_and(|assignment| assignment.since_balance.is_none_or(|since| since.elapsed() >= BALANCE_INTERVAL));
        if !is_due {
            return;
        }
        let Some(mut assignment) = self.assignment.take() else { return };
        let service = Arc::clone(&self.services[0]);
        let chosen = futures::executor::block_on(self.choose_partitions(&mut assignment, service.as_ref()));
        assignment.since_balance = Some(Stopwatch::start());
        assignment.since_renewal = assignment.since_balance;
        self.assignment = Some(assignment);
        match chosen {
            Ok(partitions) => self.apply_assignment(partitions),
            // This instance keeps its partitions. If its leases run out, the fenced positions keep a late write from doing harm.
            Err(fault) => tracing::warn!(service = service.name(), error = %fault, "partition balancing failed"),
        }
    }

    /// Renews the leases in the middle of long work. Leaves the readers as they are, because they may be in the middle of a delivery.
    pub(super) fn renew_leases(&mut self) {
        let name = self.services[0].name();
        let Some(assignment) = &mut self.assignment else { return };
        if assignment.since_renewal.is_none_or(|since| since.elapsed() < BALANCE_INTERVAL) {
            return;
        }
        assignment.since_renewal = Some(Stopwatch::start());
        let (instance, tx) = (assignment.instance, &mut self.work.tx);
        let renewed = futures::executor::block_on(async {
            tx.reconnect_if_lost().await?;
            lease::renew(tx, name, instance).await
        });
        if let Err(error) = renewed {
            tracing::debug!(service = name, %error, "lease renewal failed");
        }
    }

    async fn choose_partitions(&mut self, assignment: &mut PartitionAssignment, service: &dyn Service) -> Result<BTreeSet<i64>, Fault> {
        let (name, instance) = (service.name(), assignment.instance);
        let count = assignment.partition_count(service).await?;
        let tx = &mut self.work.tx;
        tx.reconnect_if_lost().await?;
        lease::renew(tx, name, instance).await?;
        if !assignment.message_source.is_ready() {
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

    fn apply_assignment(&mut self, partitions: BTreeSet<i64>) {
        let Some(assignment) = &mut self.assignment else { return };
        let before = std::mem::replace(&mut assignment.partitions, partitions.clone());
        if let Some(consumer) = &mut assignment.consumer {
            for reader in self.readers.iter().filter(|reader| !partitions.contains(&reader.stream.partition)) {
                consumer.unassign(reader.stream.source, reader.stream.partition);
            }
        }
        self.readers.retain(|reader| partitions.contains(&reader.stream.partition));
        self.stalls.retain_partitions(|partition| partitions.contains(&partition));
        for partition in partitions {
            // A partition without any reader is opened again: its streams may have been absent the first time.
            let is_new = !before.contains(&partition) || !self.readers.iter().any(|reader| reader.stream.partition == partition);
            if is_new && let Err(fault) = futures::executor::block_on(self.open_partition(partition)) {
                tracing::warn!(service = self.services[0].name(), partition, error = %fault, "partition not opened");
                self.readers.retain(|reader| reader.stream.partition != partition);
            }
        }
    }

    /// Releases all leases, so that other instances need not wait until they expire.
    pub(super) fn release_partitions(&mut self) {
        let Some(assignment) = self.assignment.take() else { return };
        let name = self.services[0].name();
        let mut names: Vec<String> = assignment.partitions.iter().map(|partition| format!("{PARTITION_LEASE_PREFIX}{partition}")).collect();
        names.push(format!("{INSTANCE_LEASE_PREFIX}{}", assignment.instance));
        let tx = &mut self.work.tx;
        let released = futures::executor::block_on(async {
            for lease in &names {
                lease::release(tx, name, lease, assignment.instance).await?;
            }
            Ok::<(), Fault>(())
        });
        if let Err(fault) = released {
            tracing::warn!(service = name, error = %fault, "lease release failed, leases expire by themselves");
        }
    }
}
