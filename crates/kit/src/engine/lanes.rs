//! Which partitions this instance of a service reads. Leases spread them evenly over the instances; positions are what makes it safe.

use super::{Engine, Fault, Feed, bell::Bell, lease, streams::sources, wires::Wires};
use crate::{batch::Batch, kafka::Consumer, ports::Stopwatch, service::Service};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// How often leases are renewed and the spread is looked at; a third of what a lease lasts.
const EVERY: Duration = Duration::from_secs(1);
/// The lease each instance of a service has for being there.
pub(crate) const PRESENCE: &str = "instance:";
const LANE: &str = "lane:";

/// Which lane a lease is for, if it is for one.
pub(crate) fn lane_of(lease: &str) -> Option<i64> {
    lease.strip_prefix(LANE)?.parse().ok()
}

/// (reader, source) over all services.
pub type Readings = Arc<HashSet<(&'static str, &'static str)>>;

/// What an engine needs to be one of several.
pub struct Lanes {
    pub instance: Uuid,
    pub wires: Wires,
    pub feed: Feed,
    /// Who reads which stream, over all services of the mall.
    readings: Readings,
    pub(super) consumer: Option<Consumer>,
    held: BTreeSet<i64>,
    looked: Option<Stopwatch>,
    /// When the leases were last renewed.
    renewed: Option<Stopwatch>,
    bell: Arc<Bell>,
}

impl Lanes {
    /// Has the engine behind `batch` woken when a stream that `service` reads goes on.
    pub fn new(instance: Uuid, wires: Wires, feed: Feed, readings: Readings, service: &dyn Service, batch: &Batch) -> Result<Lanes, Fault> {
        let all: Vec<&'static str> = sources(service).into_iter().map(|(source, _)| source).collect();
        let bell = Arc::new(Bell::of(&all));
        let ear = |source: Option<&'static str>, wanted: HashSet<&'static str>| {
            let (bell, batch, name) = (Arc::clone(&bell), batch.clone(), service.name());
            move |kinds: Option<&[&str]>| {
                if bell.ring(source, &wanted, kinds) {
                    batch.wake(name);
                }
            }
        };
        let consumer = feed.consumer()?;
        match &consumer {
            Some(consumer) => {
                let ear = ear(None, HashSet::new());
                consumer.on_arrival(move || ear(None));
            }
            None => {
                for (source, wanted) in sources(service) {
                    wires.listen(source, Arc::new(ear(Some(source), wanted)));
                }
            }
        }
        Ok(Lanes { instance, wires, feed, readings, consumer, held: BTreeSet::new(), looked: None, renewed: None, bell })
    }

    pub(super) fn reads(&self, reader: &'static str, source: &'static str) -> bool {
        self.readings.contains(&(reader, source))
    }

    /// The streams that may have gone on; each is said once after it was rung for.
    pub(super) fn rung(&self) -> Vec<&'static str> {
        self.bell.now.take()
    }

    /// Whether a stream went on by what there is only to pass over.
    pub(super) fn is_more_for_later(&self) -> bool {
        self.bell.later.is_any()
    }

    /// The streams that did.
    pub(super) fn rung_for_later(&self) -> Vec<&'static str> {
        self.bell.later.take()
    }

    /// How many partitions the streams that a service reads have: so many lanes there are.
    async fn count(&self, service: &dyn Service) -> Result<i64, Fault> {
        let mut lanes = 0;
        for (source, _) in sources(service) {
            lanes = lanes.max(self.feed.stream_of(source).await?.map_or(0, |stream| stream.partitions));
        }
        Ok(lanes)
    }
}

impl Engine {
    /// Renews this instance's leases, takes lanes nobody reads and gives up what is more than its share. Nothing to do where it is alone.
    pub(super) fn keep_lanes(&mut self) {
        let due = self.lanes.as_ref().is_some_and(|lanes| lanes.looked.is_none_or(|looked| looked.elapsed() >= EVERY));
        if !due {
            return;
        }
        let Some(mut lanes) = self.lanes.take() else { return };
        let service = Arc::clone(&self.services[0]);
        let wanted = futures::executor::block_on(self.choose(&mut lanes, service.as_ref()));
        lanes.looked = Some(Stopwatch::start());
        lanes.renewed = lanes.looked;
        self.lanes = Some(lanes);
        match wanted {
            Ok(held) => self.read_lanes(held),
            // Positions keep a late one from doing harm; it goes on with what it has.
            Err(fault) => tracing::warn!(service = service.name(), error = %fault, "cannot look after the reader's leases"),
        }
    }

