//! E-mail addresses and phone numbers: parsed once into what may be stored.

/// Longest address that mail can carry (RFC 5321, 4.5.3.1.3, without the angle brackets).
const MAX_EMAIL: usize = 254;
const MAX_LOCAL_PART: usize = 64;
const MAX_LABEL: usize = 63;
/// E.164 allows 15 digits; below 8 there is no subscriber number with its area.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// An e-mail address. Two texts that differ only in case or in surrounding space are the same address.
///
/// ASCII only: international domains come in their `xn--` form. So no two different addresses look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// As it was written.
    pub shown: String,
    /// What identifies the account.
    pub normalized: String,
}

impl Email {
    pub fn parse(text: &str) -> Option<Email> {
        let shown = text.trim();
        let (local, domain) = shown.rsplit_once('@')?;
        let fits = shown.len() <= MAX_EMAIL && is_local_part(local) && is_domain(domain);
        fits.then(|| Email { shown: shown.to_owned(), normalized: shown.to_ascii_lowercase() })
    }
}

fn is_local_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    (1..=MAX_LOCAL_PART).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('.')
        && !text.ends_with('.')
        && !text.contains("..")
}

fn is_domain(text: &str) -> bool {
    let label = |part: &str| {
        (1..=MAX_LABEL).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.contains('.') && text.split('.').all(label)
}

/// A phone number: digits, with a leading `+` if it was given. Spaces and hyphens are only for reading.
pub fn phone(text: &str) -> Option<String> {
    let text = text.trim();
    let (plus, rest) = match text.strip_prefix('+') {
        Some(rest) => ("+", rest),
        None => ("", text),
    };
    let digits: String = rest.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let fits = digits.bytes().all(|byte| byte.is_ascii_digit()) && PHONE_DIGITS.contains(&digits.len());
    fits.then(|| format!("{plus}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_and_surrounding_space_do_not_make_another_address() {
        let written = Email::parse("  Kim.Minji@Example.COM ").unwrap();
        assert_eq!(written.shown, "Kim.Minji@Example.COM");
        assert_eq!(written.normalized, Email::parse("kim.minji@example.com").unwrap().normalized);
    }

    #[test]
    fn what_mail_cannot_reach_is_refused() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long = format!("a@{}.com", "b.".repeat(130));
        for text in [
            "",
            "@",
            "a@",
            "@example.com",
            "a@example",
            "a@@example.com",
            "a b@example.com",
            ".a@example.com",
            "a..b@example.com",
            "a@-example.com",
            "a@example..com",
            "a@exam\u{202e}ple.com",
            "аdmin@example.com",
            "a\0@example.com",
            "a@example.com\r\nbcc: b@example.com",
            &long_local,
            &long,
        ] {
            assert_eq!(Email::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn phone_numbers_lose_only_what_is_for_reading() {
        assert_eq!(phone("010-1234-5678").as_deref(), Some("01012345678"));
        assert_eq!(phone(" +82 10 1234 5678").as_deref(), Some("+821012345678"));
        for text in ["", "+", "1234567", "1234567890123456", "010-1234-567a", "０１０１２３４５６７８", "++8210123456"] {
            assert_eq!(phone(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_a_normalized_address_changes_nothing(text in "[ a-zA-Z0-9.+@-]{0,40}") {
            if let Some(email) = Email::parse(&text) {
                let again = Email::parse(&email.normalized).expect("a normalized address is an address");
                prop_assert_eq!(again.normalized, email.normalized);
            }
        }
    }
}
