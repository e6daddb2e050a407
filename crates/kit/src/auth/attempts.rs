//! Brakes on guessing. Counts attempts by key in fixed windows; an attempt counts before its outcome is known, so that many at once do
//! not slip through together.

use crate::{http::Problem, ports::Clock};
use contracts::{Code, Timestamp};
use moka::{policy::EvictionPolicy, sync::Cache};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Keys remembered at a time, the least recently used going first: some 10 MB at most.
const MAX_KEYS: u64 = 50_000;

/// At most `limit` attempts per key and window. Cheap to clone; clones share their counts.
#[derive(Clone)]
pub struct Attempts {
    windows: Cache<String, Arc<Mutex<Window>>>,
    limit: u32,
    length: Duration,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Window {
    began: Timestamp,
    count: u32,
}

impl Attempts {
    pub fn new(limit: u32, window: Duration, clock: Arc<dyn Clock>) -> Attempts {
        let windows = Cache::builder().max_capacity(MAX_KEYS).eviction_policy(EvictionPolicy::lru()).build();
        Attempts { windows, limit, length: window, clock }
    }

    /// Counts an attempt. Refused with 429 and the seconds to wait when there were too many.
    pub fn begin(&self, key: &str) -> Result<(), Problem> {
        let now = self.clock.now();
        let window = self.windows.get_with_by_ref(key, Arc::default);
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.count == 0 || now >= window.began.after(self.length) {
            *window = Window { began: now, count: 0 };
        }
        if window.count >= self.limit {
            let left = window.began.after(self.length).since(now);
            let seconds = u32::try_from(left.as_secs() + u64::from(left.subsec_nanos() > 0)).unwrap_or(u32::MAX).max(1);
            return Err(Problem::from(Code::TooManyAttempts).retry_after(seconds));
        }
        window.count += 1;
        Ok(())
    }

    /// Takes one attempt back: it was honest.
    pub fn undo(&self, key: &str) {
        if let Some(window) = self.windows.get(key) {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            window.count = window.count.saturating_sub(1);
        }
    }

    /// Forgets all attempts of this key.
    pub fn reset(&self, key: &str) {
        self.windows.invalidate(key);
    }
}

/// Wrong passwords per account and address: its owner, elsewhere, is not locked out.
const PER_ACCOUNT: u32 = 5;
/// Wrong passwords per address, whatever the account.
const PER_ADDRESS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(600);

/// The brakes on signing in.
#[derive(Clone)]
pub struct LoginAttempts {
    accounts: Attempts,
    addresses: Attempts,
}

impl LoginAttempts {
    pub fn new(clock: Arc<dyn Clock>) -> LoginAttempts {
        LoginAttempts {
            accounts: Attempts::new(PER_ACCOUNT, WINDOW, Arc::clone(&clock)),
            addresses: Attempts::new(PER_ADDRESS, WINDOW, clock),
        }
    }

    /// Before the password is looked at. `account` is what was typed, normalized; it need not exist. `address` is [`crate::http::Peer::source`].
    pub fn begin(&self, account: &str, address: IpAddr) -> Result<(), Problem> {
        self.addresses.begin(&address.to_string())?;
        self.accounts.begin(&pair(account, address))
    }

    /// The password was right.
    pub fn succeeded(&self, account: &str, address: IpAddr) {
        self.addresses.undo(&address.to_string());
        self.accounts.reset(&pair(account, address));
    }

    /// The password was not looked at after all: we were too busy.
    pub fn not_looked_at(&self, account: &str, address: IpAddr) {
        self.addresses.undo(&address.to_string());
        self.accounts.undo(&pair(account, address));
    }
}

fn pair(account: &str, address: IpAddr) -> String {
    format!("{address} {account}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ManualClock;
    use std::net::Ipv4Addr;

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp(1_795_132_800_000_000))
    }

    fn refusal(result: Result<(), Problem>) -> Option<(Code, Option<u32>)> {
        result.err().map(|problem| (problem.code(), problem.retry_after))
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
            logins.succeeded("a", address(1));
        }
        for _ in 0..4 {
            assert_eq!(refusal(logins.begin("a", address(1))), None);
        }
        logins.succeeded("a", address(1));
        for _ in 0..5 {
            assert_eq!(refusal(logins.begin("a", address(1))), None);
        }
        assert!(logins.begin("a", address(1)).is_err());
    }

    // row 30: also when they come all at once
    #[test]
    fn attempts_at_once_share_the_limit() {
        let attempts = Attempts::new(5, WINDOW, Arc::new(clock()));
        let passed: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..64).map(|_| scope.spawn(|| usize::from(attempts.begin("a").is_ok()))).collect();
            tries.into_iter().map(|one| one.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 5);
    }
}
