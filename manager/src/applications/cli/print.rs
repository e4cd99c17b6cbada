//! Answers of the management API as people read them in a terminal. What others have entered is
//! printed without control characters: a terminal would obey them.

use gate::time::UnixMillis;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::validity::print_instant;

/// Forms, one a line.
pub(super) fn list(page: &Value) -> String {
    let items = items(page);
    if items.is_empty() {
        return "no forms\n".to_owned() + &more(page);
    }
    let heads = ["NUMBER", "TYPE", "CLIENT", "NAME", "APPLICANT", "STATUS", "WAITING SINCE", "YOU MAY"];
    let rows = items.iter().map(|item| {
        [
            item["number"].as_str().or(item["id"].as_str()).map(clean).unwrap_or_default(),
            text(item, "type"),
            text(item, "client_name"),
            text(item, "name"),
            text(item, "applicant_name"),
            text(item, "status"),
            instant(&item["waiting_since"]),
            words(&item["actions"]),
        ]
    });
    table(heads, rows.collect()) + &more(page)
}

/// Keys with their forms, one a line.
pub(super) fn history(page: &Value) -> String {
    let items = items(page);
    if items.is_empty() {
        return "no keys\n".to_owned() + &more(page);
    }
    let heads = ["KEY", "CLIENT", "NAME", "CREATED", "EXPIRES", "REVOKED", "STATUS", "FORMS"];
    let rows = items.iter().map(|key| {
        let forms = key["forms"].as_array().map(Vec::as_slice).unwrap_or_default();
        let forms = forms.iter().map(|form| {
            let signers = form["signatures"].as_array().map(Vec::as_slice).unwrap_or_default();
            let signers: Vec<_> = signers.iter().map(|by| text(by, "name")).collect();
            format!("{} ({})", text(form, "number"), signers.join(", "))
        });
        [
            text(key, "id"),
            text(key, "client"),
            text(key, "name"),
            instant(&key["created_at"]),
            instant(&key["expires_at"]),
            instant(&key["revoked_at"]),
            text(key, "label"),
            forms.collect::<Vec<_>>().join("; "),
        ]
    });
    table(heads, rows.collect()) + &more(page)
}

/// A form with what its reviewers look at.
pub(super) fn form(form: &Value) -> String {
    let number = form["number"].as_str().or(form["id"].as_str()).map(clean).unwrap_or_default();
    let mut told = format!("{number}  {}  {}\n", text(form, "type"), text(form, "status"));
    for (label, field) in [
        ("id", "id"),
        ("client", "client"),
        ("key", "key"),
        ("name", "name"),
        ("effective", "effective_date"),
        ("expires", "expiry_date"),
        ("quota", "quota"),
        ("description", "description"),
        ("filed by", "applicant"),
    ] {
        let value = text(form, field);
        if !value.is_empty() {
            told += &format!("  {label:<12}{value}\n");
        }
    }
    let addresses = words(&form["credentials_go_to"]);
    if !addresses.is_empty() {
        told += &format!("  {:<12}{addresses}\n", "pair to");
    }
    let review = &form["review"];
    if review.is_object() {
        told += "review\n";
        for term in review["terms"].as_array().into_iter().flatten() {
            let (before, after) = (text(term, "before"), text(term, "after"));
            let change = if term["changed"] == true { format!("{before} -> {after}") } else { after };
            told += &format!("  {:<12}{change}\n", text(term, "field"));
        }
        for (label, field) in [("APIs added", "added"), ("removed", "removed"), ("kept", "kept")] {
            let names: Vec<_> =
                review["apis"][field].as_array().into_iter().flatten().map(|api| text(api, "name")).collect();
            if !names.is_empty() {
                told += &format!("  {label:<12}{}\n", names.join(", "));
            }
        }
        let usage = &review["usage"];
        if !usage["used"].is_null() {
            let (used, left, after) =
                (text(usage, "used"), text(usage, "remaining"), text(usage, "remaining_after"));
            told += &format!("  {:<12}{used} used, {left} left; afterwards {after}\n", "uses");
        }
        for warning in review["warnings"].as_array().into_iter().flatten() {
            told += &format!("  ! {} ({})\n", text(warning, "message"), text(warning, "code"));
        }
    }
    told += "history\n";
    for step in form["history"].as_array().into_iter().flatten() {
        let comment = text(step, "comment");
        let comment = if comment.is_empty() { comment } else { format!(": {comment}") };
        told += &format!(
            "  {}  {} by {}{comment}\n",
            instant(&step["at"]),
            text(step, "action"),
            text(step, "actor")
        );
    }
    let actions = words(&form["actions"]);
    told + &format!(
        "version {}; you may: {}\n",
        text(form, "version"),
        if actions.is_empty() { "nothing" } else { &actions }
    )
}

/// What an action has made of a form.
pub(super) fn moved(form: &Value) -> String {
    let number = form["number"].as_str().or(form["id"].as_str()).map(clean).unwrap_or_default();
    let mut told = format!("{number} is now: {} (version {})\n", text(form, "status"), text(form, "version"));
    for warning in form["warnings"].as_array().into_iter().flatten() {
        told += &format!(
            "warning: {}\n",
            warning["message"].as_str().map_or_else(|| clean(&warning.to_string()), clean)
        );
    }
    told
}

/// A refusal.
pub(super) fn problem(problem: &Value) -> String {
    format!("refused: {} ({})", text(problem, "detail"), text(problem, "code"))
}

fn items(page: &Value) -> &[Value] {
    page["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn more(page: &Value) -> String {
    match page["next"].as_str() {
        Some(next) => format!("… and more: --cursor {}\n", clean(next)),
        None => String::new(),
    }
}

fn words(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(clean).collect::<Vec<_>>().join(", ")
}

fn text(of: &Value, field: &str) -> String {
    match &of[field] {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn instant(at: &Value) -> String {
    at.as_i64().map(|at| print_instant(UnixMillis(at), &TimeZone::system())).unwrap_or_default()
}

fn table<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut widths = heads.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(heads.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
