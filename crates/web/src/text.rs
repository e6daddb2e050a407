//! Forms of texts: one in which they are stored, and one in which they are searched and compared.
//!
//! Two texts that look the same are equal in their stored form (NFC). Texts that differ only in case, width or ligatures are equal in
//! their folded form. The properties of characters are those of Unicode.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapDataBorrowed, CodePointSetDataBorrowed,
    props::{DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory},
};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();

const ZERO_WIDTH_JOINER: char = '\u{200d}';
const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// The text in the normal form NFC. Passwords are hashed in it, so that two systems that write them differently agree.
pub fn normalize(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { NFC.normalize(text) }
}

/// The form in which a text is stored: without white space around it, in NFC.
pub fn clean(text: &str) -> String {
    normalize(text.trim()).into_owned()
}

/// Deserializes a text in its stored form: `#[serde(deserialize_with = "text::cleaned")]`.
pub fn cleaned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| clean(&text))
}

/// The same for an optional field, which also needs `default`.
pub fn cleaned_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| text.map(|text| clean(&text)))
}

/// The form in which texts are searched and compared: NFKC, full case folding, and no ignorable characters such as the emoji style.
///
/// Letters fold by way of their upper case, so that `ß` and `ẞ` equal `SS`, and both small sigmas are equal. `İ` equals `i`.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let compatible = NFKC.normalize(text);
    let visible = compatible.chars().filter(|c| !is_ignorable(*c));
    let folded: String = visible.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    // The dot that remains of `İ` is part of its small letter.
    NFKC.normalize(&folded).replace("i\u{307}", "i")
}

fn is_ignorable(c: char) -> bool {
    CodePointSetDataBorrowed::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// True if the text has a character that shows: not only white space, fillers and ignorable characters.
pub fn is_visible(text: &str) -> bool {
    // The empty pattern of Braille and the empty note head are symbols without a mark.
    text.chars().any(|c| !c.is_whitespace() && !is_hidden(c) && !matches!(c, '\u{2800}' | '\u{1d159}'))
}

/// True for characters that do not show: ignorable and format characters, and separators of lines and paragraphs.
fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let category = CodePointMapDataBorrowed::<GeneralCategory>::new().get(c);
    is_ignorable(c) || matches!(category, GeneralCategory::Format | GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator)
}

/// True if the text has a character that does not show, outside an emoji.
pub fn has_hidden(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let mut before: Option<char> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if is_hidden(c) && !is_part_of_emoji(before, c, rest.peek().copied()) {
            return true;
        }
        before = Some(c);
    }
    false
}

/// True for the joiner between two pictures, and for the style behind a picture or within a keycap.
fn is_part_of_emoji(before: Option<char>, c: char, after: Option<char>) -> bool {
    let is_picture = |c: char| {
        CodePointSetDataBorrowed::new::<ExtendedPictographic>().contains(c) || CodePointSetDataBorrowed::new::<EmojiModifier>().contains(c)
    };
    let is_emoji = |c: char| CodePointSetDataBorrowed::new::<Emoji>().contains(c);
    match c {
        ZERO_WIDTH_JOINER => before.is_some_and(|c| is_picture(c) || c == EMOJI_STYLE) && after.is_some_and(is_picture),
        TEXT_STYLE | EMOJI_STYLE => before.is_some_and(|c| is_picture(c) || is_emoji(c) && after == Some(KEYCAP)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // R7
    #[test]
    fn texts_that_look_the_same_are_stored_the_same() {
        // Composed and decomposed Hangul and Latin.
        assert_eq!(clean("\u{1100}\u{1161}\u{11b7}\u{1100}\u{1172}\u{11af} \u{110c}\u{116e}\u{1109}\u{1173}"), "감귤 주스");
        assert_eq!(clean("cafe\u{301}"), "café");
        assert_eq!(clean("\u{3000} 750 ml \t"), "750 ml");
        assert_eq!(clean(clean("A\u{30a}").as_str()), "Å");
        assert_ne!(clean("ＡＢＣ"), "ABC", "the stored form keeps the width");
    }

    // R7
    #[test]
    fn case_width_and_ligatures_do_not_count_in_a_search() {
        for (one, other) in [
            ("ＡＢＣ", "abc"),
            ("ﬁne", "FINE"),
            ("STRASSE", "straße"),
            ("ẞ", "ss"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσ", "ΟΔΟς"),
            ("ǅ", "ǆ"),
            ("cafe\u{301}", "CAFÉ"),
            ("감귤", "\u{1100}\u{1161}\u{11b7}\u{1100}\u{1172}\u{11af}"),
            ("ｶﾞ", "ガ"),
            ("❤\u{fe0f}", "❤"),
            ("²", "2"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} and {other}");
        }
        assert_eq!(fold("İstanbul"), "istanbul");
        for (one, other) in [("감귤", "감귬"), ("abc", "abd"), ("a", "ä")] {
            assert_ne!(fold(one), fold(other));
        }
    }

    // L5
    #[test]
    fn only_emoji_hide_characters() {
        for hidden in [
            "\u{200b}",
            "\u{3164}",
            "\u{ad}",
            "\u{2060}",
            "\u{115f}",
            "\u{fe0f}",
            "\u{34f}",
            "\u{e0041}",
            "\u{2028}",
            "\u{2029}",
            "\u{180e}",
            "\u{200d}",
            "\u{feff}",
            "\u{202e}",
            "\u{61c}",
            "\u{1d173}",
            "\u{ffa0}",
        ] {
            assert!(has_hidden(&format!("a{hidden}b")), "{hidden:?}");
            assert!(!is_visible(&format!("{hidden} {hidden}")), "{hidden:?}");
        }
        for shown in [
            "👩\u{200d}👩\u{200d}👧",
            "👩🏽\u{200d}🚀",
            "🏳\u{fe0f}\u{200d}🌈",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "감귤 주스",
            "e\u{301}",
            "⠓",
            "Ω",
        ] {
            assert!(!has_hidden(shown) && is_visible(shown), "{shown:?}");
        }
        for disguised in ["1\u{fe0f}", "1\u{200d}2", "👩\u{200d}", "a\u{fe0f}"] {
            assert!(has_hidden(disguised), "{disguised:?}");
        }
        for blank in ["\u{2800}", "\u{1d159}", " \u{3000}", "", "\u{2800} \u{200b}"] {
            assert!(!is_visible(blank), "{blank:?}");
        }
    }
}
