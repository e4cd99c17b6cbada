//! Reports as tables for spreadsheets (RFC 4180).

use gate::time::UnixMillis;
use jiff::tz::TimeZone;

use super::view::{AnswersView, CallsView};
use crate::validity::print_instant;

/// Something that is a line of a table.
pub trait Line {
    /// The first line.
    const HEADINGS: &'static str;

    /// Its cells.
    fn cells(&self, zone: &TimeZone) -> Vec<String>;
}

/// All lines below their headings.
pub fn table<T: Line>(rows: &[T], zone: &TimeZone) -> String {
    let mut text = format!("{}\r\n", T::HEADINGS);
    for row in rows {
        let cells: Vec<String> = row.cells(zone).iter().map(|cell| quoted(cell)).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// Ids are entered by people: what a spreadsheet would take for a formula gets a `'` before it.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n', ' ', '\'']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

fn number<T: ToString>(number: Option<T>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

impl Line for CallsView {
    const HEADINGS: &'static str = "start,end,client,credential,api,result,status,calls,admitted,refused";

    fn cells(&self, zone: &TimeZone) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            print_instant(UnixMillis(self.start), zone),
            print_instant(UnixMillis(self.end), zone),
            text(&self.client),
            text(&self.credential),
            text(&self.api),
            text(&self.result),
            number(self.status),
            self.calls.to_string(),
            self.admitted.to_string(),
            self.refused.to_string(),
        ]
    }
}

impl Line for AnswersView {
    const HEADINGS: &'static str =
        "start,end,client,api,status,answers,succeeded,failed,mean_ms,p50_ms,p90_ms,p99_ms,latency";

    fn cells(&self, zone: &TimeZone) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let latency: Vec<String> = self
            .latency
            .iter()
            .map(|bucket| {
                format!("{}:{}", bucket.le_ms.map_or("more".into(), |ms| ms.to_string()), bucket.answers)
            })
            .collect();
        vec![
            print_instant(UnixMillis(self.start), zone),
            print_instant(UnixMillis(self.end), zone),
            text(&self.client),
            text(&self.api),
            self.status.map(str::to_owned).unwrap_or_default(),
            self.answers.to_string(),
            self.succeeded.to_string(),
            self.failed.to_string(),
            number(self.mean_ms),
            number(self.p50_ms),
            number(self.p90_ms),
            number(self.p99_ms),
            latency.join(" "),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells() {
        for (cell, expected) in
            [("acme", "acme"), ("=1+1", "\"'=1+1\""), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("", "")]
        {
            assert_eq!(quoted(cell), expected);
        }
    }
}
