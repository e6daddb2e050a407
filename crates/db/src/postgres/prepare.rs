//! Tells the server parameter types that it cannot infer from the text, or would infer too narrow.

use tokio_postgres::types::Type;

/// Information needed before a text can be prepared.
#[derive(Debug, PartialEq)]
pub enum Hints {
    None,
    /// These types, in order. `UNKNOWN` leaves the type to the server.
    Types(Vec<Type>),
    /// `$1 is null or key=$1`: the server looks only at the first placeholder, which tells no type, and fails. This text has `null`
    /// there, so its other placeholders determine the types.
    Ask(String, Vec<Type>),
}

/// Finds the hints. Beside a number the server would take `$1` for an INTEGER, as in `version=$1-1`. All numbers here are BIGINT.
pub fn find_hints(sql: &str) -> Hints {
    let mut wide: Vec<usize> = Vec::new();
    let mut asked = String::new();
    let mut kept = 0;
    for (at, number, end) in placeholders(sql) {
        if is_in_sum(&sql[..at], &sql[end..]) {
            wide.push(number);
        }
        if is_tested_for_null(&sql[end..]) {
            asked.push_str(&sql[kept..at]);
            asked.push_str("null");
            kept = end;
        }
    }
    let mut types = vec![Type::UNKNOWN; wide.iter().copied().max().unwrap_or(0)];
    for number in wide {
        types[number - 1] = Type::INT8;
    }
    if kept > 0 {
        asked.push_str(&sql[kept..]);
        Hints::Ask(asked, types)
    } else if types.is_empty() {
        Hints::None
    } else {
        Hints::Types(types)
    }
}

/// The placeholders `$n` outside of quotes: start, number, end.
pub fn placeholders(sql: &str) -> impl Iterator<Item = (usize, usize, usize)> {
    let bytes = sql.as_bytes();
    let mut at = 0;
    let mut quoted = false;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let here = at;
            at += 1;
            if bytes[here] == b'\'' {
                quoted = !quoted;
            } else if bytes[here] == b'$' && !quoted {
                while at < bytes.len() && bytes[at].is_ascii_digit() {
                    at += 1;
                }
                if let Ok(number @ 1..) = sql[here + 1..at].parse() {
                    return Some((here, number, at));
                }
            }
        }
        None
    })
}

/// `$1-1`, `1 + $1`, `$1-$2`.
fn is_in_sum(before: &str, after: &str) -> bool {
    let number = |c: char| c.is_ascii_digit() || c == '$';
    let sign = ['+', '-', '*', '/'];
    let behind = after.trim_start().strip_prefix(sign).is_some_and(|rest| rest.trim_start().starts_with(number));
    let ahead = before.trim_end().strip_suffix(sign).is_some_and(|rest| {
        let rest = rest.trim_end();
        let word = rest.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$')).next().unwrap_or("");
        word.starts_with(number)
    });
    behind || ahead
}

fn is_tested_for_null(after: &str) -> bool {
    let mut words = after.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase);
    let mut next = || words.next().unwrap_or_default();
    after.starts_with(char::is_whitespace) && next() == "is" && matches!(next().as_str(), "null" | "not")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_texts_need_no_hints() {
        for sql in [
            "select a from t where b=$1 and c<$2 for update",
            "update t set balance=balance+$2 where id=$1",
            "select '$1 is null', '1+$1' from t where a=$1",
            "select count(*), $1 from t",
            "select -$1",
        ] {
            assert_eq!(find_hints(sql), Hints::None, "{sql}");
        }
    }

    #[test]
    fn numbers_in_sums_are_bigint() {
        let types = |sql| match find_hints(sql) {
            Hints::Types(types) => types,
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(types("update t set a=$1 where b=$2-1"), [Type::UNKNOWN, Type::INT8]);
        assert_eq!(types("select 1 + $1"), [Type::INT8]);
        assert_eq!(types("select $1-$2"), [Type::INT8, Type::INT8]);
    }

    #[test]
    fn a_parameter_tested_for_null_is_probed() {
        let asked = |sql| match find_hints(sql) {
            Hints::Ask(text, _) => text,
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(asked("select 1 where ($1 is null or a=$1)"), "select 1 where (null is null or a=$1)");
        assert_eq!(asked("select 1 where $10 IS  NOT NULL and a=$10"), "select 1 where null IS  NOT NULL and a=$10");
    }
}
