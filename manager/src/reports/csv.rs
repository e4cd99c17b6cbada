//! The history as a table for spreadsheets (RFC 4180).

use gate::time::UnixMillis;
use jiff::tz::TimeZone;

use super::model::KeyHistory;
use crate::approvals::FormKind;
use crate::validity::print_instant;

const HEADINGS: [&str; 17] = [
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
    "on_behalf_of",
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

fn row(key: &KeyHistory, zone: &TimeZone) -> [String; 17] {
    let printed = |at: UnixMillis| print_instant(at, zone);
    let numbers = |kind| key.numbers(kind).collect::<Vec<_>>().join(" ");
    // Level by level; the one column says who signed, the other for whom, where a delegate did.
    let (mut signatures, mut on_behalf_of) = (Vec::new(), Vec::new());
    for form in &key.forms {
        for signature in &form.signatures {
            let (number, level, at) = (&form.number, signature.level, printed(signature.at));
            signatures.push(format!("{number} level {level}: {}, {at}", signature.signer()));
            if let Some(principal) = signature.principal() {
                on_behalf_of.push(format!("{number} level {level}: {principal}"));
            }
        }
    }
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
        signatures.join("; "),
        on_behalf_of.join("; "),
    ]
}

fn push_line(text: &mut String, cells: [String; 17]) {
    text.push_str(&cells.map(|cell| cell_of(&cell)).join(","));
    text.push_str("\r\n");
}

/// A cell, in quotes where it must be. What a spreadsheet would take for a formula gets a `'` before
/// it: names are entered by others than those who open the file. Also behind what a spreadsheet of
/// another language, or one that reads over the quotes, takes for the end of a cell.
fn cell_of(value: &str) -> String {
    let mut cell = String::with_capacity(value.len());
    let mut begins = true;
    for (at, sign) in value.char_indices() {
        let formula = matches!(sign, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠');
        let blank = matches!(sign, '\t' | '\r' | '\n');
        if begins && (formula || (blank && at == 0)) {
            cell.push('\'');
        }
        begins = blank || sign == ';' || (begins && sign == ' ');
        cell.push(sign);
    }
    if cell.contains(['"', ',', '\r', '\n', '\t', ';', '\'']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
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
            ("\t=1", "\"'\t'=1\""),
            ("\nx", "\"'\nx\""),
            ("a;=1", "\"a;'=1\""),
            ("a; =1", "\"a; '=1\""),
            ("a\t@x", "\"a\t'@x\""),
            ("a\r\n-1", "\"a\r\n'-1\""),
            ("a;b-1", "\"a;b-1\""),
            (";;＝1", "\";;'＝1\""),
            ("＝1", "\"'＝1\""),
            ("a=1", "a=1"),
        ] {
            assert_eq!(cell_of(value), cell, "{value:?}");
        }
    }
}
