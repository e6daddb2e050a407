//! Attempts at passwords, within the [limits](super::limits) against guessing.
//!
//! An attempt passes three counts of wrong passwords: by account and address, by address, and by account. The first is taken before the
//! outcome is known, so that concurrent guesses cannot exceed it together. The other two are taken by wrong passwords only. An address
//! from which the account signed in before passes these two. So guessers at the same address, or all over the world, do not lock its
//! owner out.

use super::{
    known_addresses::KnownAddresses,
    limits::{Limits, too_many_attempts},
};
use cache::redis::{Redis, rate_limit::RateLimited};
use contracts::MemberId;
use futures::future::join;
use parking_lot::Mutex;
use std::{collections::HashMap, net::IpAddr, sync::Arc};
use web::Problem;

/// `Retry-After` while other attempts at the same account are in progress, in seconds. Most right ones have ended by then.
const IN_PROGRESS_RETRY_SECS: u32 = 1;

/// Counts attempts at passwords. Cheap to clone; clones share their counts.
#[derive(Clone, Debug)]
pub struct LoginAttempts(Arc<AttemptCounts>);

#[derive(Debug)]
struct AttemptCounts {
    limits: Arc<Limits>,
    known: KnownAddresses,
    /// Attempts whose outcome is not known yet, by account and address.
    in_progress: Mutex<HashMap<String, usize>>,
}

impl LoginAttempts {
    /// Addresses from which accounts signed in are shared over Redis, if there is one.
    pub fn new(limits: Arc<Limits>, redis: Option<Redis>) -> LoginAttempts {
        LoginAttempts(Arc::new(AttemptCounts { limits, known: KnownAddresses::new(redis), in_progress: Mutex::default() }))
    }

    /// Begins an attempt to sign in, before the password is verified. `account` is the normalized input and need not exist. `address` is
    /// [`web::Peer::source`]. `Err`: too many attempts, answered 429 with the seconds to wait.
    pub async fn begin(&self, account: &str, address: IpAddr) -> Result<PasswordAttempt, Problem> {
        let attempt = self.count_pair(account.to_owned(), address, AttemptPurpose::SignIn).await?;
        let limits = &self.0.limits;
        let source = address.to_string();
        let guesses = async {
            let (by_address, by_account) =
                join(limits.wrong_password_per_address.check(&source), limits.wrong_password_per_account.check(account)).await;
            match by_address.and(by_account) {
                Err(_) if self.0.known.contains(account, address).await => Ok(()),
                checked => checked,
            }
        };
        let checked = match guesses.await {
            // Before the address's count, so that an account that signs in all the time takes nothing from its neighbours.
            Ok(()) => limits.sign_in_per_member.check(account).await,
            refused => refused,
        };
        let counted = match checked {
            Ok(()) => limits.sign_in_per_address.take(&source).await,
            refused => refused,
        };
        match counted {
            Ok(()) => Ok(attempt),
            Err(limited) => {
                limits.wrong_password_per_pair.give_back(&attempt.pair).await;
                Err(too_many_attempts(limited))
            }
        }
    }

    /// Begins an attempt of a signed-in member to confirm the current password. It has counts of its own: wrong passwords here do not
    /// hinder the sign-in of an owner whose session was stolen.
    pub async fn begin_confirmation(&self, member_id: MemberId, address: IpAddr) -> Result<PasswordAttempt, Problem> {
        let attempt = self.count_pair(format!("confirm {member_id}"), address, AttemptPurpose::Confirmation).await?;
        match self.0.limits.wrong_password_per_account.check(&attempt.account).await {
            Ok(()) => Ok(attempt),
            Err(limited) => {
                self.0.limits.wrong_password_per_pair.give_back(&attempt.pair).await;
                Err(too_many_attempts(limited))
            }
        }
    }

