//! E-mail addresses and phone numbers, parsed once into their stored form.

/// Longest address that mail can carry, in bytes (RFC 5321, 4.5.3.1.3, without the angle brackets).
const MAX_EMAIL: usize = 254;
const MAX_LOCAL_PART: usize = 64;
const MAX_LABEL: usize = 63;
/// E.164 allows 15 digits. A subscriber number with its area code has at least 8.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// An e-mail address. Two texts that differ only in case or surrounding space are the same address.
///
/// ASCII only, with international domains in their `xn--` form, so that different addresses look different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// As the member wrote it, trimmed.
    pub shown: String,
    /// Lower case; identifies the account.
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

/// Normalizes a phone number to its digits, with a leading `+` if given. Drops spaces and hyphens. `None`: not a phone number.
pub fn parse_phone(text: &str) -> Option<String> {
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
    fn case_and_surrounding_space_do_not_matter() {
        let written = Email::parse("  Kim.Minji@Example.COM ").unwrap();
        assert_eq!(written.shown, "Kim.Minji@Example.COM");
        assert_eq!(written.normalized, Email::parse("kim.minji@example.com").unwrap().normalized);
    }

    #[test]
    fn undeliverable_addresses_are_refused() {
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
    fn a_phone_number_loses_only_spaces_and_hyphens() {
        assert_eq!(parse_phone("010-1234-5678").as_deref(), Some("01012345678"));
        assert_eq!(parse_phone(" +82 10 1234 5678").as_deref(), Some("+821012345678"));
        for text in ["", "+", "1234567", "1234567890123456", "010-1234-567a", "０１０１２３４５６７８", "++8210123456"] {
            assert_eq!(parse_phone(text), None, "{text:?}");
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
