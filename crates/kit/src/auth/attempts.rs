//! Brakes on guessing. Counts attempts by key in sliding windows, over all instances where there is a Redis; an attempt counts before its
//! outcome is known, so that many at once do not slip through together.

use crate::{
    http::Problem,
    ports::Clock,
    redis::{Redis, limit::Limit},
};
use contracts::Code;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// At most so many attempts per key and window. Cheap to clone; clones share their counts.
#[derive(Clone, Debug)]
pub struct Attempts(Limit);

impl Attempts {
    /// Counts in this process alone.
    pub fn new(limit: u32, window: Duration, clock: Arc<dyn Clock>) -> Attempts {
        Attempts::shared(None, "attempts", limit, window, clock)
    }

    /// Counts over all processes with this Redis, and alone while it is away. `name` tells these attempts from others.
    pub fn shared(redis: Option<Redis>, name: &'static str, limit: u32, window: Duration, clock: Arc<dyn Clock>) -> Attempts {
        Attempts(Limit::new(redis, name, limit, window, clock))
    }

    /// Counts an attempt. Refused with 429 and the seconds to wait when there were too many.
    pub async fn begin(&self, key: &str) -> Result<(), Problem> {
        self.0.take(key).await.map_err(|too_many| {
            let left = too_many.wait;
            let seconds = u32::try_from(left.as_secs() + u64::from(left.subsec_nanos() > 0)).unwrap_or(u32::MAX).max(1);
            Problem::from(Code::TooManyAttempts).retry_after(seconds)
        })
    }

    /// Takes one attempt back: it was honest.
    pub async fn undo(&self, key: &str) {
        self.0.give_back(key).await;
    }

    /// Forgets all attempts of this key.
    pub async fn reset(&self, key: &str) {
        self.0.forget(key).await;
    }
}

/// Wrong passwords per account and address: its owner, elsewhere, is not locked out.
const PER_ACCOUNT: u32 = 5;
/// Wrong passwords per address, whatever the account.
const PER_ADDRESS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(600);

/// The brakes on signing in.
#[derive(Clone, Debug)]
pub struct LoginAttempts {
    accounts: Attempts,
    addresses: Attempts,
}

impl LoginAttempts {
    /// Counts in this process alone.
    pub fn new(clock: Arc<dyn Clock>) -> LoginAttempts {
        LoginAttempts::shared(None, clock)
    }

    /// Counts over all processes with this Redis, if there is one.
    pub fn shared(redis: Option<Redis>, clock: Arc<dyn Clock>) -> LoginAttempts {
        LoginAttempts {
            accounts: Attempts::shared(redis.clone(), "login-account", PER_ACCOUNT, WINDOW, Arc::clone(&clock)),
            addresses: Attempts::shared(redis, "login-address", PER_ADDRESS, WINDOW, clock),
        }
    }

    /// Before the password is looked at. `account` is what was typed, normalized; it need not exist. `address` is [`crate::http::Peer::source`].
    pub async fn begin(&self, account: &str, address: IpAddr) -> Result<(), Problem> {
        self.addresses.begin(&address.to_string()).await?;
        self.accounts.begin(&pair(account, address)).await
    }

    /// The password was right.
    pub async fn succeeded(&self, account: &str, address: IpAddr) {
        self.addresses.undo(&address.to_string()).await;
        self.accounts.reset(&pair(account, address)).await;
    }

    /// The password was not looked at after all: we were too busy.
    pub async fn not_looked_at(&self, account: &str, address: IpAddr) {
        self.addresses.undo(&address.to_string()).await;
        self.accounts.undo(&pair(account, address)).await;
    }
}

fn pair(account: &str, address: IpAddr) -> String {
    format!("{address} {account}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ManualClock;
    use contracts::Timestamp;
    use futures::{FutureExt, executor::block_on};
    use std::net::Ipv4Addr;

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp(1_795_132_800_000_000))
    }

    /// Without Redis nothing is waited for.
    fn refusal(result: impl Future<Output = Result<(), Problem>>) -> Option<(Code, Option<u32>)> {
        result.now_or_never().expect("it is ready at once").err().map(|problem| (problem.code(), problem.retry_after))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, last))
    }

    // row 30
    #[test]
    fn the_sixth_wrong_password_waits() {
        let clock = clock();
        let logins = LoginAttempts::new(Arc::new(clock.clone()));
        for _ in 0..5 {
            assert_eq!(refusal(logins.begin("a@example.com", address(1))), None);
            clock.advance(Duration::from_millis(500));
        }
        assert_eq!(refusal(logins.begin("a@example.com", address(1))), Some((Code::TooManyAttempts, Some(598))));
        // The owner, on another address, may.
        assert_eq!(refusal(logins.begin("a@example.com", address(2))), None);
        assert_eq!(refusal(logins.begin("b@example.com", address(1))), None);
        clock.advance(Duration::from_secs(598));
        assert_eq!(refusal(logins.begin("a@example.com", address(1))), None);
    }

    // row 30
    #[test]
    fn a_hundred_accounts_from_one_address_wait() {
        let logins = LoginAttempts::new(Arc::new(clock()));
        for number in 0..100 {
            assert_eq!(refusal(logins.begin(&number.to_string(), address(1))), None);
        }
        assert_eq!(refusal(logins.begin("one more", address(1))), Some((Code::TooManyAttempts, Some(600))));
        assert_eq!(refusal(logins.begin("one more", address(2))), None);
    }

    #[test]
    fn success_forgives() {
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

    // row 30: also when they come all at once
    #[test]
    fn attempts_at_once_share_the_limit() {
        let attempts = Attempts::new(5, WINDOW, Arc::new(clock()));
        let passed: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..64).map(|_| scope.spawn(|| usize::from(block_on(attempts.begin("a")).is_ok()))).collect();
            tries.into_iter().map(|one| one.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 5);
    }
}
