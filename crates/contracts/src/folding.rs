//! The form in which texts are searched and compared.

use unicode_normalization::UnicodeNormalization;

/// Folds a text: texts that differ only in case, width, ligatures or the composition of letters become equal.
///
/// The compatibility form NFKC, then full case folding. The dot that remains of `İ` is dropped, because a reader types `i`.
pub fn fold_text(text: &str) -> String {
    // Lower case first, because only `ß` and not `ẞ` has an upper case of two letters. Lower case last, letter by letter: on a whole text
    // the last sigma of a word would differ.
    let lower = text.nfkc().flat_map(char::to_lowercase);
    let folded = lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let mut before = None;
    let undotted = folded.filter(|letter| {
        let is_dot_of_i = *letter == '\u{307}' && before == Some('i');
        if !is_dot_of_i {
            before = Some(*letter);
        }
        !is_dot_of_i
    });
    // Folding may have taken letters apart.
    undotted.nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // R7
    #[test]
    fn texts_that_look_the_same_fold_alike() {
        for (text, same) in [
            ("ＡＢＣ", "abc"),
            ("ﬁne", "FINE"),
            ("Straße", "STRASSE"),
            ("STRAẞE", "strasse"),
            ("İstanbul", "istanbul"),
            ("ΟΔΟΣ", "οδος"),
            ("ǰ", "J\u{30c}"),
            ("rose\u{301}", "ROSÉ"),
            // Composed and decomposed Hangul.
            ("감귤", "\u{1100}\u{1161}\u{11b7}\u{1100}\u{1172}\u{11af}"),
            ("①", "1"),
        ] {
            assert_eq!(fold_text(text), fold_text(same), "{text}");
        }
        assert_ne!(fold_text("감귤"), fold_text("감균"));
        assert_eq!(fold_text("100%_\\ "), "100%_\\ ");
    }

    #[test]
    fn a_folded_text_stays_as_it_is() {
        for text in ["İ\u{307}", "ǰΣﬁẞ", "ŉ", "ᾳ", "ﷺ", "감\u{307}"] {
            let folded = fold_text(text);
            assert_eq!(fold_text(&folded), folded, "{text}");
        }
    }
}