    /// Keeps what it has, where the next look may be far away. Readers stay as they are: they may be in the middle of a delivery.
    pub(super) fn renew_lanes(&mut self) {
        let name = self.services[0].name();
        let Some(lanes) = &mut self.lanes else { return };
        if lanes.renewed.is_none_or(|renewed| renewed.elapsed() < EVERY) {
            return;
        }
        lanes.renewed = Some(Stopwatch::start());
        let (instance, tx) = (lanes.instance, &mut self.work.tx);
        let renewed = futures::executor::block_on(async {
            tx.revive().await?;
            lease::renew(tx, name, instance).await
        });
        if let Err(error) = renewed {
            tracing::debug!(service = name, %error, "cannot renew the reader's leases");
        }
    }

    async fn choose(&mut self, lanes: &mut Lanes, service: &dyn Service) -> Result<BTreeSet<i64>, Fault> {
        let (name, instance) = (service.name(), lanes.instance);
        let count = lanes.count(service).await?;
        let tx = &mut self.work.tx;
        tx.revive().await?;
        lease::renew(tx, name, instance).await?;
        if !lanes.feed.is_ready() {
            // Whoever is there is left a share, and this one could not read it.
            return Ok(BTreeSet::new());
        }
        lease::take(tx, name, &format!("{PRESENCE}{instance}"), instance).await?;
        let instances = lease::running(tx, name, PRESENCE).await?.len().max(1);
        let taken = lease::running(tx, name, LANE).await?;
        let mut held: BTreeSet<i64> =
            taken.iter().filter(|(_, holder)| *holder == instance).filter_map(|(name, _)| lane_of(name)).collect();
        let others: HashSet<i64> = taken.iter().filter(|(_, holder)| *holder != instance).filter_map(|(name, _)| lane_of(name)).collect();
        let share = usize::try_from(count).unwrap_or(0).div_ceil(instances);
        for lane in (0..count).filter(|lane| !others.contains(lane)) {
            if held.len() >= share {
                break;
            }
            if !held.contains(&lane) && lease::take(tx, name, &format!("{LANE}{lane}"), instance).await?.is_some() {
                held.insert(lane);
            }
        }
        while held.len() > share {
            let Some(lane) = held.pop_last() else { break };
            lease::release(tx, name, &format!("{LANE}{lane}"), instance).await?;
        }
        lease::sweep(tx, name, PRESENCE).await?;
        Ok(held)
    }

    fn read_lanes(&mut self, held: BTreeSet<i64>) {
        let Some(lanes) = &mut self.lanes else { return };
        let before = std::mem::replace(&mut lanes.held, held.clone());
        if let Some(consumer) = &mut lanes.consumer {
            for reader in self.readers.iter().filter(|reader| !held.contains(&reader.place.partition)) {
                consumer.unassign(reader.place.source, reader.place.partition);
            }
        }
        self.readers.retain(|reader| held.contains(&reader.place.partition));
        self.troubles.keep(|lane| held.contains(&lane));
        for lane in held {
            // A lane whose streams were not there yet has no reader and is looked at again.
            let is_new = !before.contains(&lane) || !self.readers.iter().any(|reader| reader.place.partition == lane);
            if is_new && let Err(fault) = futures::executor::block_on(self.open_lane(lane)) {
                tracing::warn!(service = self.services[0].name(), lane, error = %fault, "cannot open a lane");
                self.readers.retain(|reader| reader.place.partition != lane);
            }
        }
    }

    /// Gives everything back, so that others need not wait.
    pub(super) fn leave_lanes(&mut self) {
        let Some(lanes) = self.lanes.take() else { return };
        let name = self.services[0].name();
        let mut names: Vec<String> = lanes.held.iter().map(|lane| format!("{LANE}{lane}")).collect();
        names.push(format!("{PRESENCE}{}", lanes.instance));
        let tx = &mut self.work.tx;
        let left = futures::executor::block_on(async {
            for lease in &names {
                lease::release(tx, name, lease, lanes.instance).await?;
            }
            Ok::<(), Fault>(())
        });
        if let Err(fault) = left {
            tracing::warn!(service = name, error = %fault, "leases end by themselves");
        }
    }
}
