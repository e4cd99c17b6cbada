//! Contexts that an earlier version wrote, with sentences in English where there are enums now. A
//! mail of it may wait in the outbox for as long as there is no transport, or be sent again.

use serde_json::{Map, Value, json};

use crate::mail::Template;

/// `context` as the templates of today want it; one of today as it is.
pub fn brought_up(template: Template, context: Value) -> Value {
    let Value::Object(mut fields) = context else { return context };
    match template {
        Template::ApplicationStep => {
            form(&mut fields);
            no_page(&mut fields);
            commands(&mut fields);
            absent(&mut fields, &["on_behalf_of", "key_name", "api_key", "effective_on"]);
            replace(&mut fields, "step", |text| Some(step(text)));
            replace(&mut fields, "status", |text| Some(status(text)));
        }
        Template::ApplicationResult => {
            form(&mut fields);
            no_page(&mut fields);
            absent(&mut fields, &["api_key", "url"]);
            replace(&mut fields, "result", |text| match text {
                "approved, but could not be carried out" => Some(json!("not_carried_out")),
                _ => None,
            });
            if let Some(Value::Array(notes)) = fields.get_mut("notes") {
                let known = |kept: Value| match kept.as_str() {
                    Some(text) => note(text),
                    None => Some(kept),
                };
                *notes = std::mem::take(notes).into_iter().filter_map(known).collect();
            }
        }
        Template::ReviewWaiting | Template::ReviewStuck => {
            absent(&mut fields, &["key_name", "api_key"]);
            no_page(&mut fields);
            commands(&mut fields);
            if template == Template::ReviewStuck {
                fields.remove("version");
            }
        }
        Template::KeyCredentials => {
            replace(&mut fields, "use_quota", |text| Some(json!(first_number(text))));
            no_link(&mut fields);
            if let Some(headline) = fields.remove("headline") {
                let rotated = headline.as_str().is_some_and(|text| text.contains("new secret key"));
                let notes = fields.remove("notes").unwrap_or_default().to_string();
                let ahead = notes.contains("accepted from ") && !notes.contains("accepted from now");
                let resent = headline.as_str().is_some_and(|text| text.contains("once more"));
                let until =
                    notes.split_once("works until ").and_then(|(_, rest)| rest.split_once(", or until"));
                let occasion = match (rotated, resent) {
                    (true, _) => json!({ "is": "rotated", "old_until": until.map(|(until, _)| until) }),
                    (false, true) => json!({ "is": "resent" }),
                    (false, false) => json!({ "is": "issued" }),
                };
                fields.insert("occasion".into(), occasion);
                fields.insert("not_yet_effective".into(), json!(ahead));
            }
            if let Some(Value::Array(apis)) = fields.get_mut("apis") {
                apis.iter_mut().for_each(api);
            }
        }
        Template::KeyChanged => {
            replace(&mut fields, "use_quota", |text| Some(json!(first_number(text))));
        }
        Template::XApiKeyIssued => {
            replace(&mut fields, "gateway_url", |text| text.contains('<').then_some(Value::Null));
            no_link(&mut fields);
        }
        Template::ClientCreated => {
            replace(&mut fields, "validity", span);
            replace(&mut fields, "service_time", span);
            replace(&mut fields, "api_quota", |text| Some(calls(text)));
            replace(&mut fields, "tps", |text| Some(json!(first_number(text))));
            absent(&mut fields, &["url"]);
            no_link(&mut fields);
        }
        Template::KeyExpiring => absent(&mut fields, &["url"]),
        Template::ClientPasswordReset => no_link(&mut fields),
        Template::TestMail => {
            replace(&mut fields, "asked_by", |text| (text == "the command line").then_some(Value::Null));
        }
        // The same from the beginning, or younger than the enums.
        _ => {}
    }
    Value::Object(fields)
}

/// The secret stood in the mail.
fn no_link(fields: &mut Map<String, Value>) {
    absent(fields, &["link", "link_expires_at"]);
}

/// What that version did not tell.
fn absent(fields: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        fields.entry(*name).or_insert(Value::Null);
    }
}

/// It linked to a page that does not exist.
fn no_page(fields: &mut Map<String, Value>) {
    if !fields.contains_key("url") {
        fields.insert("link".into(), Value::Null);
    }
}

/// What its commands lacked, for the reader to fill in.
fn commands(fields: &mut Map<String, Value>) {
    for (name, stands_in) in [("version", "<VERSION>"), ("url", "<KEYGATE_URL>")] {
        fields.entry(name).or_insert_with(|| json!(stands_in));
    }
}

