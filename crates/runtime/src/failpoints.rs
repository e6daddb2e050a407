//! Points at which tests make a process crash or a message handler fail. Without the feature `testing` they do nothing.

use std::sync::Arc;

/// Aborts the process if `ONRUSH_CRASH_POINT` names this point. `name:3` aborts at the third passage.
#[cfg(feature = "testing")]
pub fn crash_point(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };
    static ARMED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("ONRUSH_CRASH_POINT").ok()?;
        Some(match text.rsplit_once(':').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?))) {
            Some(named) => named,
            None => (text, 1),
        })
    });
    if let Some((point, count)) = armed
        && point == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        std::process::abort();
    }
}

#[cfg(not(feature = "testing"))]
#[inline(always)]
pub fn crash_point(_name: &str) {}

/// The treatment of a message by a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    Pass,
    /// The handler fails with a technical error.
    Fail,
    /// The handler gets the message twice.
    Repeat,
}

/// A plan of faults at readers, by reader and message kind.
#[derive(Clone, Default)]
pub struct Faults {
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "only the feature gives it a meaning"))]
    plan: Option<Arc<plan::FaultPlan>>,
}

#[cfg(not(feature = "testing"))]
mod plan {
    pub struct FaultPlan;
}

#[cfg(not(feature = "testing"))]
impl Faults {
    /// True if the plan keeps this kind of message from the reader.
    pub fn is_held(&self, _reader: &str, _kind: &str) -> bool {
        false
    }
    pub fn has_held_messages(&self) -> bool {
        false
    }
    /// The treatment of the next message of this kind by the reader.
    pub fn next_action(&self, _reader: &str, _kind: &str) -> FaultAction {
        FaultAction::Pass
    }
}

#[cfg(feature = "testing")]
mod plan {
    use super::{FaultAction, Faults};
    use parking_lot::{Mutex, MutexGuard};
    use std::{
        collections::{HashMap, HashSet},
        sync::Arc,
    };

    type ReaderAndKind = (String, String);

    #[derive(Default)]
    pub struct FaultPlan(Mutex<PlanState>);

    #[derive(Default)]
    struct PlanState {
        held: HashSet<ReaderAndKind>,
        planned: HashMap<ReaderAndKind, (FaultAction, u32)>,
        applied: HashMap<ReaderAndKind, u32>,
    }

    impl Faults {
        pub fn planned() -> Faults {
            Faults { plan: Some(Arc::default()) }
        }
        fn state(&self) -> Option<MutexGuard<'_, PlanState>> {
            self.plan.as_ref().map(|plan| plan.0.lock())
        }
        /// Keeps messages of this kind from the reader, and with them all later messages.
        pub fn hold(&self, reader: &str, kind: &str) {
            if let Some(mut state) = self.state() {
                state.held.insert((reader.into(), kind.into()));
            }
        }
        pub fn release(&self, reader: &str, kind: &str) {
            if let Some(mut state) = self.state() {
                state.held.remove(&(reader.into(), kind.into()));
            }
        }
        /// True if the plan holds any messages.
        pub fn has_held_messages(&self) -> bool {
            self.state().is_some_and(|state| !state.held.is_empty())
        }
        /// The handler fails the next `times` times.
        pub fn fail(&self, reader: &str, kind: &str, times: u32) {
            if let Some(mut state) = self.state() {
                state.planned.insert((reader.into(), kind.into()), (FaultAction::Fail, times));
            }
        }
        /// The handler gets each of the next `times` messages twice.
        pub fn repeat(&self, reader: &str, kind: &str, times: u32) {
            if let Some(mut state) = self.state() {
                state.planned.insert((reader.into(), kind.into()), (FaultAction::Repeat, times));
            }
        }
        /// The number of planned faults that took effect for this reader and kind.
        pub fn times_applied(&self, reader: &str, kind: &str) -> u32 {
            self.state().and_then(|state| state.applied.get(&(reader.into(), kind.into())).copied()).unwrap_or(0)
        }
        /// True if the plan keeps this kind of message from the reader.
        pub fn is_held(&self, reader: &str, kind: &str) -> bool {
            self.state().is_some_and(|state| state.held.contains(&(reader.into(), kind.into())))
        }
        /// The treatment of the next message of this kind by the reader.
        pub fn next_action(&self, reader: &str, kind: &str) -> FaultAction {
            let Some(mut state) = self.state() else { return FaultAction::Pass };
            let key = (reader.to_owned(), kind.to_owned());
            let Some((action, times)) = state.planned.get_mut(&key) else { return FaultAction::Pass };
            if *times == 0 {
                return FaultAction::Pass;
            }
            *times -= 1;
            let action = *action;
            *state.applied.entry(key).or_default() += 1;
            action
        }
    }
}
