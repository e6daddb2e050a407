//! The table of limits on all that a stranger or a member can take without paying.
//!
//! Each limit is a token bucket by address, by member, or for all callers together. Limits marked `shared` are counted in Redis if there is one,
//! because an attacker could go from process to process. The others are counted by each process alone: they guard against floods, and a
//! question to Redis would cost more than many of the writes that they count.

use super::{Caller, Role};
use cache::{
    buckets::{
        Rate,
        RateUnit::{Hour, Minute, Second},
    },
    redis::{
        Redis,
        rate_limit::{RateLimit, RateLimited},
    },
};
use contracts::Code;
use runtime::ports::Clock;
use std::{net::IpAddr, sync::Arc};
use uuid::Uuid;
use web::Problem;

macro_rules! limits {
    ($($(#[doc = $doc:expr])* $scope:ident $name:ident = $count:literal per $unit:ident, burst $burst:literal;)*) => {
        /// The rates of all limits. `None`: the limit is off.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct LimitSettings { $($(#[doc = $doc])* pub $name: Option<Rate>,)* }

        impl Default for LimitSettings {
            fn default() -> Self {
                Self { $($name: Some(const { Rate::new($count, $unit, $burst) }),)* }
            }
        }

        impl LimitSettings {
            /// No limit at all, for measurements and for data that the operator loads.
            pub fn off() -> Self {
                Self { $($name: None,)* }
            }

            /// The rate of the limit with this name. `None`: there is no such limit.
            pub fn rate_mut(&mut self, name: &str) -> Option<&mut Option<Rate>> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }

            /// The names of all limits, and their rates.
            pub fn rates(&self) -> Vec<(&'static str, Option<Rate>)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        /// The counters of all limits.
        #[derive(Debug)]
        pub struct Limits { $($(#[doc = $doc])* pub $name: RateLimit,)* }

        impl Limits {
            /// Without Redis, this process counts alone.
            pub fn new(settings: &LimitSettings, redis: Option<&Redis>, clock: &Arc<dyn Clock>) -> Limits {
                Limits { $($name: limits!(@counter $scope settings redis clock $name),)* }
            }
        }
    };
    (@counter shared $settings:ident $redis:ident $clock:ident $name:ident) => {
        RateLimit::new($redis.cloned(), stringify!($name), $settings.$name, Arc::clone($clock))
    };
    (@counter local $settings:ident $redis:ident $clock:ident $name:ident) => {
        RateLimit::new(None, stringify!($name), $settings.$name, Arc::clone($clock))
    };
}

limits! {
    /// Accounts opened from an address. Each may take what a shop gives once to each member, such as a coupon.
    shared sign_up_per_address = 60 per Hour, burst 30;
    /// Accounts opened in all. More than any campaign needs, and few enough that passwords of sign-ins are hashed beside them.
    shared sign_up_in_all = 10 per Second, burst 500;
    /// Sign-ins from an address whose password is checked. A quarter of the hashes that two cores can do.
    shared sign_in_per_address = 20 per Second, burst 2_000;
    /// Sessions that an account opens with its right password.
    shared sign_in_per_member = 60 per Hour, burst 20;
    /// Wrong passwords for an account from an address. Its owner may sign in elsewhere.
    shared wrong_password_per_pair = 30 per Hour, burst 5;
    /// Wrong passwords from an address, over all accounts. Accounts that signed in from there before pass.
    shared wrong_password_per_address = 600 per Hour, burst 100;
    /// Wrong passwords for an account, over all addresses. Addresses from which the account signed in before pass.
    shared wrong_password_per_account = 100 per Hour, burst 100;
    /// Refreshes of a session. A client needs about one an hour.
    local refresh_per_session = 60 per Hour, burst 10;
    /// Changes by a customer, such as claims, orders and cart lines.
    local write_per_member = 60 per Minute, burst 60;
    /// Changes by a seller or an operator, whose programs may load a catalogue.
    local write_per_seller = 100 per Second, burst 1_000;
    /// Changes by all members behind an address, and refreshes. Ten thousand people behind one address can claim at the same moment.
    local write_per_address = 500 per Second, burst 20_000;
}

impl Limits {
    /// Takes one change of a signed-in caller from the caller's bucket, then from the address's. A caller beyond the own limit takes
    /// nothing from neighbours.
    pub fn take_write(&self, caller: &Caller, address: IpAddr) -> Result<(), Problem> {
        let own = if caller.role == Role::Customer { &self.write_per_member } else { &self.write_per_seller };
        own.take_here(&caller.member_id.0).map_err(too_many_requests)?;
        self.take_write_of_address(address)
    }

    /// Takes one refresh of this session, then one change from the address's bucket.
    pub fn take_refresh(&self, session_id: Uuid, address: IpAddr) -> Result<(), Problem> {
        self.refresh_per_session.take_here(&session_id).map_err(too_many_requests)?;
        self.take_write_of_address(address)
    }

    fn take_write_of_address(&self, address: IpAddr) -> Result<(), Problem> {
        self.write_per_address.take_here(&address).map_err(too_many_requests)
    }

    /// Takes one sign-up, first from the address's bucket. `Err`: 429 if the address opens too many accounts, 503 if all callers together do.
    pub async fn take_sign_up(&self, address: IpAddr) -> Result<(), Problem> {
        let key = address.to_string();
        self.sign_up_per_address.take(&key).await.map_err(too_many_requests)?;
        if let Err(limited) = self.sign_up_in_all.take(ALL).await {
            self.sign_up_per_address.give_back(&key).await;
            return Err(refuse(Code::Overloaded, limited));
        }
        Ok(())
    }

    /// Returns a sign-up that was refused because the process was overloaded.
    pub async fn give_back_sign_up(&self, address: IpAddr) {
        self.sign_up_per_address.give_back(&address.to_string()).await;
        self.sign_up_in_all.give_back(ALL).await;
    }
}

/// Key of the one bucket for all callers.
const ALL: &str = "all";

/// 429 for a caller that changes too much in a short time.
pub(crate) fn too_many_requests(limited: RateLimited) -> Problem {
    refuse(Code::TooManyRequests, limited)
}

/// 429 for a caller that tries too many passwords, or signs in too often.
pub(crate) fn too_many_attempts(limited: RateLimited) -> Problem {
    refuse(Code::TooManyAttempts, limited)
}

fn refuse(code: Code, limited: RateLimited) -> Problem {
    metrics::counter!("onrush_limits_refused_total", "limit" => limited.limit).increment(1);
    let seconds = limited.wait.as_secs() + u64::from(limited.wait.subsec_nanos() > 0);
    Problem::from(code).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{MemberId, Timestamp};
    use futures::FutureExt;
    use runtime::ports::{ManualClock, new_id};
    use std::{net::Ipv4Addr, time::Duration};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));

    fn limits(settings: &LimitSettings) -> (Limits, ManualClock) {
        let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        (Limits::new(settings, None, &shared), clock)
    }

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().expect("a rate"))
    }

    fn caller(role: Role) -> Caller {
        Caller { member_id: MemberId(new_id()), role, session_id: new_id() }
    }

    fn refusal(result: Result<(), Problem>) -> Option<(Code, Option<u32>)> {
        result.err().map(|problem| (problem.code(), problem.retry_after))
    }

    // H5
    #[test]
    fn a_member_beyond_the_limit_is_told_when_to_return() {
        let (limits, clock) = limits(&LimitSettings::default());
        let (flooding, other) = (caller(Role::Customer), caller(Role::Customer));
        for _ in 0..60 {
            assert_eq!(refusal(limits.take_write(&flooding, HERE)), None);
        }
        assert_eq!(refusal(limits.take_write(&flooding, THERE)), Some((Code::TooManyRequests, Some(1))));
        assert_eq!(refusal(limits.take_write(&other, HERE)), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(refusal(limits.take_write(&flooding, HERE)), None);
        assert!(refusal(limits.take_write(&flooding, HERE)).is_some());
    }

    // H5: the burst of a rush, all behind one address
    #[test]
    fn ten_thousand_members_behind_one_address_can_write() {
        let (limits, clock) = limits(&LimitSettings::default());
        let crowd: Vec<Caller> = (0..10_000).map(|_| caller(Role::Customer)).collect();
        for _ in 0..2 {
            assert!(crowd.iter().all(|member| limits.take_write(member, HERE).is_ok()));
        }
        assert_eq!(refusal(limits.take_write(&crowd[0], HERE)), Some((Code::TooManyRequests, Some(1))));
        clock.advance(Duration::from_secs(20));
        assert!(crowd.iter().all(|member| limits.take_write(member, HERE).is_ok()));
    }

    // H5
    #[test]
    fn a_refused_member_takes_nothing_from_the_address() {
        let settings = LimitSettings { write_per_member: rate("1/hour"), write_per_address: rate("2/hour"), ..LimitSettings::off() };
        let (limits, _) = limits(&settings);
        let (flooding, other) = (caller(Role::Customer), caller(Role::Customer));
        assert!(limits.take_write(&flooding, HERE).is_ok());
        for _ in 0..9 {
            assert!(limits.take_write(&flooding, HERE).is_err());
        }
        assert!(limits.take_write(&other, HERE).is_ok());
        assert_eq!(refusal(limits.take_write(&caller(Role::Customer), HERE)), Some((Code::TooManyRequests, Some(1_800))));
    }

    #[test]
    fn sellers_and_operators_have_a_limit_of_their_own() {
        let (limits, _) = limits(&LimitSettings::default());
        for role in [Role::Seller, Role::Operator] {
            let caller = caller(role);
            assert!((0..1_000).all(|_| limits.take_write(&caller, HERE).is_ok()));
            assert!(limits.take_write(&caller, HERE).is_err());
        }
    }

    // L8
    #[test]
    fn a_step_of_the_wall_clock_changes_no_limit() {
        let (limits, clock) = limits(&LimitSettings::default());
        let member = caller(Role::Customer);
        let day = Duration::from_secs(24 * 3600);
        let start = clock.now();
        // Full debt, while the clock is a day ahead.
        clock.set(start.after(day));
        while limits.take_write(&member, HERE).is_ok() {}
        clock.set(start);
        assert_eq!(refusal(limits.take_write(&member, HERE)), Some((Code::TooManyRequests, Some(1))));
        clock.set(start.before(day));
        assert_eq!(refusal(limits.take_write(&member, HERE)), Some((Code::TooManyRequests, Some(1))), "a step forgives no debt");
        clock.advance(Duration::from_secs(1));
        assert_eq!(refusal(limits.take_write(&member, HERE)), None);
    }

    // H3
    #[test]
    fn sign_ups_are_limited_by_address_and_in_all() {
        let settings = LimitSettings {
            sign_up_per_address: rate("60/hour burst 3"),
            sign_up_in_all: rate("1/second burst 5"),
            ..LimitSettings::off()
        };
        let (limits, clock) = limits(&settings);
        let sign_up = |address| refusal(limits.take_sign_up(address).now_or_never().expect("it is ready at once"));
        for _ in 0..3 {
            assert_eq!(sign_up(HERE), None);
        }
        assert_eq!(sign_up(HERE), Some((Code::TooManyRequests, Some(60))));
        assert_eq!((sign_up(THERE), sign_up(THERE)), (None, None));
        assert_eq!(sign_up(THERE), Some((Code::Overloaded, Some(1))));
        clock.advance(Duration::from_secs(1));
        // The refusal for all callers took nothing from the address.
        assert_eq!(sign_up(THERE), None);
    }

    #[test]
    fn a_limit_that_is_off_permits_everything() {
        let (limits, _) = limits(&LimitSettings::off());
        let member = caller(Role::Customer);
        assert!((0..100_000).all(|_| limits.take_write(&member, HERE).is_ok()));
    }

    #[test]
    fn every_limit_has_a_name_and_a_default() {
        let mut settings = LimitSettings::default();
        let names: Vec<&str> = settings.rates().iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), 11);
        for name in names {
            *settings.rate_mut(name).expect("it is known") = None;
        }
        assert_eq!(settings, LimitSettings::off());
        assert_eq!(settings.rate_mut("no_such"), None);
    }
}