/// Puts another value where a text stands that is known.
fn replace(fields: &mut Map<String, Value>, name: &str, by: impl Fn(&str) -> Option<Value>) {
    if let Some(field) = fields.get_mut(name)
        && let Some(value) = field.as_str().and_then(by)
    {
        *field = value;
    }
}

fn form(fields: &mut Map<String, Value>) {
    if let Some(by) = fields.get("by").filter(|by| !by.is_object()).cloned() {
        let on_behalf_of = fields.remove("on_behalf_of").unwrap_or_default();
        let doer = match by.as_str() {
            None => json!({ "is": "itself" }),
            Some(name) => json!({ "is": "person", "name": name, "on_behalf_of": on_behalf_of }),
        };
        fields.insert("by".into(), doer);
    }
    replace(fields, "number", |text| (text == "draft").then_some(Value::Null));
    replace(fields, "kind", |text| match text {
        "API key application" => Some(json!("KA")),
        "API key change" => Some(json!("KU")),
        "API key revocation" => Some(json!("KR")),
        "API client registration" => Some(json!("CR")),
        _ => None,
    });
}

/// `approved at level 1`
fn step(text: &str) -> Value {
    let (done, level) = text.split_once(" at level ").unwrap_or((text, ""));
    let what = match done {
        "submitted again" => "resubmitted".to_owned(),
        done => done.replace(' ', "_"),
    };
    json!({ "what": what, "level": first_number(level) })
}

/// `Pending order (level 1 of 2)`
fn status(text: &str) -> Value {
    let mut numbers =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<u32>().ok());
    let (level, levels) = (numbers.next(), numbers.next());
    let is = match text.split(" by ").next().unwrap_or(text) {
        "Draft" => "draft",
        "Returned" => "returned",
        "Rejected" => "rejected",
        "Approved" => "approved",
        "Approved, scheduled" => "scheduled",
        "Approved, then stopped" => "stopped",
        "Approved, but not applied" => "not_carried_out",
        "Cancelled" => "cancelled",
        _ => "pending",
    };
    json!({ "is": is, "level": level, "levels": levels })
}

fn note(text: &str) -> Option<Value> {
    let between = |before: &str, after: &str| {
        let rest = text.strip_prefix(before)?;
        rest.split_once(after).map(|(found, _)| found.to_owned())
    };
    if let Some(to) = between("The key pair is sent to ", ".") {
        let whom = if to.contains("and to yours") {
            "both"
        } else if to.contains("client") {
            "client"
        } else {
            "applicant"
        };
        let minutes = if to.contains("within a minute") { Some(1) } else { first_number(&to) };
        return Some(json!({
            "is": "pair_is_mailed", "to": whom, "in_minutes": minutes.unwrap_or(0), "by_link": false,
        }));
    }
    if let Some(due) = between("It takes effect at ", ". Until") {
        return Some(json!({ "is": "scheduled", "due": due }));
    }
    if let Some(day) = between("The effective date ", " passed") {
        return Some(json!({ "is": "active_from_approval", "effective_on": day }));
    }
    if let Some(day) = between("The key is accepted from ", " on.") {
        return Some(json!({ "is": "accepted_from", "effective_on": day }));
    }
    if let Some(reason) = text.strip_prefix("When the change was due: ") {
        return Some(json!({ "is": "failed", "reason": reason.trim_end_matches('.') }));
    }
    let (is, usage_reset) = match text {
        "Edit the form and submit it again, or withdraw it." => ("edit_and_resubmit", None),
        "A rejected form is final." => ("final", None),
        "The key is no longer accepted." => ("revoked", None),
        "The key runs on its new settings now; uses so far no longer count." => ("changed", Some(true)),
        "The key runs on its new settings now; what has been used stays used." => ("changed", Some(false)),
        _ => return None,
    };
    Some(json!({ "is": is, "usage_reset": usage_reset }))
}

/// An address in one piece, and the example's body.
fn api(api: &mut Value) {
    let Some(fields) = api.as_object_mut() else { return };
    let Some(Value::String(url)) = fields.remove("url") else { return };
    let path_at = url.find("://").and_then(|at| url.get(at + 3..)?.find('/').map(|slash| at + 3 + slash));
    let (base, path) = url.split_at_checked(path_at.unwrap_or(url.len())).unwrap_or((&url, ""));
    let body = fields.remove("sample_body");
    fields.insert("base".into(), if base.contains('<') { Value::Null } else { json!(base) });
    fields.insert("path".into(), json!(path));
    fields.insert("has_body".into(), json!(body.is_some_and(|body| body != "")));
}

