//! Sends the commits of this process to the gate.

use super::{ClaimLimits, SharedGate, Slot, SlotToken, call, scripts, write_limits};
use contracts::{CouponId, MemberId};
use kit::redis::{Redis, RedisError, ScriptInvocation};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::sync::Notify;

/// Commands that may wait for Redis, which bounds the memory. With more of them, their gates are cleared instead.
const MAX_QUEUED: usize = 20_000;
/// Pause between two attempts to clear a gate.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Result of one commit for one coupon.
#[derive(Debug)]
pub struct GateUpdate {
    pub coupon_id: CouponId,
    pub limits: ClaimLimits,
    /// By member: change of the number of coupons that count against the limit per member.
    pub member_counts: Vec<(MemberId, i64)>,
    /// Slots of the settled claims, granted or not.
    pub settled: Vec<Arc<Slot>>,
}

/// Updates that wait for the end of their transaction. If its outcome is unknown, the gates are rebuilt.
pub struct UpdateGuard {
    gate: SharedGate,
    updates: Vec<GateUpdate>,
}

impl UpdateGuard {
    pub fn new(gate: SharedGate, updates: Vec<GateUpdate>) -> UpdateGuard {
        UpdateGuard { gate, updates }
    }

    /// After a rollback nothing is sent. The claims still hold their slots, and either retry or free them.
    pub fn end(mut self, is_durable: bool, refused: Vec<GateUpdate>) {
        let updates = std::mem::take(&mut self.updates);
        if is_durable {
            self.gate.apply(updates);
            self.gate.apply_refused(refused);
        }
    }
}

impl Drop for UpdateGuard {
    fn drop(&mut self) {
        if !self.updates.is_empty() {
            self.gate.invalidate(self.updates.iter().map(|update| update.coupon_id));
        }
    }
}

enum GateCommand {
    Update(GateUpdate),
    /// The coupon did not change, but these claims on it were refused.
    Refused(GateUpdate),
    FreeSlot(SlotToken),
}

impl GateCommand {
    fn coupon_id(&self) -> CouponId {
        match self {
            GateCommand::Update(update) | GateCommand::Refused(update) => update.coupon_id,
            GateCommand::FreeSlot(token) => token.coupon_id,
        }
    }
}

/// Queue of commands to the gate. One task sends them to Redis in their order.
pub(super) struct UpdateQueue {
    queued: Mutex<QueuedCommands>,
    wake: Arc<Notify>,
    progress: Notify,
}

#[derive(Default)]
struct QueuedCommands {
    commands: VecDeque<GateCommand>,
    /// Number of commands ever enqueued.
    enqueued: u64,
    /// One command was taken out and is on its way.
    is_sending: bool,
    /// Gates with a lost update. They are cleared, and not asked before.
    invalid: HashSet<CouponId>,
}

impl UpdateQueue {
    pub fn start(redis: Redis) -> Arc<UpdateQueue> {
        let wake = Arc::new(Notify::new());
        let queue = Arc::new(UpdateQueue { queued: Mutex::default(), wake: Arc::clone(&wake), progress: Notify::new() });
        kit::tasks::spawn_vital("coupons.gate.updates", run(Arc::downgrade(&queue), redis, wake));
        queue
    }

    pub fn enqueue(&self, updates: impl IntoIterator<Item = GateUpdate>) {
        self.enqueue_as(GateCommand::Update, updates);
    }

    pub fn enqueue_refused(&self, updates: impl IntoIterator<Item = GateUpdate>) {
        self.enqueue_as(GateCommand::Refused, updates);
    }

    fn enqueue_as(&self, command: fn(GateUpdate) -> GateCommand, updates: impl IntoIterator<Item = GateUpdate>) {
        let mut queued = self.queued();
        for update in updates {
            // Before the push: the update frees these slots from now on.
            for slot in &update.settled {
                slot.is_released.store(true, Ordering::Release);
            }
            queued.push(command(update));
        }
        drop(queued);
        self.wake.notify_one();
    }

    /// Clears these gates as soon as Redis answers. This process does not ask them before.
    pub fn invalidate(&self, coupons: impl IntoIterator<Item = CouponId>) {
        let mut queued = self.queued();
        for coupon_id in coupons {
            // Bounded: clients that guess ids while Redis is down must not fill the memory.
            if queued.invalid.len() < MAX_QUEUED {
                queued.invalidate(coupon_id);
            }
        }
        drop(queued);
        self.wake.notify_one();
    }

