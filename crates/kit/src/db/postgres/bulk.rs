//! Many rows by few statements: a plain insert becomes one with several rows of values.

/// Most parameters of one statement; the protocol has 65,535.
const MOST_PARAMETERS: usize = 60_000;
/// Most rows of one statement. With powers of two up to here each text has at most eight forms, so the statement cache stays small.
const MOST_ROWS: usize = 128;

/// `insert into t (..) values ($1,…,$n)`, and nothing behind it: each row of it counts one, so nothing is lost by joining them.
pub struct Insert<'a> {
    head: &'a str,
    width: usize,
}

impl<'a> Insert<'a> {
    /// None for every other text.
    pub fn parse(sql: &'a str) -> Option<Self> {
        let start = sql.trim_start();
        if !start.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("insert ")) {
            return None;
        }
        let open = sql.rfind('(')?;
        let head = sql[..open].trim_end();
        let word = head.len().checked_sub(6)?;
        if !head.get(word..)?.eq_ignore_ascii_case("values") {
            return None;
        }
        let list = sql[open + 1..].trim_end().strip_suffix(')')?;
        let mut width = 0;
        for place in list.split(',') {
            width += 1;
            if place.trim().strip_prefix('$')?.parse() != Ok(width) {
                return None;
            }
        }
        Some(Self { head, width })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// The same for several rows.
    pub fn of_rows(&self, rows: usize) -> String {
        let mut sql = String::with_capacity(self.head.len() + rows * self.width * 6);
        sql.push_str(self.head);
        for row in 0..rows {
            sql.push_str(if row == 0 { " (" } else { ",(" });
            for place in 1..=self.width {
                if place > 1 {
                    sql.push(',');
                }
                sql.push('$');
                sql.push_str(&(row * self.width + place).to_string());
            }
            sql.push(')');
        }
        sql
    }

    /// How many rows go into each statement: powers of two, the largest first.
    pub fn chunks(&self, rows: usize) -> Vec<usize> {
        let mut size = MOST_ROWS;
        while size > 1 && size * self.width > MOST_PARAMETERS {
            size /= 2;
        }
        let mut chunks = Vec::new();
        let mut left = rows;
        while left > 0 {
            while size > left {
                size /= 2;
            }
            chunks.push(size);
            left -= size;
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_inserts_are_joined_and_nothing_else_is() {
        let insert = Insert::parse("insert into t (a, b) values ($1, $2) ").expect("is plain");
        assert_eq!(insert.of_rows(1), "insert into t (a, b) values ($1,$2)");
        assert_eq!(insert.of_rows(3), "insert into t (a, b) values ($1,$2),($3,$4),($5,$6)");
        assert_eq!(Insert::parse("INSERT INTO t\n VALUES ($1)").expect("is plain").of_rows(2), "INSERT INTO t\n VALUES ($1),($2)");
        for other in [
            "insert into t (a, b) values ($1,$2) on conflict do nothing",
            "insert into t (a, b) values ($1,$2) on conflict (a) do update set b=coalesce($2)",
            "insert into t (a, b) values ($1,$2) returning a",
            "insert into t (a, b) values ($2,$1)",
            "insert into t (a, b) values ($1,1)",
            "insert into t (a, b) values ($1,$2+1)",
            "insert into t (a, b) values ($1,$2),($3,$4)",
            "insert into t (a) select $1 where x in ($1)",
            "update t set a=$1 where b in ($1)",
            "values ($1)",
            "",
        ] {
            assert!(Insert::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn chunks_are_powers_of_two_and_fit_the_protocol() {
        let insert = Insert::parse("insert into t values ($1,$2)").expect("is plain");
        assert_eq!(insert.chunks(0), [0_usize; 0]);
        assert_eq!(insert.chunks(1), [1]);
        assert_eq!(insert.chunks(300), [128, 128, 32, 8, 4]);
        let wide: Vec<String> = (1..=1000).map(|place| format!("${place}")).collect();
        let sql = format!("insert into t values ({})", wide.join(","));
        assert_eq!(Insert::parse(&sql).expect("is plain").chunks(70), [32, 32, 4, 2]);
    }
}
