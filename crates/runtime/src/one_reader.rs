//! Detects tasks that take a second pooled reader while holding one. With as many such tasks as connections, all of them would wait for
//! each other. Under the feature `testing` the second request panics, even if a connection is free, so that any test exposes it.

#[cfg(feature = "testing")]
pub use checked::{ReaderGuard, TaskScope};

#[cfg(feature = "testing")]
mod checked {
    use std::{
        future::Future,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    tokio::task_local! {
        static HOLDS_READER: Arc<AtomicBool>;
    }

    /// A sequence of steps: a request, a background task, a writer. Not the same as a task, which may serve several requests.
    pub struct TaskScope(Arc<AtomicBool>);

    impl TaskScope {
        /// A scope without a reader.
        pub fn begin() -> TaskScope {
            TaskScope(Arc::default())
        }

        /// Runs one step of the sequence.
        pub fn enter<T>(&self, step: impl FnOnce() -> T) -> T {
            HOLDS_READER.sync_scope(Arc::clone(&self.0), step)
        }

        /// Runs a whole sequence of its own.
        pub fn run<F: Future>(future: F) -> impl Future<Output = F::Output> {
            HOLDS_READER.scope(Arc::default(), future)
        }
    }

    /// The one reader of a [`TaskScope`]. Outside of a scope, as in the body of a test, other readers are unknown.
    #[derive(Debug)]
    pub struct ReaderGuard(Option<Arc<AtomicBool>>);

    impl ReaderGuard {
        /// Registers a reader of the scope. Panics under the feature `testing` if the scope has one.
        pub fn begin() -> ReaderGuard {
            let scope = HOLDS_READER.try_with(Arc::clone).ok();
            let is_second = scope.as_ref().is_some_and(|holds| holds.swap(true, Ordering::SeqCst));
            assert!(!is_second, "a second reader requested while the first one is held: drop the first one before");
            ReaderGuard(scope)
        }
    }

    impl Drop for ReaderGuard {
        fn drop(&mut self) {
            if let Some(holds) = &self.0 {
                holds.store(false, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(not(feature = "testing"))]
pub use unchecked::{ReaderGuard, TaskScope};

#[cfg(not(feature = "testing"))]
mod unchecked {
    use std::future::Future;

    pub struct TaskScope;

    impl TaskScope {
        /// A scope without a reader.
        #[inline(always)]
        pub fn begin() -> TaskScope {
            TaskScope
        }

        /// Runs one step of the sequence.
        #[inline(always)]
        pub fn enter<T>(&self, step: impl FnOnce() -> T) -> T {
            step()
        }

        /// Runs a whole sequence of its own.
        #[inline(always)]
        pub fn run<F: Future>(future: F) -> F {
            future
        }
    }

    #[derive(Debug)]
    pub struct ReaderGuard;

    impl ReaderGuard {
        /// Registers a reader of the scope. Panics under the feature `testing` if the scope has one.
        #[inline(always)]
        pub fn begin() -> ReaderGuard {
            ReaderGuard
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ReaderGuard, TaskScope};
    use futures::FutureExt;
    use std::panic::AssertUnwindSafe;

    async fn nested() {
        let _first = ReaderGuard::begin();
        tokio::task::yield_now().await;
        let _second = ReaderGuard::begin();
    }

    // F11
    #[tokio::test]
    async fn a_second_reader_while_holding_one_panics() {
        assert!(AssertUnwindSafe(TaskScope::run(nested())).catch_unwind().await.is_err());
        let scope = TaskScope::begin();
        let held = scope.enter(ReaderGuard::begin);
        assert!(std::panic::catch_unwind(AssertUnwindSafe(|| scope.enter(ReaderGuard::begin))).is_err(), "also in a later step");
        // The guard may be dropped on any thread.
        std::thread::spawn(move || drop(held)).join().unwrap();
        scope.enter(|| drop(ReaderGuard::begin()));
    }

    // F11
    #[tokio::test]
    async fn readers_in_sequence_or_in_other_scopes_are_allowed() {
        let one_by_one = async || {
            for _ in 0..3 {
                let _held = ReaderGuard::begin();
                tokio::task::yield_now().await;
            }
        };
        futures::join!(TaskScope::run(one_by_one()), TaskScope::run(one_by_one()));
    }
}