    /// Waits until all commands so far are sent, or have failed.
    pub async fn flushed(&self) {
        let all = self.queued().enqueued;
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Registered before the check, so that progress between the two is not missed.
            progress.as_mut().enable();
            if self.queued().done() >= all {
                return;
            }
            progress.await;
        }
    }

    pub fn is_invalid(&self, coupon_id: CouponId) -> bool {
        let queued = self.queued();
        !queued.invalid.is_empty() && queued.invalid.contains(&coupon_id)
    }

    fn queued(&self) -> MutexGuard<'_, QueuedCommands> {
        self.queued.lock()
    }

    /// Clears the invalid gates and sends the queued commands. `Err`: Redis failed to clear a gate, try again later.
    async fn drain(&self, redis: &Redis) -> Result<(), RedisError> {
        loop {
            let invalid = self.queued().invalid.iter().next().copied();
            if let Some(coupon_id) = invalid {
                redis.run::<i64>(call(redis, &scripts::CLEAR, coupon_id).arg("")).await?;
                self.queued().invalid.remove(&coupon_id);
                continue;
            }
            let Some(command) = self.queued().take_next() else { return Ok(()) };
            let sent = send(redis, &command).await;
            let mut queued = self.queued();
            queued.is_sending = false;
            if let Err(error) = sent {
                let coupon_id = command.coupon_id();
                tracing::warn!(%error, coupon.id = %coupon_id, "gate update failed, gate in Redis will be rebuilt");
                queued.invalidate(coupon_id);
            }
            drop(queued);
            self.progress.notify_waiters();
        }
    }
}

impl QueuedCommands {
    fn take_next(&mut self) -> Option<GateCommand> {
        let command = self.commands.pop_front();
        self.is_sending = command.is_some();
        command
    }

    /// Number of enqueued commands that are sent, failed or dropped.
    fn done(&self) -> u64 {
        self.enqueued - self.commands.len() as u64 - u64::from(self.is_sending)
    }

    fn push(&mut self, command: GateCommand) {
        // A cleared gate has no state to change, and its builder reads the database later.
        if self.invalid.contains(&command.coupon_id()) {
            return;
        }
        self.commands.push_back(command);
        self.enqueued += 1;
        if self.commands.len() > MAX_QUEUED {
            let coupons: HashSet<CouponId> = self.commands.drain(..).map(|command| command.coupon_id()).collect();
            self.invalid.extend(coupons);
        }
    }

    fn invalidate(&mut self, coupon_id: CouponId) {
        self.invalid.insert(coupon_id);
        self.commands.retain(|command| command.coupon_id() != coupon_id);
    }
}

async fn send(redis: &Redis, command: &GateCommand) -> Result<(), RedisError> {
    match command {
        GateCommand::Update(update) => {
            let mut call = call(redis, &scripts::APPLY_UPDATE, update.coupon_id);
            write_limits(&mut call, &update.limits);
            call.arg(update.member_counts.len());
            for (member_id, change) in &update.member_counts {
                call.arg(member_id.0.as_bytes()).arg(*change);
            }
            write_slots(&mut call, &update.settled);
            redis.run::<i64>(&call).await.map(drop)
        }
        GateCommand::Refused(update) => {
            let mut call = call(redis, &scripts::APPLY_REFUSED, update.coupon_id);
            write_limits(&mut call, &update.limits);
            write_slots(&mut call, &update.settled);
            redis.run::<i64>(&call).await.map(drop)
        }
        GateCommand::FreeSlot(token) => {
            let mut call = call(redis, &scripts::FREE_SLOT, token.coupon_id);
            redis.run::<i64>(call.arg(&token.era).arg(token.name())).await.map(drop)
        }
    }
}

fn write_slots(call: &mut ScriptInvocation<'_>, slots: &[Arc<Slot>]) {
    for slot in slots {
        call.arg(&slot.token.era).arg(slot.token.name());
    }
}

/// Sends commands until the queue is dropped.
async fn run(queue: Weak<UpdateQueue>, redis: Redis, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        loop {
            let Some(queue) = queue.upgrade() else { return };
            let drained = queue.drain(&redis).await;
            drop(queue);
            if drained.is_ok() {
                break;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

impl Drop for UpdateQueue {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_released.load(Ordering::Acquire) {
            return;
        }
        self.updates.queued().push(GateCommand::FreeSlot(self.token.clone()));
        self.updates.wake.notify_one();
    }
}

impl fmt::Debug for UpdateQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queued = self.queued();
        f.debug_struct("UpdateQueue")
            .field("commands", &queued.commands.len())
            .field("invalid", &queued.invalid.len())
            .finish_non_exhaustive()
    }
}
