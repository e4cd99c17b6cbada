//! Reads what is counted: `usage_calls` and `usage_answers`.

use gate::wire::exchange::LATENCY_MS;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{Answers, Asked, Calls, Dimensions, Filter, Key, Row};
use crate::db::{Conditions, Conn, DbError, placeholders};
use crate::usage::model::{Sources, Span};

/// Something that is counted, and how its counts are read.
pub trait Counted: Default + Send {
    /// Where they are.
    const SOURCE: Source;

    /// Takes in a row of the database, whose columns from the fourth on are those of [`Source::sums`].
    fn take(&mut self, row: &AnyRow) -> Result<(), DbError>;
}

/// Where counts are, and what is read of them.
pub struct Source {
    /// Names the statement.
    statement: &'static str,
    table: &'static str,
    /// As the key's credential.
    credential: &'static str,
    /// By what its rows are told apart besides the key, and in which order; the rows of a key at most.
    within_key: Option<(&'static str, &'static str, i64)>,
    /// What is added up.
    sums: &'static str,
}

impl Counted for Calls {
    const SOURCE: Source = Source {
        statement: "usage.report.calls",
        table: "usage_calls",
        credential: "credential",
        within_key: None,
        sums: "CAST(SUM(calls) AS BIGINT) AS calls,
                        CAST(SUM(CASE WHEN result = 'admitted' THEN calls ELSE 0 END) AS BIGINT) AS admitted",
    };

    fn take(&mut self, row: &AnyRow) -> Result<(), DbError> {
        self.calls += whole(row, 4)?;
        self.admitted += whole(row, 5)?;
        Ok(())
    }
}

impl Counted for Answers {
    const SOURCE: Source = Source {
        statement: "usage.report.answers",
        table: "usage_answers",
        // Answers are not counted by credential.
        credential: NOTHING,
        within_key: Some((
            "le_ms",
            "CASE WHEN le_ms = 0 THEN 1 ELSE 0 END, le_ms",
            LATENCY_MS.len() as i64 + 1,
        )),
        sums: "CAST(SUM(answers) AS BIGINT) AS answers,
                        CAST(SUM(ms) AS BIGINT) AS ms,
                        CAST(SUM(CASE WHEN result IN ('answered_1xx', 'answered_2xx', 'answered_3xx')
                                      THEN answers ELSE 0 END) AS BIGINT) AS succeeded,
                        le_ms",
    };

    fn take(&mut self, row: &AnyRow) -> Result<(), DbError> {
        let le_ms = whole(row, 7)?;
        self.latency.push(((le_ms > 0).then_some(le_ms), whole(row, 4)?));
        self.ms = self.ms.saturating_add(whole(row, 5)?);
        self.succeeded += whole(row, 6)?;
        Ok(())
    }
}

/// What stands for a part of the key that is not told apart by.
const NOTHING: &str = "CAST('' AS TEXT)";

/// What is counted of one bucket, by key, after `after`.
pub(super) async fn bucket<C: Counted>(
    conn: &mut Conn,
    (span, sources): (Span, Sources),
    asked: &Asked,
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Row<C>>, DbError> {
    let rows_of_key = C::SOURCE.within_key.map_or(1, |(.., rows)| rows);
    let wanted = conditions(sources, &asked.filter);
    let sql = statement(&C::SOURCE, asked.by, &wanted, after.is_some());
    let mut query = wanted.bind(sqlx::query(AssertSqlSafe(sql)));
    if let Some(Key { client, credential, api, result }) = after {
        query = query.bind(client).bind(credential).bind(api).bind(result);
    }
    // So that the rows of `limit` keys are all there.
    let rows = query.bind(limit * rows_of_key).fetch_all(conn).await?;
    let mut found: Vec<Row<C>> = Vec::new();
    for row in &rows {
        let key = Key {
            client: row.try_get(0)?,
            credential: row.try_get(1)?,
            api: row.try_get(2)?,
            result: row.try_get(3)?,
        };
        if found.last().is_none_or(|last| last.key != key) {
            found.push(Row { span, key, counted: C::default() });
        }
        if let Some(last) = found.last_mut() {
            last.counted.take(row)?;
        }
    }
    found.truncate(usize::try_from(limit).unwrap_or(0));
    Ok(found)
}

/// Only what is asked for stands in it, so that the index on the client or the credential is taken.
fn conditions(sources: Sources, filter: &Filter) -> Conditions {
    let mut conditions = sources.conditions();
    for (condition, wanted) in [
        ("client = #", &filter.client),
        ("credential = #", &filter.credential),
        ("api = #", &filter.api),
        ("result = #", &filter.result),
    ] {
        if let Some(wanted) = wanted {
            conditions.text(condition, wanted);
        }
    }
    if filter.refused {
        conditions.plain("result <> 'admitted'");
    }
    conditions
}

fn statement(source: &Source, by: Dimensions, wanted: &Conditions, is_after: bool) -> String {
    let Source { statement, table, credential, within_key, sums } = source;
    let column = |told_apart: bool, column: &'static str| if told_apart { column } else { NOTHING };
    let (client, api) = (column(by.client, "client"), column(by.api, "api"));
    let (credential, result) = (column(by.credential, credential), column(by.result, "result"));
    let grouped = within_key.map(|(column, ..)| format!(", {column}")).unwrap_or_default();
    let order = within_key.map(|(_, order, _)| format!(", {order}")).unwrap_or_default();
    let (conditions, mut next) = (wanted.sql(), wanted.next());
    let mut after = String::new();
    if is_after {
        after = format!(
            "
          WHERE (client, credential, api, result) > ({})",
            placeholders(next, 4)
        );
        next += 4;
    }
    format!(
        "-- {statement}
         SELECT *
           FROM (SELECT {client} AS client, {credential} AS credential, {api} AS api, {result} AS result,
                        {sums}
                   FROM {table}
                  WHERE {conditions}
                  GROUP BY 1, 2, 3, 4{grouped}) grouped{after}
          ORDER BY client, credential, api, result{order}
          LIMIT ${next}"
    )
}

fn whole(row: &AnyRow, column: usize) -> Result<u64, DbError> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use gate::time::UnixMillis;

    use super::*;
    use crate::testing::World;
    use crate::usage::model::{Grain, Rolled};

    #[tokio::test]
    async fn a_report_on_one_client_or_credential_reads_by_its_index() {
        let world = World::sqlite().await;
        let mut read = world.app.db.read().await.expect("a connection");
        let span = Span { start: UnixMillis(0), end: UnixMillis(9) };
        let rolled = Rolled { hours: UnixMillis(6), days: UnixMillis(3) };
        let named = || Some("acme".to_owned());
        for (filter, index) in [
            (Filter { client: named(), ..Filter::default() }, "usage_calls_client"),
            (Filter { credential: named(), ..Filter::default() }, "usage_calls_credential"),
        ] {
            for grain in [Grain::Minute, Grain::Day] {
                let wanted = conditions(Sources::of(grain, span, rolled), &filter);
                let sql = statement(&Calls::SOURCE, Dimensions::default(), &wanted, false);
                let plan = wanted.bind(sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))));
                let plan = plan.bind(10_i64).fetch_all(&mut *read).await.expect("a plan");
                let steps: Vec<String> = plan.iter().map(|step| step.get(3)).collect();
                let reads = steps.iter().filter(|step| step.contains("usage_calls"));
                assert!(
                    reads.clone().count() > 0 && reads.clone().all(|step| step.contains(index)),
                    "{steps:?}"
                );
            }
        }
    }
}
