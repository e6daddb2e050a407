//! Rate limits against guessing. Attempts are counted per key in sliding windows, across all instances if Redis is configured.
//!
//! An attempt counts before its outcome is known, so that concurrent attempts cannot exceed the limit together.

use cache::redis::{Redis, rate_limit::RateLimit};
use contracts::Code;
use runtime::ports::Clock;
use std::{net::IpAddr, sync::Arc, time::Duration};
use web::Problem;

/// Limit of attempts per key and window. Cheap to clone; clones share their counts.
#[derive(Clone, Debug)]
pub struct AttemptLimit(RateLimit);

impl AttemptLimit {
    /// A limit counted in this process only.
    pub fn new(limit: u32, window: Duration, clock: Arc<dyn Clock>) -> AttemptLimit {
        AttemptLimit::shared(None, "attempts", limit, window, clock)
    }

    /// A limit counted across all processes with this Redis, and locally while Redis is unavailable. `name` separates it from other limits.
    pub fn shared(redis: Option<Redis>, name: &'static str, limit: u32, window: Duration, clock: Arc<dyn Clock>) -> AttemptLimit {
        AttemptLimit(RateLimit::new(redis, name, limit, window, clock))
    }

    /// Counts an attempt. `Err`: too many attempts, answered 429 with the seconds to wait.
    pub async fn begin(&self, key: &str) -> Result<(), Problem> {
        self.0.take(key).await.map_err(|too_many| {
            let left = too_many.wait;
            let seconds = u32::try_from(left.as_secs() + u64::from(left.subsec_nanos() > 0)).unwrap_or(u32::MAX).max(1);
            Problem::from(Code::TooManyAttempts).retry_after(seconds)
        })
    }

    /// Takes back one attempt that turned out to be legitimate.
    pub async fn undo(&self, key: &str) {
        self.0.give_back(key).await;
    }

    /// Removes all attempts of this key.
    pub async fn reset(&self, key: &str) {
        self.0.reset(key).await;
    }
}

/// Wrong passwords per pair of account and address, so that the owner of the account is not locked out at another address.
const MAX_PER_ACCOUNT: u32 = 5;
/// Wrong passwords per address, over all accounts.
const MAX_PER_ADDRESS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(600);

/// Rate limits of signing in.
#[derive(Clone, Debug)]
pub struct LoginAttempts {
    accounts: AttemptLimit,
    addresses: AttemptLimit,
}

impl LoginAttempts {
    /// Limits counted in this process only.
    pub fn new(clock: Arc<dyn Clock>) -> LoginAttempts {
        LoginAttempts::shared(None, clock)
    }

    /// Limits counted across all processes with this Redis. `None`: in this process only.
    pub fn shared(redis: Option<Redis>, clock: Arc<dyn Clock>) -> LoginAttempts {
        LoginAttempts {
            accounts: AttemptLimit::shared(redis.clone(), "login-account", MAX_PER_ACCOUNT, WINDOW, Arc::clone(&clock)),
            addresses: AttemptLimit::shared(redis, "login-address", MAX_PER_ADDRESS, WINDOW, clock),
        }
    }

    /// Counts an attempt, before the password is verified. `account` is the normalized input and need not exist; `address` is
    /// [`web::Peer::source`].
    pub async fn begin(&self, account: &str, address: IpAddr) -> Result<(), Problem> {
        self.addresses.begin(&address.to_string()).await?;
        self.accounts.begin(&account_key(account, address)).await
    }

    /// Takes the attempt back after a correct password, and resets the account's count.
    pub async fn succeeded(&self, account: &str, address: IpAddr) {
        self.addresses.undo(&address.to_string()).await;
        self.accounts.reset(&account_key(account, address)).await;
    }

    /// Takes the attempt back when the password was not verified because the process was overloaded.
    pub async fn not_verified(&self, account: &str, address: IpAddr) {
        self.addresses.undo(&address.to_string()).await;
        self.accounts.undo(&account_key(account, address)).await;
    }
}

fn account_key(account: &str, address: IpAddr) -> String {
    format!("{address} {account}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Timestamp;
    use futures::{FutureExt, executor::block_on};
    use runtime::ports::ManualClock;
    use std::net::Ipv4Addr;

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp(1_795_132_800_000_000))
    }

    /// Result of a future that is ready at once, as all limits without Redis are.
    fn refusal(result: impl Future<Output = Result<(), Problem>>) -> Option<(Code, Option<u32>)> {
        result.now_or_never().expect("it is ready at once").err().map(|problem| (problem.code(), problem.retry_after))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, last))
    }

    // row 30
    #[test]
    fn the_sixth_wrong_password_is_refused() {
        let clock = clock();
        let logins = LoginAttempts::new(Arc::new(clock.clone()));
        for _ in 0..5 {
            assert_eq!(refusal(logins.begin("a@example.com", address(1))), None);
            clock.advance(Duration::from_millis(500));
        }
        assert_eq!(refusal(logins.begin("a@example.com", address(1))), Some((Code::TooManyAttempts, Some(598))));
        // The owner may still sign in from another address.
        assert_eq!(refusal(logins.begin("a@example.com", address(2))), None);
        assert_eq!(refusal(logins.begin("b@example.com", address(1))), None);
        clock.advance(Duration::from_secs(598));
        assert_eq!(refusal(logins.begin("a@example.com", address(1))), None);
    }

    // row 30
    #[test]
    fn the_101st_account_from_one_address_is_refused() {
        let logins = LoginAttempts::new(Arc::new(clock()));
        for number in 0..100 {
            assert_eq!(refusal(logins.begin(&number.to_string(), address(1))), None);
        }
        assert_eq!(refusal(logins.begin("one more", address(1))), Some((Code::TooManyAttempts, Some(600))));
        assert_eq!(refusal(logins.begin("one more", address(2))), None);
    }

    #[test]
    fn a_correct_password_resets_the_count() {
        let logins = LoginAttempts::new(Arc::new(clock()));
        for _ in 0..300 {
            assert_eq!(refusal(logins.begin("a", address(1))), None);
            block_on(logins.succeeded("a", address(1)));
        }
        for _ in 0..4 {
            assert_eq!(refusal(logins.begin("a", address(1))), None);
        }
        block_on(logins.succeeded("a", address(1)));
        for _ in 0..5 {
            assert_eq!(refusal(logins.begin("a", address(1))), None);
        }
        assert!(refusal(logins.begin("a", address(1))).is_some());
    }

    // row 30: also when all attempts are concurrent
    #[test]
    fn concurrent_attempts_share_the_limit() {
        let attempts = AttemptLimit::new(5, WINDOW, Arc::new(clock()));
        let passed: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..64).map(|_| scope.spawn(|| usize::from(block_on(attempts.begin("a")).is_ok()))).collect();
            tries.into_iter().map(|one| one.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 5);
    }
}
