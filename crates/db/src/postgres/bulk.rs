//! Runs one statement for many rows: their parameters travel as arrays, one for each placeholder. A statement for each row would cost
//! both sides a message, a wake-up and a plan start. Those are most of the cost of such a statement.

use super::{ParamRows, prepare::placeholders};
use std::fmt::Write;
use tokio_postgres::types::Type;

/// Name of the arrays in the text, and of the ordinal column among them.
const PARAMS_ALIAS: &str = "given";
const ORDINAL_COLUMN: &str = "given_place";

/// A text for one row of parameters, rewritten for many.
#[derive(Debug, PartialEq)]
pub struct Bulk {
    pub sql: String,
    pub kind: BulkKind,
}

#[derive(Debug, PartialEq)]
pub enum BulkKind {
    /// Each row counts one.
    Insert,
    /// Returns the ordinals of the parameter rows that changed something, once for each change. Valid only for rows that differ in these
    /// placeholders (from 0). They are the key of the changed rows, so no two parameter rows change the same row or depend on each other.
    Change(Vec<usize>),
    /// Returns the result of each parameter row, one after the other, with two more columns.
    Query,
}

impl Bulk {
    /// Rewrites a text. `None`: the rows must run one by one. `types` are the types of the parameters.
    pub fn of(sql: &str, types: &[Type]) -> Option<Self> {
        let (words, params) = (top_level_words(sql), params_table(types)?);
        if words.iter().any(|(_, word)| word.contains(char::is_uppercase)) {
            return None;
        }
        let at = |word: &str| words.iter().find(|(_, found)| *found == word).map(|(at, _)| *at);
        let has = |word: &str| at(word).is_some();
        let named: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
        let (sql, kind) = match *named.as_slice() {
            ["insert", "into", _, "values"] => {
                let (head, values) = sql.split_at(at("values")?);
                let values = single_row_values(&values["values".len()..])?;
                (
                    format!("{head}select {} from {params} order by {PARAMS_ALIAS}.{ORDINAL_COLUMN}", substitute_columns(values)),
                    BulkKind::Insert,
                )
            }
            ["update", _, "set", ..] if has("where") && !has("or") && !has("from") && !has("returning") => {
                let (set, condition) = (at("set")? + "set".len(), at("where")?);
                let key = key_params(&sql[condition + "where".len()..], &assigned_columns(&sql[set..condition])?)?;
                let (head, tail) = (substitute_columns(&sql[..condition]), substitute_columns(&sql[condition..]));
                (format!("{head}from {params} {tail} returning {PARAMS_ALIAS}.{ORDINAL_COLUMN}"), BulkKind::Change(key))
            }
            ["delete", "from", _, "where", ..] if !has("or") && !has("returning") => {
                let condition = at("where")?;
                let key = key_params(&sql[condition + "where".len()..], &[])?;
                let (head, tail) = sql.split_at(condition);
                (
                    format!("{head}using {params} {} returning {PARAMS_ALIAS}.{ORDINAL_COLUMN}", substitute_columns(tail)),
                    BulkKind::Change(key),
                )
            }
            ["select", ..] => {
                let found = format!("select found.*, row_number() over () as found_place from ({}) found", substitute_columns(sql));
                let text = format!(
                    "select found.*, {PARAMS_ALIAS}.{ORDINAL_COLUMN} from {params} cross join lateral ({found}) found order by {PARAMS_ALIAS}.{ORDINAL_COLUMN}, found.found_place"
                );
                (text, BulkKind::Query)
            }
            _ => return None,
        };
        Some(Self { sql, kind })
    }

    /// True if these rows may run as one statement.
    pub fn accepts(&self, rows: &ParamRows) -> bool {
        match &self.kind {
            BulkKind::Change(key) => rows.are_distinct_in(key),
            BulkKind::Insert | BulkKind::Query => true,
        }
    }
}

/// The arrays as a table with a column for each placeholder.
fn params_table(types: &[Type]) -> Option<String> {
    let (mut arrays, mut columns) = (String::new(), String::new());
    for (place, kind) in (1..).zip(types) {
        let name = match *kind {
            Type::INT8 | Type::INT4 | Type::INT2 | Type::BOOL | Type::TEXT | Type::VARCHAR | Type::BYTEA | Type::UUID => kind.name(),
            _ => return None,
        };
        let _ = write!(arrays, "{}${place}::{name}[]", if place > 1 { "," } else { "" });
        let _ = write!(columns, "v{place},");
    }
    (!types.is_empty()).then(|| format!("unnest({arrays}) with ordinality as {PARAMS_ALIAS}({columns}{ORDINAL_COLUMN})"))
}

/// Replaces the placeholders by columns of the arrays.
fn substitute_columns(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 64);
    let mut kept = 0;
    for (at, number, end) in placeholders(sql) {
        let _ = write!(text, "{}{PARAMS_ALIAS}.v{number}", &sql[kept..at]);
        kept = end;
    }
    text.push_str(&sql[kept..]);
    text
}

