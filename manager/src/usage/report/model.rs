//! What a report asks for, and what its rows tell.

use gate::time::UnixMillis;

use crate::usage::model::{Bucket, Range, Span};

/// What counts are told apart by besides time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dimensions {
    /// Clients.
    pub client: bool,
    /// Credentials.
    pub credential: bool,
    /// APIs.
    pub api: bool,
    /// Results.
    pub result: bool,
}

/// Which counts; absent = all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this client; `Some("")`: of unknown callers.
    pub client: Option<String>,
    /// Of this credential.
    pub credential: Option<String>,
    /// Of this API.
    pub api: Option<String>,
    /// With this result.
    pub result: Option<String>,
    /// With any result but `admitted`.
    pub refused: bool,
}

/// What is counted together. Empty texts: not told apart by, or not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Client.
    pub client: String,
    /// Credential.
    pub credential: String,
    /// API.
    pub api: String,
    /// Result.
    pub result: String,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// By what time is told apart.
    pub bucket: Bucket,
    /// From when to when.
    pub range: Range,
    /// The buckets of that time, newest first.
    pub spans: Vec<Span>,
    /// By what else.
    pub by: Dimensions,
    /// Of which counts.
    pub filter: Filter,
}

/// One line of a report: what was counted of one bucket and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<C> {
    /// When.
    pub span: Span,
    /// Whose.
    pub key: Key,
    /// How many.
    pub counted: C,
}

/// Calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All.
    pub calls: u64,
    /// Those let in.
    pub admitted: u64,
}

/// Answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By the last millisecond of the bucket, ascending; none = the last one.
    pub latency: Vec<(Option<u64>, u64)>,
    /// What all took together, in milliseconds.
    pub ms: u64,
    /// With a status below 400.
    pub succeeded: u64,
}

impl Answers {
    /// How many.
    pub fn count(&self) -> u64 {
        self.latency.iter().map(|(_, answers)| answers).sum()
    }

    /// The end of the bucket that holds the answer which `of` of a thousand do not exceed; none:
    /// there is no answer, or it is in the last bucket.
    pub fn quantile(&self, of: u64) -> Option<u64> {
        let rank = u128::from(self.count()) * u128::from(of);
        let mut seen = 0;
        for (last_ms, answers) in &self.latency {
            seen += u128::from(*answers) * 1_000;
            if seen >= rank && seen > 0 {
                return *last_ms;
            }
        }
        None
    }
}

/// The end of a page: the last of its rows, and what the report was asked over, so that the next page is of
/// the same time however late it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the whole report.
    pub range: Range,
    /// The bucket of the last row.
    pub start: UnixMillis,
    /// Its key.
    pub key: Key,
}

impl Place {
    /// As a cursor holds it.
    pub fn text(&self) -> String {
        let Self { range, start, key } = self;
        let Key { client, credential, api, result } = key;
        format!("{}\n{}\n{}\n{client}\n{credential}\n{api}\n{result}", range.from.0, range.until.0, start.0)
    }

    /// Of a cursor; none: it is of another list.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('\n');
        let mut instant = || Some(UnixMillis(parts.next()?.parse().ok()?));
        let range = Range { from: instant()?, until: instant()? };
        let start = instant()?;
        let mut part = || Some(parts.next()?.to_owned());
        let key = Key { client: part()?, credential: part()?, api: part()?, result: part()? };
        parts.next().is_none().then_some(Self { range, start, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_holds_a_place_and_nothing_else_is_one() {
        let place = Place {
            range: Range { from: UnixMillis(-1), until: UnixMillis(9) },
            start: UnixMillis(3),
            key: Key { client: "acme".into(), api: "orders".into(), ..Key::default() },
        };
        assert_eq!(Place::read(&place.text()), Some(place.clone()));
        for text in ["", "1", "1\n2\n3\na\nb\nc", &format!("{}\n", place.text()), "x\n2\n3\na\nb\nc\nd"] {
            assert_eq!(Place::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn quantiles_are_ends_of_buckets() {
        let of = |latency: &[(Option<u64>, u64)]| Answers { latency: latency.to_vec(), ms: 0, succeeded: 0 };
        let some = of(&[(Some(1), 50), (Some(5), 49), (None, 1)]);
        assert_eq!([500, 501, 990, 991].map(|q| some.quantile(q)), [Some(1), Some(5), Some(5), None]);
        assert_eq!(of(&[]).quantile(500), None);
    }
}
