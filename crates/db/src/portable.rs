//! Removes or renumbers parts of SQL texts, so that one text works for both databases.

use std::borrow::Cow;

const WITHOUT_ROWID: &str = " without rowid";

/// Removes SQLite's ` without rowid` after tables.
pub fn without_rowid(sql: &str) -> Cow<'_, str> {
    let lower = sql.to_ascii_lowercase();
    let mut kept = String::new();
    let mut from = 0;
    for (at, found) in lower.match_indices(WITHOUT_ROWID) {
        kept.push_str(&sql[from..at]);
        from = at + found.len();
    }
    if from == 0 {
        return Cow::Borrowed(sql);
    }
    kept.push_str(&sql[from..]);
    Cow::Owned(kept)
}

/// Removes ` for update` at the end, because SQLite's single writer locks no rows.
pub fn without_lock(sql: &str) -> &str {
    let sql = sql.trim_end();
    sql.strip_suffix("for update").unwrap_or(sql)
}

/// Turns `$1` into `?1` where needed. SQLite treats `$1` as a name, and numbers names as they appear. So `set a=$2 where id=$1` would
/// swap its values. `?1` is a number. Most texts have the placeholders in order, and stay unchanged.
pub fn numbered(sql: &str) -> Cow<'_, str> {
    let mut seen = 0;
    let mut in_order = true;
    for (at, _) in sql.match_indices('$') {
        let digits = sql[at + 1..].bytes().take_while(u8::is_ascii_digit);
        let number = digits.fold(0_usize, |number, digit| number * 10 + usize::from(digit - b'0'));
        in_order &= number <= seen + 1;
        seen = seen.max(number);
    }
    if in_order {
        return Cow::Borrowed(sql);
    }
    let is_number = |at: usize| sql[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    Cow::Owned(sql.char_indices().map(|(at, c)| if c == '$' && is_number(at) { '?' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_rowid_is_removed() {
        assert_eq!(
            without_rowid("create table a (b int) without rowid;\ncreate table c (d int) WITHOUT ROWID"),
            "create table a (b int);\ncreate table c (d int)"
        );
        assert!(matches!(without_rowid("create table a (b int)"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_lock_clause_at_the_end_is_removed() {
        assert_eq!(without_lock("select 1 for update \n"), "select 1 ");
        assert_eq!(without_lock("select 'for update'"), "select 'for update'");
    }

    #[test]
    fn parameters_out_of_order_become_numbered() {
        assert!(matches!(numbered("select $1, $2, $1, $3"), Cow::Borrowed(_)));
        assert_eq!(numbered("select $2, $1, '$', '$a'"), "select ?2, ?1, '$', '$a'");
    }
}