/// The words outside of quotes and brackets, with their positions.
fn top_level_words(sql: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut depth, mut quoted, mut start) = (0_u32, false, None);
    for (at, sign) in sql.char_indices().chain([(sql.len(), ' ')]) {
        let in_word = depth == 0 && !quoted && (sign.is_ascii_alphanumeric() || sign == '_' || sign == '.');
        match (in_word, start) {
            (true, None) => start = Some(at),
            (false, Some(begin)) => {
                words.push((begin, &sql[begin..at]));
                start = None;
            }
            _ => {}
        }
        match sign {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words
}

/// The text between the brackets of one row of values.
fn single_row_values(values: &str) -> Option<&str> {
    let inner = values.trim().strip_prefix('(')?.strip_suffix(')')?;
    let mut depth = 0_i32;
    let closes = inner.chars().any(|sign| {
        depth += i32::from(sign == '(') - i32::from(sign == ')');
        depth < 0
    });
    (!closes).then_some(inner)
}

/// The columns that `a=…, b=…` sets.
fn assigned_columns(set: &str) -> Option<Vec<&str>> {
    if set.trim_start().starts_with('(') {
        return None;
    }
    let words = top_level_words(set);
    Some(words.iter().filter(|(at, word)| set[at + word.len()..].trim_start().starts_with('=')).map(|(_, word)| *word).collect())
}

/// The placeholders, from 0, that select the rows of a condition: `a=$1 and b=$2`, for columns that the statement does not assign.
fn key_params(condition: &str, assigned: &[&str]) -> Option<Vec<usize>> {
    let mut key = Vec::new();
    let ends = top_level_words(condition).into_iter().filter(|(_, word)| *word == "and").map(|(at, _)| at).chain([condition.len()]);
    let mut from = 0;
    for end in ends {
        let part = condition[from..end].trim();
        from = (end + "and".len()).min(condition.len());
        let Some((column, place)) = part.split_once('=') else { continue };
        let (column, place) = (column.trim(), place.trim());
        let place: Option<usize> = place.strip_prefix('$').and_then(|number| number.parse().ok());
        if let Some(place) = place
            && top_level_words(column).as_slice() == [(0, column)]
            && !column.contains('.')
            && !assigned.contains(&column)
        {
            key.push(place - 1);
        }
    }
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [Type; 3] = [Type::UUID, Type::INT8, Type::TEXT];
    const THREE: &str = "unnest($1::uuid[],$2::int8[],$3::text[]) with ordinality as given(v1,v2,v3,given_place)";

    fn rewritten(sql: &str) -> (String, BulkKind) {
        let bulk = Bulk::of(sql, &TYPES).unwrap_or_else(|| panic!("{sql} can be rewritten"));
        (bulk.sql.replace(THREE, "GIVEN"), bulk.kind)
    }

    #[test]
    fn inserts_select_the_rows_in_their_order() {
        let (sql, kind) = rewritten("insert into t (a, b, c) values ($1, $2+1, $3)");
        assert_eq!(sql, "insert into t (a, b, c) select given.v1, given.v2+1, given.v3 from GIVEN order by given.given_place");
        assert_eq!(kind, BulkKind::Insert);
    }

    #[test]
    fn changes_are_keyed_by_unassigned_columns() {
        let (sql, kind) = rewritten("update t set b=$2, c=coalesce($3,c) where id=$1 and b=$2-1 and d in (1, 2)");
        let wanted = "update t set b=given.v2, c=coalesce(given.v3,c) from GIVEN where id=given.v1 and b=given.v2-1 and d in (1, 2) \
                      returning given.given_place";
        assert_eq!((sql.as_str(), kind), (wanted, BulkKind::Change(vec![0])));
        assert_eq!(rewritten("update t set b=1 where id=$1 and c=$3 and b=$2").1, BulkKind::Change(vec![0, 2]), "b is changed");
        let (sql, kind) = rewritten("delete from t where id = $1 and b<$2");
        assert_eq!(sql, "delete from t using GIVEN where id = given.v1 and b<given.v2 returning given.given_place");
        assert_eq!(kind, BulkKind::Change(vec![0]));
    }

    #[test]
    fn queries_run_for_each_row() {
        let (sql, kind) = rewritten("select a, '$1' from t where a=$1 for update");
        let wanted = "select found.*, given.given_place from GIVEN cross join lateral (select found.*, row_number() over () as found_place from \
                      (select a, '$1' from t where a=given.v1 for update) found) found order by given.given_place, found.found_place";
        assert_eq!((sql.as_str(), kind), (wanted, BulkKind::Query));
    }

    #[test]
    fn texts_that_cannot_be_rewritten_stay() {
        for sql in [
            "insert into t (a, b) values ($1,$2) on conflict do nothing",
            "insert into t (a, b) values ($1,$2) returning a",
            "insert into t (a, b) values ($1,$2),($3,$4)",
            "insert into t (a) select $1 where x in ($1)",
            "update t set a=$1 where b in ($1)",
            "update t set a=a+1 where a=$1",
            "update t set a=$1",
            "update t set a=$1 where b=$2 or c=$3",
            "update t set a=$1 where t.b+1=$2",
            "update t set a=$1 where t.a=$2",
            "update t set (a, b)=($1, 1) where a=$2",
            "update t set a=$1 where b=$2 OR c=$3",
            "update t set a=$1 where (b=1 or c=2 and b=$2 and d=3)",
            "update t set a=$1 where exists (select 1 from s where s.c=1 and b=$2 and s.d=3)",
            "update t set a=$1 where c=' and ' || $3",
            "update t set a=$1 where b=$2 returning a",
            "delete from t",
            "values ($1)",
            "",
        ] {
            assert_eq!(Bulk::of(sql, &TYPES), None, "{sql}");
        }
        assert_eq!(Bulk::of("select 1", &[]), None);
        assert_eq!(Bulk::of("select $1", &[Type::JSON]), None);
    }
}