    async fn count_pair(&self, account: String, address: IpAddr, purpose: AttemptPurpose) -> Result<PasswordAttempt, Problem> {
        let pair = format!("{address} {account}");
        let others = {
            let mut in_progress = self.0.in_progress.lock();
            let count = in_progress.entry(pair.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let attempt = PasswordAttempt { attempts: self.clone(), account, address, pair, purpose };
        match self.0.limits.wrong_password_per_pair.take(&attempt.pair).await {
            Ok(()) => Ok(attempt),
            // The attempts in progress may turn out right, and then count no more.
            Err(limited) if others > 0 => Err(too_many_attempts(limited).retry_after(IN_PROGRESS_RETRY_SECS)),
            Err(limited) => Err(too_many_attempts(limited)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptPurpose {
    SignIn,
    Confirmation,
}

/// An attempt in progress. Its caller reports the outcome. An attempt that is dropped stays counted as a wrong one by account and address.
#[derive(Debug)]
#[must_use = "its outcome must be reported"]
pub struct PasswordAttempt {
    attempts: LoginAttempts,
    account: String,
    address: IpAddr,
    /// Key of the count by account and address.
    pair: String,
    purpose: AttemptPurpose,
}

impl PasswordAttempt {
    /// The password was right. Resets the count by account and address. `Err`: this account opens too many sessions.
    pub async fn succeeded(self) -> Result<(), Problem> {
        let AttemptCounts { limits, known, .. } = &*self.attempts.0;
        limits.wrong_password_per_pair.reset(&self.pair).await;
        if self.purpose == AttemptPurpose::Confirmation {
            return Ok(());
        }
        known.add(&self.account, self.address).await;
        limits.sign_in_per_member.take(&self.account).await.map_err(too_many_attempts)
    }

    /// The password was wrong.
    pub async fn failed(self) {
        let limits = &self.attempts.0.limits;
        // More attempts than the limits permit may have been in progress. They are refused from now on.
        let ignore = |_: Result<(), RateLimited>| ();
        ignore(limits.wrong_password_per_account.take(&self.account).await);
        if self.purpose == AttemptPurpose::SignIn {
            ignore(limits.wrong_password_per_address.take(&self.address.to_string()).await);
        }
    }

    /// The password was not verified, because the process was overloaded. This was no guess.
    pub async fn not_verified(self) {
        let limits = &self.attempts.0.limits;
        limits.wrong_password_per_pair.give_back(&self.pair).await;
        if self.purpose == AttemptPurpose::SignIn {
            limits.sign_in_per_address.give_back(&self.address.to_string()).await;
        }
    }
}

impl Drop for PasswordAttempt {
    fn drop(&mut self) {
        let mut in_progress = self.attempts.0.in_progress.lock();
        if let Some(count) = in_progress.get_mut(&self.pair) {
            *count -= 1;
            if *count == 0 {
                in_progress.remove(&self.pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LimitSettings;
    use contracts::{Code, Timestamp};
    use futures::FutureExt;
    use runtime::ports::{Clock, ManualClock, new_id};
    use std::{net::Ipv4Addr, time::Duration};

    struct Setup {
        logins: LoginAttempts,
        clock: ManualClock,
    }

    impl Setup {
        fn new() -> Setup {
            Setup::with(&LimitSettings::default())
        }

        fn with(settings: &LimitSettings) -> Setup {
            let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
            let shared: Arc<dyn Clock> = Arc::new(clock.clone());
            Setup { logins: LoginAttempts::new(Arc::new(Limits::new(settings, None, &shared)), None), clock }
        }

        fn begin(&self, account: &str, address: IpAddr) -> Result<PasswordAttempt, (Code, Option<u32>)> {
            ready(self.logins.begin(account, address)).map_err(|problem| code_of(&problem))
        }

        fn guess(&self, account: &str, address: IpAddr) -> Option<(Code, Option<u32>)> {
            self.begin(account, address).map(|attempt| ready(attempt.failed())).err()
        }

        fn sign_in(&self, account: &str, address: IpAddr) -> Option<(Code, Option<u32>)> {
            let attempt = match self.begin(account, address) {
                Ok(attempt) => attempt,
                Err(refused) => return Some(refused),
            };
            ready(attempt.succeeded()).err().map(|problem| code_of(&problem))
        }
    }

    fn code_of(problem: &Problem) -> (Code, Option<u32>) {
        (problem.code(), problem.retry_after)
    }

    /// Result of a future that is ready at once, as all counts without Redis are.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("it is ready at once")
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + number))
    }

    fn refused(seconds: u32) -> Option<(Code, Option<u32>)> {
        Some((Code::TooManyAttempts, Some(seconds)))
    }

    // row 30
    #[test]
    fn the_sixth_wrong_password_is_refused() {
        let setup = Setup::new();
        for _ in 0..5 {
            assert_eq!(setup.guess("a@example.com", address(1)), None);
        }
        assert_eq!(setup.guess("a@example.com", address(1)), refused(120));
        assert_eq!(setup.sign_in("a@example.com", address(1)), refused(120));
        // The owner may still sign in from another address.
        assert_eq!(setup.sign_in("a@example.com", address(2)), None);
        assert_eq!(setup.guess("b@example.com", address(1)), None);
        setup.clock.advance(Duration::from_secs(120));
        assert_eq!(setup.guess("a@example.com", address(1)), None);
        assert_eq!(setup.guess("a@example.com", address(1)), refused(120));
    }

    // row 30
    #[test]
    fn the_101st_account_from_one_address_is_refused() {
        let setup = Setup::new();
        for number in 0..100 {
            assert_eq!(setup.guess(&number.to_string(), address(1)), None);
        }
        assert_eq!(setup.guess("one more", address(1)), refused(6));
        assert_eq!(setup.guess("one more", address(2)), None);
    }

    // H2
    #[test]
    fn an_owner_passes_guessers_at_a_known_address() {
        let setup = Setup::new();
        assert_eq!(setup.sign_in("owner", address(1)), None);
        for number in 0..100 {
            assert_eq!(setup.guess(&number.to_string(), address(1)), None);
        }
        assert_eq!(setup.sign_in("stranger", address(1)), refused(6));
        assert_eq!(setup.sign_in("owner", address(1)), None);
        // The count by account and address still holds.
        for _ in 0..5 {
            assert_eq!(setup.guess("owner", address(1)), None);
        }
        assert_eq!(setup.guess("owner", address(1)), refused(120));
    }

    // M10
    #[test]
    fn one_account_is_not_guessed_without_end_from_everywhere() {
        let setup = Setup::new();
        assert_eq!(setup.sign_in("owner", address(1)), None);
        let guesses = |from: u32| {
            let tries = (from..from + 60).flat_map(|number| [number; 5]);
            tries.filter(|number| setup.guess("owner", address(*number)).is_none()).count()
        };
        assert_eq!(guesses(100), 100);
        assert_eq!(setup.guess("owner", address(900)), refused(36));
        assert_eq!(setup.sign_in("owner", address(1)), None, "the owner's own address passes");
        assert_eq!(setup.guess("another", address(900)), None);
        setup.clock.advance(Duration::from_secs(3600));
        assert_eq!(guesses(1_000), 100, "a hundred an hour");
    }

    #[test]
    fn a_right_password_resets_the_count() {
        let setup = Setup::with(&LimitSettings { sign_in_per_member: None, ..LimitSettings::default() });
        for _ in 0..300 {
            assert_eq!(setup.sign_in("a", address(1)), None);
        }
        for _ in 0..4 {
            assert_eq!(setup.guess("a", address(1)), None);
        }
        assert_eq!(setup.sign_in("a", address(1)), None);
        for _ in 0..5 {
            assert_eq!(setup.guess("a", address(1)), None);
        }
        assert!(setup.guess("a", address(1)).is_some());
    }

    // H3: with the right password, too
    #[test]
    fn an_account_opens_so_many_sessions_an_hour() {
        let setup = Setup::new();
        for _ in 0..20 {
            assert_eq!(setup.sign_in("a", address(1)), None);
        }
        assert_eq!(setup.sign_in("a", address(2)), refused(60));
        assert_eq!(setup.sign_in("b", address(1)), None);
        setup.clock.advance(Duration::from_secs(60));
        assert_eq!(setup.sign_in("a", address(2)), None);
    }

    // H3
    #[test]
    fn sign_ins_of_an_address_are_limited_together() {
        let rate = "1/minute burst 3".parse().expect("a rate");
        let setup = Setup::with(&LimitSettings { sign_in_per_address: Some(rate), ..LimitSettings::default() });
        let shed = setup.begin("a", address(1)).expect("it is the first");
        ready(shed.not_verified());
        for number in 0..3 {
            assert_eq!(setup.sign_in(&number.to_string(), address(1)), None);
        }
        assert_eq!(setup.sign_in("3", address(1)), refused(60));
        assert_eq!(setup.sign_in("3", address(2)), None);
    }

    // D3
    #[test]
    fn right_attempts_in_progress_delay_others_for_a_second() {
        let setup = Setup::new();
        let mut running: Vec<PasswordAttempt> = (0..5).map(|_| setup.begin("a", address(1)).expect("five may run")).collect();
        for _ in 0..3 {
            assert_eq!(setup.begin("a", address(1)).err(), refused(1));
        }
        assert_eq!(setup.sign_in("a", address(2)), None);
        for attempt in running.drain(..) {
            assert!(ready(attempt.succeeded()).is_ok());
        }
        assert_eq!(setup.sign_in("a", address(1)), None);
        assert!(setup.logins.0.in_progress.lock().is_empty());
    }

    // row 30: also when all attempts are concurrent
    #[test]
    fn concurrent_guesses_share_the_limit() {
        let setup = Setup::new();
        let passed: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..64).map(|_| scope.spawn(|| usize::from(setup.guess("a", address(1)).is_none()))).collect();
            tries.into_iter().map(|one| one.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 5);
    }

    // D2
    #[test]
    fn wrong_current_passwords_do_not_hinder_signing_in() {
        let setup = Setup::new();
        let member = MemberId(new_id());
        for _ in 0..5 {
            ready(ready(setup.logins.begin_confirmation(member, address(1))).expect("five are permitted").failed());
        }
        let sixth = ready(setup.logins.begin_confirmation(member, address(1))).expect_err("the sixth is refused");
        assert_eq!(Some(code_of(&sixth)), refused(120));
        assert_eq!(setup.sign_in("a", address(1)), None);
        let elsewhere = ready(setup.logins.begin_confirmation(member, address(2))).expect("another address has its own count");
        assert!(ready(elsewhere.succeeded()).is_ok());
    }
}
