//! Addresses from which accounts signed in. They may be lost: an account then has to pass the limits that a stranger has to pass.

use cache::{
    Cache,
    redis::{Redis, RedisError, cmd, to_millis},
};
use std::{fmt, net::IpAddr, time::Duration};

/// Maximum number of pairs of account and address in this process: some 10 MB.
const MAX_PAIRS: u64 = 100_000;
/// Time for which an address is known after a sign-in.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Pairs of account and address, in this process and in Redis. After a restart without Redis none is known.
pub(super) struct KnownAddresses {
    pairs: Cache<String, ()>,
    redis: Option<Redis>,
}

impl KnownAddresses {
    pub fn new(redis: Option<Redis>) -> KnownAddresses {
        KnownAddresses { pairs: Cache::new(MAX_PAIRS, KNOWN_FOR), redis }
    }

    /// Records a sign-in.
    pub async fn add(&self, account: &str, address: IpAddr) {
        let pair = pair(account, address);
        if let Some(redis) = &self.redis {
            let mut call = cmd("SET");
            call.arg(redis.private_key("known", "address", &pair)).arg(1).arg("PX").arg(to_millis(KNOWN_FOR));
            report(redis.call::<()>(&call).await);
        }
        self.pairs.insert(pair, ()).await;
    }

    /// True: the account signed in from this address before.
    pub async fn contains(&self, account: &str, address: IpAddr) -> bool {
        let pair = pair(account, address);
        if self.pairs.get(&pair).await.is_some() {
            return true;
        }
        let Some(redis) = &self.redis else { return false };
        report(redis.call::<bool>(cmd("EXISTS").arg(redis.private_key("known", "address", &pair))).await).unwrap_or(false)
    }
}

fn pair(account: &str, address: IpAddr) -> String {
    format!("{address} {account}")
}

fn report<T>(result: Result<T, RedisError>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(%error, "known addresses not shared")).ok()
}

impl fmt::Debug for KnownAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownAddresses")
    }
}
