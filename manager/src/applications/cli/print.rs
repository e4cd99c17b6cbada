//! Answers of the management API as people read them in a terminal. What others have entered is
//! printed without control characters: a terminal would obey them.

use gate::time::UnixMillis;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::validity::print_instant;

/// Forms, one a line.
pub(super) fn list(page: &Value, zone: &TimeZone) -> String {
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
            instant(&item["waiting_since"], zone),
            words(&item["actions"]),
        ]
    });
    table(heads, rows.collect()) + &more(page)
}

/// Keys with their forms, one a line.
pub(super) fn history(page: &Value, zone: &TimeZone) -> String {
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
            instant(&key["created_at"], zone),
            instant(&key["expires_at"], zone),
            instant(&key["revoked_at"], zone),
            text(key, "label"),
            forms.collect::<Vec<_>>().join("; "),
        ]
    });
    table(heads, rows.collect()) + &more(page)
}

/// A form with what its reviewers look at.
pub(super) fn form(form: &Value, zone: &TimeZone) -> String {
    let number = form["number"].as_str().or(form["id"].as_str()).map(clean).unwrap_or_default();
    let mut told = format!("{number}  {}  {}\n", text(form, "type"), text(form, "status"));
    let mut row = |label: &str, value: String| {
        if !value.is_empty() {
            told += &format!("  {label:<12}{value}\n");
        }
    };
    row("id", text(form, "id"));
    row("client", named(form, "client_name", "client"));
    for (label, field) in [
        ("key", "key"),
        ("name", "name"),
        ("shown as", "display_name"),
        ("e-mails", "emails"),
        ("effective", "effective_date"),
        ("expires", "expiry_date"),
        ("quota", "quota"),
        ("description", "description"),
    ] {
        row(label, text(form, field));
    }
    row("bindings", each(&form["bindings"], |binding| named(binding, "name", "address")));
    if form["reset_usage"] == true {
        row("usage", "begins at 0 again".to_owned());
    }
    row("filed by", named(form, "applicant_name", "applicant"));
    row("APIs", each(&form["api_names"], |api| text(api, "name")));
    let addresses = words(&form["credentials_go_to"]);
    if !addresses.is_empty() {
        told += &format!("  {:<12}{addresses}\n", "pair to");
    }
    let review = &form["review"];
    if review.is_object() {
        told += "review\n";
        for term in review["terms"].as_array().into_iter().flatten() {
            // What a new client is to be stands above.
            if form["type"] == "CR" {
                break;
            }
            let (before, after) = (text(term, "before"), text(term, "after"));
            let anew = term["before"].is_null();
            let change =
                if term["changed"] == true && !anew { format!("{before} -> {after}") } else { after };
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
        if review["client"].is_object() {
            told += &client(&review["client"]);
        }
        for warning in review["warnings"].as_array().into_iter().flatten() {
            told += &format!("  ! {} ({})\n", text(warning, "message"), text(warning, "code"));
        }
    }
    told += "history\n";
    for step in form["history"].as_array().into_iter().flatten() {
        let comment = text(step, "comment");
        let comment = if comment.is_empty() { comment } else { format!(": {comment}") };
        let level = step["level"].as_u64().map(|level| format!(" (level {level})")).unwrap_or_default();
        let mut by = named(step, "actor_name", "actor");
        let principal = named(step, "on_behalf_of_name", "on_behalf_of");
        if !principal.is_empty() {
            by += &format!(" on behalf of {principal}");
        }
        if step["escalated"] == true {
            by += ", after an escalation";
        }
        told +=
            &format!("  {}  {}{level} by {by}{comment}\n", instant(&step["at"], zone), text(step, "action"),);
    }
    let actions = words(&form["actions"]);
    told + &format!(
        "version {}; you may: {}\n",
        text(form, "version"),
        if actions.is_empty() { "nothing" } else { &actions }
    )
}

/// How the client stands whose key it is about.
fn client(client: &Value) -> String {
    let mut told = format!(
        "  {:<12}{}, may call from {}, security level {}\n",
        "client is",
        text(client, "status"),
        match client["audience"].as_str() {
            Some("both") => "everywhere".to_owned(),
            _ => text(client, "audience"),
        },
        text(client, "security_level")
    );
    let from_to = |label: &str, from: &str, to: &str| match (text(client, from), text(client, to)) {
        (from, to) if from.is_empty() && to.is_empty() => String::new(),
        (from, to) => format!("  {label:<12}{from} to {to} ({})\n", text(client, "time_zone")),
    };
    told += &from_to("its days", "start_date", "expiry_date");
    told += &from_to("its hours", "service_from", "service_until");
    let (addresses, emails) = (text(client, "addresses"), text(client, "emails"));
    told + &match emails.is_empty() {
        true => format!("  {:<12}{addresses} on file\n", "addresses"),
        false => format!("  {:<12}{emails}\n", "addresses"),
    }
}

/// What an action has made of a form.
pub(super) fn moved(form: &Value, _: &TimeZone) -> String {
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

fn each(list: &Value, named: impl Fn(&Value) -> String) -> String {
    list.as_array().into_iter().flatten().map(named).collect::<Vec<_>>().join(", ")
}

/// A name with its id; of what has no name, the id.
fn named(of: &Value, name: &str, id: &str) -> String {
    match (text(of, name), text(of, id)) {
        (name, id) if name.is_empty() || name == id => id,
        (name, id) if id.is_empty() => name,
        (name, id) => format!("{name} ({id})"),
    }
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

fn instant(at: &Value, zone: &TimeZone) -> String {
    at.as_i64().map(|at| print_instant(UnixMillis(at), zone)).unwrap_or_default()
}

/// Columns of a list that one cell takes at most: a name may have 255 characters.
const MAX_CELL: usize = 40;

fn cut(cell: String) -> String {
    match cell.char_indices().nth(MAX_CELL) {
        Some(_) => cell.chars().take(MAX_CELL - 1).chain(['\u{2026}']).collect(),
        None => cell,
    }
}

/// The last column is as wide as it likes: nothing stands behind it.
fn table<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows = rows.into_iter().map(|mut row| {
        for cell in row.iter_mut().take(N - 1) {
            *cell = cut(std::mem::take(cell));
        }
        row
    });
    let rows: Vec<[String; N]> = rows.collect();
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
