//! What searches ask for: words, days, several of a few names.

use gate::denial::CODES;
use gate::time::Interval;
use jiff::tz::TimeZone;

use crate::db::like_pattern;
use crate::openapi::schema::schema_of;
use crate::problem::Problem;
use crate::validity::{Validity, parse_date};

/// Characters of a keyword at most: no field that is searched is longer.
pub const MAX_KEYWORD_CHARS: usize = 500;
/// Words of a keyword at most: each is one more comparison per row.
pub const MAX_WORDS: usize = 10;

/// Words that must all occur, in whatever case and order.
///
/// digiRunner shows what has any of them. Lists here are sorted by age, not by how well something
/// fits: there every further word would push what is meant further down, here it brings it up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(Vec<String>);

/// Words parted by blanks.
pub enum Keyword {}

schema_of! { Keyword as SearchKeyword: text(0, MAX_KEYWORD_CHARS) }

impl Words {
    /// The words of a query's `keyword`.
    pub fn parse(keyword: Option<&str>) -> Result<Self, Problem> {
        let keyword = keyword.unwrap_or_default();
        if keyword.chars().count() > MAX_KEYWORD_CHARS {
            let detail = format!("keyword has more than {MAX_KEYWORD_CHARS} characters");
            return Err(Problem::invalid_query("keyword", detail));
        }
        let words: Vec<String> = keyword.split_whitespace().map(str::to_owned).collect();
        if words.len() > MAX_WORDS {
            let detail = format!("keyword has {} words, {MAX_WORDS} at most", words.len());
            return Err(Problem::invalid_query("keyword", detail));
        }
        Ok(Self(words))
    }

    /// What a folded column is compared with, word by word: see [`like_pattern`].
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|word| like_pattern(Some(word)))
    }
}

/// The code of a refusal in a query's `field`, or one of the `other` words that may stand there.
pub fn refusal_code(field: &'static str, code: &str, other: &[&str]) -> Result<(), Problem> {
    if other.contains(&code) || gate::denial::status_of(code).is_some() {
        return Ok(());
    }
    let codes = CODES.iter().map(|(code, _)| *code);
    let words: Vec<_> = other.iter().copied().chain(codes).collect();
    Err(Problem::invalid_query(field, format!("{field} is {code:?}; it is one of {}", words.join(", "))))
}

/// First and last day of a query's `from` and `until`, as the instants that they are in `zone`; both
/// count whole. None: it names neither.
pub fn days(from: Option<&str>, until: Option<&str>, zone: &TimeZone) -> Result<Option<Interval>, Problem> {
    use jiff::civil::Date;
    let day = |field: &'static str, text: Option<&str>, absent: Date| match text {
        None => Ok(absent),
        Some(text) => parse_date(text).ok_or_else(|| {
            let detail = format!("{field} is {text:?}, which is no day: write yyyy-MM-dd, e.g. 2026-07-14");
            Problem::invalid_query(field, detail)
        }),
    };
    if from.is_none() && until.is_none() {
        return Ok(None);
    }
    // Years in which no zone ends the calendar.
    let (first, last) = (Date::constant(1, 1, 2), Date::constant(9999, 12, 30));
    let (from, until) = (day("from", from, first)?, day("until", until, last)?);
    let days = Validity::new(from.clamp(first, last), until.clamp(first, last)).map_err(|_| {
        Problem::invalid_query("until", format!("until {until} lies before from {from}: both days count"))
    })?;
    Ok(Some(days.instants(zone)))
}

/// Several of `names`, parted by commas, each once; none: all.
pub fn several<'n>(
    field: &'static str,
    text: Option<&str>,
    names: &[&'n str],
) -> Result<Vec<&'n str>, Problem> {
    let mut found = Vec::new();
    for part in text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let name = names.iter().copied().find(|name| *name == part).ok_or_else(|| {
            let detail =
                format!("{field} names `{part}`; it takes {}, several with commas", names.join(", "));
            Problem::invalid_query(field, detail)
        })?;
        if !found.contains(&name) {
            found.push(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate::time::UnixMillis;

    #[test]
    fn a_keyword_is_up_to_ten_words() {
        let patterns =
            |text: &str| Words::parse(Some(text)).map(|words| words.patterns().collect::<Vec<_>>());
        assert_eq!(patterns("  Acme  50%_x ").expect("two"), ["%acme%", "%50\\%\\_x%"]);
        assert_eq!(patterns("").expect("none"), [""; 0]);
        assert!(patterns(&"w ".repeat(MAX_WORDS)).is_ok());
        let refused = patterns(&"w ".repeat(MAX_WORDS + 1)).expect_err("one more");
        assert_eq!(refused.field.as_deref(), Some("keyword"));
        assert!(patterns(&"x".repeat(MAX_KEYWORD_CHARS)).is_ok());
        assert!(patterns(&"x".repeat(MAX_KEYWORD_CHARS + 1)).is_err());
    }

    #[test]
    fn days_count_whole_in_the_zone() {
        let zone = TimeZone::get("Asia/Taipei").expect("bundled");
        let found = days(Some("2026-07-14"), Some("2026-07-14"), &zone).expect("a day").expect("one");
        // 2026-07-13T16:00:00Z to 2026-07-14T15:59:59.999Z
        assert_eq!(
            found,
            Interval { from: UnixMillis(1_783_958_400_000), until: UnixMillis(1_784_044_799_999) }
        );
        assert_eq!(days(None, None, &zone).expect("nothing"), None);
        for (from, until, field) in [
            (Some("14.7.2026"), None, "from"),
            (None, Some("2026-02-30"), "until"),
            (Some("2026-07-15"), Some("2026-07-14"), "until"),
        ] {
            let refused = days(from, until, &zone).expect_err(field);
            assert_eq!(refused.field.as_deref(), Some(field), "{refused:?}");
        }
        for zone in ["Pacific/Kiritimati", "America/Adak"] {
            let zone = TimeZone::get(zone).expect("bundled");
            let all = days(Some("0000-01-01"), Some("9999-12-31"), &zone).expect("days").expect("some");
            assert!(
                all.from < UnixMillis(-60_000_000_000_000) && all.until > UnixMillis(253_000_000_000_000)
            );
        }
    }

    #[test]
    fn several_names_stand_with_commas() {
        let names = ["a", "b", "c"];
        assert_eq!(several("state", Some("c, a,c"), &names).expect("two"), ["c", "a"]);
        assert_eq!(several("state", None, &names).expect("all"), [""; 0]);
        let refused = several("state", Some("a,x"), &names).expect_err("unknown");
        assert!(refused.detail.contains("`x`") && refused.detail.contains("a, b, c"), "{refused:?}");
    }
}