/// `2026-07-15 to 2026-12-31, Asia/Taipei`
fn span(text: &str) -> Option<Value> {
    let (span, zone) = text.split_once(", ")?;
    let (from, until) = span.split_once(" to ")?;
    Some(json!({ "from": from, "until": until, "zone": zone }))
}

/// `1000 per day`, `1000 in all`, `unlimited`
fn calls(text: &str) -> Value {
    let Some(calls) = first_number(text) else { return Value::Null };
    let per = text.rsplit_once(" per ").map_or("total", |(_, period)| period);
    json!({ "calls": calls, "per": per })
}

fn first_number(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::mail::{Language, render};

    /// Contexts as the first version wrote them, and what their mails must still say.
    #[test]
    fn mails_that_were_written_before_an_upgrade_are_printed_after_it() {
        let form = json!({
            "product_name": "Keygate", "number": "KA-20260714-0001", "kind": "API key application",
            "by": "rita", "comment": null, "client_id": "partner-1", "client_name": "Partner_One",
            "apis": ["orders"], "link": null,
        });
        let and = |more: Value| {
            let mut all = form.as_object().expect("an object").clone();
            all.extend(more.as_object().expect("an object").clone());
            Value::Object(all)
        };
        let step = |step: &str, status: &str| {
            and(json!({
                "step": step, "status": status, "applied_on": "2026-07-14", "applicant": "anna",
                "waiting_for_you": true,
            }))
        };
        let result = |result: &str, note: &str| {
            and(json!({
                "result": result, "notes": [note], "key_name": "orders key", "effective_on": "2026-07-15",
                "expires_on": "2026-12-31",
            }))
        };
        let pair = json!({
            "product_name": "Keygate", "headline": "This API key has a new secret key.", "api_key": "YjQ=",
            "secret_key": "YTk=", "key_name": "orders key", "client_id": "partner-1",
            "client_name": "Partner_One", "application": null, "use_quota": "1000 calls",
            "effective_on": "2026-07-15", "expires_on": "2026-12-31", "time_zone": "Asia/Taipei",
            "notes": ["The old secret key works until it is retired: change over, then have it retired."],
            "apis": [
                { "name": "orders", "method": "POST", "url": "https://<your gateway>/orders", "sample_body": "{}" },
                { "name": "bills", "method": "GET", "url": "https://api.example/bills", "sample_body": "" },
            ],
        });
        let client = json!({
            "product_name": "Keygate", "client_id": "partner-1", "client_name": "Partner_One",
            "password": "correct horse", "validity": "2026-07-15 to 2026-12-31, Asia/Taipei",
            "service_time": null, "api_quota": "1000 per day", "tps": "unlimited", "hosts": [],
        });
        let test = json!({ "product_name": "Keygate", "asked_at": "now", "asked_by": "the command line" });
        for (template, old, said) in [
            (
                Template::ApplicationStep,
                step("submitted again", "Pending order (level 1 of 2)"),
                "第 1 關審核（共 2 關）",
            ),
            (
                Template::ApplicationStep,
                step("approved at level 1", "Approved, then stopped"),
                "第 1 關已核准",
            ),
            (Template::ApplicationStep, step("not carried out", "Rejected by level 2"), "第 2 關已駁回"),
            (
                Template::ApplicationResult,
                result("returned", "Edit the form and submit it again, or withdraw it."),
                "重新送審",
            ),
            (
                Template::ApplicationResult,
                result("approved", "The key pair is sent to your address in about 10 minutes."),
                "約 10 分鐘後",
            ),
            (
                Template::ApplicationResult,
                result("approved", "The key is accepted from 2026-07-15 on."),
                "自 2026-07-15 起",
            ),
            (
                Template::ApplicationResult,
                result("approved, but could not be carried out", "When the change was due: it is gone."),
                "「it is gone」",
            ),
            (Template::KeyCredentials, pair.clone(), "密鑰（Secret Key）：\nYTk="),
            (Template::KeyCredentials, pair, "POST https://<您的閘道>/orders"),
            (Template::ClientCreated, client, "每日 1000 次"),
            (Template::TestMail, test, "由命令列"),
        ] {
            for language in Language::ALL {
                let context = brought_up(template, old.clone());
                let mail = render(&Config::default(), template, language, &context)
                    .unwrap_or_else(|error| panic!("{} {old}: {error:#}", template.name()));
                assert!(language == Language::En || mail.text.contains(said), "{said} in\n{}", mail.text);
            }
        }
    }

    #[test]
    fn a_context_of_today_stays_as_it_is() {
        for template in Template::ALL {
            for (_, context) in template.samples() {
                assert_eq!(brought_up(template, context.clone()), context, "{}", template.name());
            }
        }
    }
}
