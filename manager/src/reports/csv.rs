//! The history as a table for spreadsheets (RFC 4180).

use gate::time::UnixMillis;
use jiff::tz::TimeZone;

use super::model::KeyHistory;
use crate::approvals::FormKind;
use crate::validity::print_instant;

const HEADINGS: [&str; 16] = [
    "client",
    "client_name",
    "client_display_name",
    "key",
    "api_key",
    "name",
    "created",
    "effective",
    "expires",
    "revoked",
    "status",
    "origin",
    "issued_by",
    "changed_by",
    "revoked_by",
    "signatures",
];

/// All rows below a line of headings. Begins with a byte order mark: without one, spreadsheets take
/// names that are not English for another encoding.
pub fn write(keys: &[KeyHistory], zone: &TimeZone) -> String {
    let mut text = String::from("\u{feff}");
    push_line(&mut text, HEADINGS.map(str::to_owned));
    for key in keys {
        push_line(&mut text, row(key, zone));
    }
    text
}

fn row(key: &KeyHistory, zone: &TimeZone) -> [String; 16] {
    let printed = |at: UnixMillis| print_instant(at, zone);
    let numbers = |kind| key.numbers(kind).collect::<Vec<_>>().join(" ");
    let signatures = key.forms.iter().flat_map(|form| {
        form.signatures.iter().map(move |signature| {
            let who = signature.name.as_deref().unwrap_or(&signature.by);
            format!("{} level {}: {who}, {}", form.number, signature.level, printed(signature.at))
        })
    });
    let signatures = signatures.collect::<Vec<_>>().join("; ");
    [
        key.client.id.clone(),
        key.client.name.clone().unwrap_or_default(),
        key.client.display_name.clone().unwrap_or_default(),
        key.id.clone(),
        key.api_key.clone(),
        key.name.clone(),
        printed(key.created_at),
        printed(key.validity.from),
        printed(key.validity.until),
        key.revoked_at.map(printed).unwrap_or_default(),
        key.label(),
        if key.imported { "imported" } else { "issued" }.to_owned(),
        numbers(FormKind::Apply),
        numbers(FormKind::Change),
        numbers(FormKind::Revoke),
        signatures,
    ]
}

fn push_line(text: &mut String, cells: [String; 16]) {
    text.push_str(&cells.map(|cell| cell_of(&cell)).join(","));
    text.push_str("\r\n");
}

/// A cell, in quotes where it must be. What a spreadsheet would take for a formula gets a `'` before
/// it: names are entered by others than those who open the file.
fn cell_of(value: &str) -> String {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let value = if formula { format!("'{value}") } else { value.to_owned() };
    if value.contains(['"', ',', '\r', '\n', ';', '\'']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        for (value, cell) in [
            ("acme", "acme"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("＝1", "\"'＝1\""),
            ("a=1", "a=1"),
        ] {
            assert_eq!(cell_of(value), cell, "{value:?}");
        }
    }
}
