//! Rules for fields, used as `#[garde(custom(rules::text(200)))]`. A message may begin with the slug of a problem and a colon: then the
//! field gets that problem's code.

use contracts::Code;

/// Something that may hold a text.
pub trait Text {
    fn text(&self) -> Option<&str>;
}

impl Text for str {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Text for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl<T: Text> Text for Option<T> {
    fn text(&self) -> Option<&str> {
        self.as_ref().and_then(Text::text)
    }
}

impl<T: Text + ?Sized> Text for &T {
    fn text(&self) -> Option<&str> {
        (**self).text()
    }
}

/// Something that may hold a list.
pub trait Items {
    fn count(&self) -> usize;
}

impl<T> Items for [T] {
    fn count(&self) -> usize {
        self.len()
    }
}

impl<T> Items for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }
}

impl<T: Items> Items for Option<T> {
    fn count(&self) -> usize {
        self.as_ref().map_or(0, Items::count)
    }
}

impl<T: Items + ?Sized> Items for &T {
    fn count(&self) -> usize {
        (**self).count()
    }
}

/// At least one visible character, at most `max` characters, on one line, and nothing that reorders or hides what is shown.
pub fn text<T: Text + ?Sized>(max: usize) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| value.text().map_or(Ok(()), |text| check_text(text, max, false))
}

/// The same with line breaks and tabs allowed, and allowed to be empty.
pub fn long_text<T: Text + ?Sized>(max: usize) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| value.text().map_or(Ok(()), |text| check_text(text, max, true))
}

/// At most `max` entries.
pub fn items<T: Items + ?Sized>(max: usize) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| {
        if value.count() > max {
            return Err(refuse(Code::TooMany, format_args!("must have at most {max} entries")));
        }
        Ok(())
    }
}

fn check_text(text: &str, max: usize, lines: bool) -> garde::Result {
    // Characters are counted only when the bytes alone cannot settle it.
    if text.len() > max && text.chars().count() > max {
        return Err(refuse(Code::TooLong, format_args!("must have at most {max} characters")));
    }
    if !lines && text.trim().is_empty() {
        return Err(garde::Error::new("must not be blank"));
    }
    let unfit = |c: char| if lines { is_unfit(c) && !matches!(c, '\n' | '\r' | '\t') } else { is_unfit(c) };
    if text.chars().any(unfit) {
        return Err(garde::Error::new("must not have control characters"));
    }
    Ok(())
}

/// Control characters, and those that change the direction of what follows (a name must not be shown as another).
fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// An error of a rule that has its own problem.
pub fn refuse(code: Code, message: impl std::fmt::Display) -> garde::Error {
    garde::Error::new(format!("{}: {message}", code.slug()))
}

/// The code and the message of a rule's error.
pub(super) fn read_message(message: &str) -> (Code, &str) {
    if let Some((slug, rest)) = message.split_once(": ")
        && let Some(code) = Code::from_slug(slug)
    {
        return (code, rest);
    }
    (Code::InvalidField, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: garde::Result) -> String {
        result.err().map_or_else(String::new, |error| error.to_string())
    }

    // rows 5, 8, 76
    #[test]
    fn texts_are_short_visible_and_in_order() {
        assert_eq!(said(text(3)("가나다", &())), "");
        assert_eq!(said(text(3)("가나다라", &())), "too-long: must have at most 3 characters");
        for unfit in ["a\0b", "a\nb", "a\u{202e}b", "a\u{2066}b", "a\u{85}b"] {
            assert_eq!(said(text(10)(unfit, &())), "must not have control characters", "{unfit:?}");
        }
        assert_eq!(said(text(10)(" \u{3000}", &())), "must not be blank");
        assert_eq!(said(text(10)("👩‍👩‍👧", &())), "");
        assert_eq!(said(long_text(10)("a\r\n\tb", &())), "");
        assert_eq!(said(long_text(10)("a\0", &())), "must not have control characters");
        assert_eq!(said(text(1)(&Some("ab".to_owned()), &())), "too-long: must have at most 1 characters");
        assert_eq!(said(text(1)(&None::<String>, &())), "");
    }

    #[test]
    fn lists_are_short() {
        assert_eq!(said(items(2)(&vec![1, 2], &())), "");
        assert_eq!(said(items(2)(&vec![1, 2, 3], &())), "too-many: must have at most 2 entries");
        assert_eq!(said(items(2)(&None::<Vec<i32>>, &())), "");
    }

    #[test]
    fn a_message_may_name_its_problem() {
        assert_eq!(read_message("too-long: must be short"), (Code::TooLong, "must be short"));
        assert_eq!(read_message("note: must be short"), (Code::InvalidField, "note: must be short"));
    }
}
