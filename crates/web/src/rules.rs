//! Rules for fields, used as `#[garde(custom(rules::text(200)))]`.
//!
//! A message that begins with the slug of a problem and a colon gives the field the code of that problem.

use super::text as text_form;
use contracts::Code;

/// A value that may contain a text.
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

/// A value that may contain a list.
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

/// A text of one line: with a character that shows, at most `max` characters, without characters that hide or reorder text. Invisible
/// characters within an emoji may stay.
pub fn text<T: Text + ?Sized>(max: usize) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| value.text().map_or(Ok(()), |text| check_text(text, max, false))
}

/// Like [`text`], but it may be empty and contain line breaks and tabs.
pub fn long_text<T: Text + ?Sized>(max: usize) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| value.text().map_or(Ok(()), |text| check_text(text, max, true))
}

/// A list of at most `max` entries.
pub fn items<T: Items + ?Sized>(max: usize) -> impl FnOnce(&T, &()) -> garde::Result {
    move |value, ()| {
        if value.count() > max {
            return Err(refuse(Code::TooMany, format_args!("must have at most {max} entries")));
        }
        Ok(())
    }
}

fn check_text(text: &str, max: usize, lines: bool) -> garde::Result {
    // Counts characters only when there are more than `max` bytes.
    if text.len() > max && text.chars().count() > max {
        return Err(refuse(Code::TooLong, format_args!("must have at most {max} characters")));
    }
    if !lines && !text_form::is_visible(text) {
        return Err(garde::Error::new("must not be blank"));
    }
    let disallowed = |c: char| if lines { is_disallowed(c) && !matches!(c, '\n' | '\r' | '\t') } else { is_disallowed(c) };
    if text.chars().any(disallowed) {
        return Err(garde::Error::new("must not have control characters"));
    }
    if !lines && text_form::has_hidden(text) {
        return Err(garde::Error::new("must not have invisible characters"));
    }
    Ok(())
}

/// True for control characters and for those that change the text direction, which could make a name look like another.
fn is_disallowed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Error of a rule that has a problem code of its own.
pub fn refuse(code: Code, message: impl std::fmt::Display) -> garde::Error {
    garde::Error::new(format!("{}: {message}", code.slug()))
}

/// Splits the error of a rule into its code and message.
pub(super) fn parse_message(message: &str) -> (Code, &str) {
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

    fn message_of(result: garde::Result) -> String {
        result.err().map_or_else(String::new, |error| error.to_string())
    }

    // rows 5, 8, 76
    #[test]
    fn long_blank_and_reordering_texts_are_refused() {
        assert_eq!(message_of(text(3)("가나다", &())), "");
        assert_eq!(message_of(text(3)("가나다라", &())), "too-long: must have at most 3 characters");
        for disallowed in ["a\0b", "a\nb", "a\u{202e}b", "a\u{2066}b", "a\u{85}b"] {
            assert_eq!(message_of(text(10)(disallowed, &())), "must not have control characters", "{disallowed:?}");
        }
        for blank in [" \u{3000}", "\u{200b}", "\u{3164}", "\u{2800}", "\u{e0041}"] {
            assert_eq!(message_of(text(10)(blank, &())), "must not be blank", "L5: {blank:?}");
        }
        assert_eq!(message_of(text(10)("a\u{2028}b", &())), "must not have invisible characters");
        assert_eq!(message_of(long_text(10)("a\u{ad}b", &())), "", "texts of several lines are often pasted");
        assert_eq!(message_of(text(10)("👩‍👩‍👧", &())), "");
        assert_eq!(message_of(long_text(10)("a\r\n\tb", &())), "");
        assert_eq!(message_of(long_text(10)("a\0", &())), "must not have control characters");
        assert_eq!(message_of(text(1)(&Some("ab".to_owned()), &())), "too-long: must have at most 1 characters");
        assert_eq!(message_of(text(1)(&None::<String>, &())), "");
    }

    #[test]
    fn long_lists_are_refused() {
        assert_eq!(message_of(items(2)(&vec![1, 2], &())), "");
        assert_eq!(message_of(items(2)(&vec![1, 2, 3], &())), "too-many: must have at most 2 entries");
        assert_eq!(message_of(items(2)(&None::<Vec<i32>>, &())), "");
    }

    #[test]
    fn a_message_with_a_slug_gets_its_code() {
        assert_eq!(parse_message("too-long: must be short"), (Code::TooLong, "must be short"));
        assert_eq!(parse_message("note: must be short"), (Code::InvalidField, "note: must be short"));
    }
}
