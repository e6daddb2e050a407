//! Passwords, hashed with argon2id behind the [gate](super::PasswordGate). Plain passwords are never logged, stored or truncated.

use super::password_gate::{HashQueue, PasswordGate};
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use contracts::Code;
use runtime::ports::random_bytes;
use std::{net::IpAddr, sync::LazyLock};
use web::{Problem, text::normalize};
use zxcvbn::zxcvbn;

/// OWASP's first recommendation for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

const MIN_CHARACTERS: usize = 8;
/// Bounds the work of hashing; far above any real password.
const MAX_BYTES: usize = 1024;
/// Minimum of estimated guesses. Weaker passwords are among the first thousands that attackers try. Calibrated by the tests below.
const MIN_GUESSES: u64 = 20_000;
/// Shorter names are not searched in passwords, because they may be a part of any word.
const MIN_NAME_CHARACTERS: usize = 4;

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).expect("the parameters are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes a password in its normal form NFC, in the PHC format for storage. Systems that type the same letters differently agree so.
///
/// `address` is [`web::Peer::source`], by which the gate shares its places.
pub async fn hash(gate: &PasswordGate, queue: HashQueue, address: IpAddr, password: &str) -> Result<String, Problem> {
    let password = normalize(password).into_owned();
    gate.run(queue, address, move || hash_blocking(&password)).await?.ok_or_else(|| {
        tracing::error!("password hashing failed in argon2");
        Code::Internal.into()
    })
}

fn hash_blocking(password: &str) -> Option<String> {
    let salt: [u8; 16] = random_bytes();
    argon2().hash_password_with_salt(password.as_bytes(), &salt).ok().map(|hash| hash.to_string())
}

/// True when the password matches the hash, in its normal form or as typed: earlier versions hashed it as typed.
pub async fn verify(gate: &PasswordGate, address: IpAddr, password: &str, hash: &str) -> Result<bool, Problem> {
    let (password, hash) = (password.to_owned(), hash.to_owned());
    gate.run(HashQueue::SignIn, address, move || verify_any_form(&password, &hash)).await
}

/// Takes as long as [`verify`], for unknown accounts, so that the response time does not reveal which accounts exist.
pub async fn verify_dummy(gate: &PasswordGate, address: IpAddr, password: &str) -> Result<(), Problem> {
    let password = password.to_owned();
    gate.run(HashQueue::SignIn, address, move || {
        if let Some(hash) = DUMMY_HASH.as_deref() {
            verify_any_form(&password, hash);
        }
    })
    .await
}

/// Hash of a password that no account has, with the same parameters as real hashes.
static DUMMY_HASH: LazyLock<Option<String>> = LazyLock::new(|| hash_blocking("nobody has this password"));

fn verify_any_form(password: &str, hash: &str) -> bool {
    let normal = normalize(password);
    verify_blocking(&normal, hash) || (normal != password && verify_blocking(password, hash))
}

fn verify_blocking(password: &str, hash: &str) -> bool {
    match PasswordHash::new(hash) {
        Ok(hash) => argon2().verify_password(password.as_bytes(), &hash).is_ok(),
        Err(error) => {
            tracing::error!(%error, "stored password hash not readable");
            false
        }
    }
}

/// Refuses passwords that attackers try first. `inputs` are texts that an attacker knows: the e-mail address, the name.
pub fn check_strength(password: &str, inputs: &[&str]) -> Result<(), Problem> {
    let password = &*normalize(password);
    let weak = |message: &str| Err(Problem::field("/password", Code::WeakPassword, message));
    if password.len() > MAX_BYTES {
        return Err(Problem::field("/password", Code::TooLong, format!("must have at most {MAX_BYTES} bytes")));
    }
    if password.chars().count() < MIN_CHARACTERS {
        return weak("must have at least 8 characters");
    }
    let lower = password.to_lowercase();
    let names = inputs.iter().map(|input| input.split('@').next().unwrap_or_default().trim().to_lowercase());
    for name in names.filter(|name| name.chars().count() >= MIN_NAME_CHARACTERS) {
        if lower.contains(&name) {
            return weak("must not contain your e-mail address or name");
        }
    }
    if zxcvbn(password, inputs).guesses() < MIN_GUESSES {
        return weak("is among those that are guessed first");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(password: &str) -> Option<Code> {
        check_strength(password, &["minsu.kim@example.com"]).err().map(|problem| problem.code())
    }

    // row 31
    #[test]
    fn common_passwords_are_refused_and_others_accepted() {
        for weak in [
            "short77",
            "1234567",
            "password",
            "Password",
            "PASSWORD",
            "password1",
            "12345678",
            "123456789",
            "qwertyui",
            "qwerty123",
            "iloveyou",
            "sunshine",
            "princess",
            "football",
            "baseball",
            "superman",
            "trustno1",
            "starwars",
            "whatever",
            "aaaaaaaa",
            "11111111",
            "abcd1234",
            "abcdefgh",
            "1q2w3e4r",
            "1qaz2wsx",
            "passw0rd",
            "letmein1",
            "dragon12",
            "asdfghjk",
            "zaq12wsx",
            "computer",
            "michelle",
            "jennifer",
            "87654321",
            "00000000",
            "minsu.kim",
            "xMinsu.Kim2026!",
        ] {
            assert_eq!(refused(weak), Some(Code::WeakPassword), "{weak}");
        }
        for fine in [
            "correct horse battery staple",
            "tr4nsp0rt-Kiwi",
            "v9#kLq2m",
            "우리집고양이는까매요",
            "пароль для магазина",
            "x7!mango-river",
            "🦊🐢🦉🐙🦑🐸🦀🐡",
            &"long enough to be cut by others ".repeat(8),
        ] {
            assert_eq!(refused(fine), None, "{fine}");
        }
        assert_eq!(refused(&"x7!mango-".repeat(200)), Some(Code::TooLong));
        // A short local part is not searched in the password.
        assert!(check_strength("v9#kLq2m", &["v9@example.com"]).is_ok());
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    // L6, R7: NFC and NFD of one password, and a hash of an earlier version.
    #[tokio::test]
    async fn the_form_of_letters_does_not_count() {
        let gate = fast_gate();
        let (composed, decomposed) = ("우리집-고양이", "\u{110b}\u{116e}\u{1105}\u{1175}\u{110c}\u{1175}\u{11b8}-고양이");
        for hashed in [composed, decomposed] {
            let kept = hash(&gate, HashQueue::SignUp, HERE, hashed).await.expect("there is room");
            for typed in [composed, decomposed] {
                assert!(verify(&gate, HERE, typed, &kept).await.expect("there is room"), "{hashed:?} and {typed:?}");
            }
            assert!(!verify(&gate, HERE, "우리집-고양아", &kept).await.expect("there is room"));
        }
        let earlier = hash_blocking(decomposed).expect("a hash");
        assert!(verify(&gate, HERE, decomposed, &earlier).await.expect("there is room"));
    }

    fn fast_gate() -> PasswordGate {
        PasswordGate::new(2, 8, 8)
    }

    // row 31: any Unicode, and no truncation
    #[tokio::test]
    async fn a_hash_matches_its_password_only() {
        let gate = fast_gate();
        let long = format!("{}a", "비밀번호".repeat(60));
        let kept = hash(&gate, HashQueue::SignUp, HERE, &long).await.expect("there is room");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify(&gate, HERE, &long, &kept).await.expect("there is room"));
        assert!(!verify(&gate, HERE, &format!("{}b", &long[..long.len() - 1]), &kept).await.expect("there is room"));
        assert!(!verify(&gate, HERE, &long, "not a hash").await.expect("there is room"));
        assert_ne!(hash(&gate, HashQueue::SignUp, HERE, &long).await.expect("there is room"), kept);
    }

    // row 29
    #[tokio::test]
    async fn an_unknown_account_takes_the_time_of_a_known_one() {
        use runtime::ports::Stopwatch;
        let gate = fast_gate();
        let kept = hash(&gate, HashQueue::SignUp, HERE, "x7!mango-river").await.expect("there is room");
        verify_dummy(&gate, HERE, "warm up").await.expect("there is room");
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            let watch = Stopwatch::start();
            verify(&gate, HERE, "wrong", &kept).await.expect("there is room");
            known.push(watch.elapsed());
            let watch = Stopwatch::start();
            verify_dummy(&gate, HERE, "wrong").await.expect("there is room");
            unknown.push(watch.elapsed());
        }
        // The work is the same by construction; the times only show that it is done. Compares the fastest runs, as the machine is shared.
        let (known, unknown) = (known.iter().min().expect("seven"), unknown.iter().min().expect("seven"));
        assert!(*known < *unknown * 4 && *unknown < *known * 4, "{known:?} and {unknown:?}");
        let parameters = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(DUMMY_HASH.as_deref().and_then(parameters), parameters(&kept));
    }
}
