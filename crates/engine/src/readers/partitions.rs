//! Readers open and close with the partitions assigned to this instance. Does nothing where the engine is the only one.

use super::Readers;
use db::Tx;
use std::{collections::BTreeSet, sync::Arc};

impl Readers {
    /// Renews this instance's leases when that is due, takes free partitions and releases those above its share.
    pub fn balance_partitions(&mut self, tx: &mut Tx) {
        let service = Arc::clone(&self.services[0]);
        let Some(assignment) = self.assignment.as_mut().filter(|assignment| assignment.is_balance_due()) else { return };
        match futures::executor::block_on(assignment.balance(tx, service.as_ref())) {
            Ok(partitions) => self.apply_assignment(tx, partitions),
            // This instance keeps its partitions. If its leases run out, the fenced positions keep a late write from doing harm.
            Err(fault) => tracing::warn!(service = service.name(), error = %fault, "partition balancing failed"),
        }
    }

    fn apply_assignment(&mut self, tx: &mut Tx, partitions: BTreeSet<i64>) {
        let Some(assignment) = &mut self.assignment else { return };
        let before = assignment.replace_partitions(partitions.clone());
        for reader in self.list.iter().filter(|reader| !partitions.contains(&reader.stream().partition)) {
            assignment.stop_consuming(reader.stream());
        }
        self.list.retain(|reader| partitions.contains(&reader.stream().partition));
        self.stalls.retain_partitions(|partition| partitions.contains(&partition));
        for partition in partitions {
            // A partition without any reader is opened again: its streams may have been absent the first time.
            let is_new = !before.contains(&partition) || !self.list.iter().any(|reader| reader.stream().partition == partition);
            if is_new && let Err(fault) = futures::executor::block_on(self.open_partition(tx, partition)) {
                tracing::warn!(service = self.services[0].name(), partition, error = %fault, "partition not opened");
                self.list.retain(|reader| reader.stream().partition != partition);
            }
        }
    }

    /// Renews the leases in the middle of long work. Leaves the readers as they are, because they may be in the middle of a delivery.
    pub fn renew_leases(&mut self, tx: &mut Tx) {
        if let Some(assignment) = &mut self.assignment {
            assignment.renew_leases(tx, self.services[0].name());
        }
    }

    /// Releases all leases, so that other instances need not wait until they expire.
    pub fn release_partitions(&mut self, tx: &mut Tx) {
        if let Some(assignment) = self.assignment.take() {
            assignment.release(tx, self.services[0].name());
        }
    }
}
