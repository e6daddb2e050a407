//! Which partitions this instance of a service reads. Leases spread them evenly over the instances; positions are what makes it safe.

use super::{Engine, Fault, MessageSource, lease, notify::Notifications, reader::sources, wakeup::Wakeup};
use crate::{batch::Batch, kafka::Consumer, ports::Stopwatch, service::Service};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// How often leases are renewed and the spread is looked at; a third of what a lease lasts.
const BALANCE_INTERVAL: Duration = Duration::from_secs(1);
/// The lease each instance of a service has for being there.
pub(crate) const INSTANCE_LEASE_PREFIX: &str = "instance:";
const PARTITION_LEASE_PREFIX: &str = "lane:";

/// Which partition a lease is for, if it is for one.
pub(crate) fn leased_partition(lease: &str) -> Option<i64> {
    lease.strip_prefix(PARTITION_LEASE_PREFIX)?.parse().ok()
}

/// (reader, source) over all services.
pub type Subscriptions = Arc<HashSet<(&'static str, &'static str)>>;

/// What an engine needs to be one of several.
pub struct PartitionAssignment {
    pub instance: Uuid,
    pub notifications: Notifications,
    pub message_source: MessageSource,
    /// Who reads which stream, over all services of the mall.
    subscriptions: Subscriptions,
    pub(super) consumer: Option<Consumer>,
    partitions: BTreeSet<i64>,
    since_balance: Option<Stopwatch>,
    /// When the leases were last renewed.
    since_renewal: Option<Stopwatch>,
    wakeup: Arc<Wakeup>,
}

impl PartitionAssignment {
    /// Has the engine behind `batch` woken when a stream that `service` reads goes on.
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

    /// The streams that may have gone on; each is said once after it was rung for.
    pub(super) fn take_pending(&self) -> Vec<&'static str> {
        self.wakeup.pending.take()
    }

    /// Whether a stream went on by what there is only to pass over.
    pub(super) fn has_deferred(&self) -> bool {
        self.wakeup.deferred.has_any()
    }

    /// The streams that did.
    pub(super) fn take_deferred(&self) -> Vec<&'static str> {
        self.wakeup.deferred.take()
    }

    /// How many partitions the streams that a service reads have: so many assignment there are.
    async fn partition_count(&self, service: &dyn Service) -> Result<i64, Fault> {
        let mut count = 0;
        for (source, _) in sources(service) {
            count = count.max(self.message_source.find_stream(source).await?.map_or(0, |stream| stream.partitions));
        }
        Ok(count)
    }
}

impl Engine {
    /// Renews this instance's leases, takes assignment nobody reads and gives up what is more than its share. Nothing to do where it is alone.
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
            // Positions keep a late one from doing harm; it goes on with what it has.
            Err(fault) => tracing::warn!(service = service.name(), error = %fault, "partition balancing failed"),
        }
    }

    /// Keeps what it has, where the next look may be far away. Readers stay as they are: they may be in the middle of a delivery.
    pub(super) fn renew_leases(&mut self) {
        let name = self.services[0].name();
        let Some(assignment) = &mut self.assignment else { return };
        if assignment.since_renewal.is_none_or(|since| since.elapsed() < BALANCE_INTERVAL) {
            return;
        }
        assignment.since_renewal = Some(Stopwatch::start());
        let (instance, tx) = (assignment.instance, &mut self.work.tx);
        let renewed = futures::executor::block_on(async {
            tx.revive().await?;
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
        tx.revive().await?;
        lease::renew(tx, name, instance).await?;
        if !assignment.message_source.is_ready() {
            // Whoever is there is left a share, and this one could not read it.
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
            // A partition whose streams were not there yet has no reader and is looked at again.
            let is_new = !before.contains(&partition) || !self.readers.iter().any(|reader| reader.stream.partition == partition);
            if is_new && let Err(fault) = futures::executor::block_on(self.open_partition(partition)) {
                tracing::warn!(service = self.services[0].name(), partition, error = %fault, "partition not opened");
                self.readers.retain(|reader| reader.stream.partition != partition);
            }
        }
    }

    /// Gives everything back, so that others need not wait.
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
