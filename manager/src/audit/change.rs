//! What an action changed: each field with its value before and after, and nothing secret.

use serde_json::{Map, Value, json};

/// What stands in the trail where a secret would.
const MASK: &str = "***";

/// A field of such a name, or one that ends in `_` and such a name, holds a secret. What merely
/// names a secret is called `token_id`, `secret_id` and so on.
const SECRETS: [&str; 7] =
    ["password", "password_hash", "secret", "secret_key", "private_key", "token", "x_api_key"];

/// Fields that every update moves, so that they tell nothing.
const BOOKKEEPING: [&str; 2] = ["updated_at", "version"];

/// The fields in which two views of the same thing differ: `{"<field>": {"before": …, "after": …}}`.
///
/// Fields of objects within are named with dots (`limits.tps`), lists count as one value, and an
/// absent field is null. Goes into an entry's detail as `changed`.
pub fn changed(before: &Value, after: &Value) -> Value {
    let mut fields = Map::new();
    compare("", before, after, &mut fields);
    Value::Object(fields)
}

fn compare(path: &str, before: &Value, after: &Value, fields: &mut Map<String, Value>) {
    let none = Map::new();
    let (was, is) = match (before, after) {
        (Value::Object(was), Value::Object(is)) => (was, is),
        // Something appeared or went: its fields did.
        (Value::Null, Value::Object(is)) if !is.is_empty() => (&none, is),
        (Value::Object(was), Value::Null) if !was.is_empty() => (was, &none),
        (before, after) => {
            if before != after {
                fields.insert(path.to_string(), json!({ "before": before, "after": after }));
            }
            return;
        }
    };
    let added = is.keys().filter(|name| !was.contains_key(*name));
    for name in was.keys().chain(added) {
        if path.is_empty() && BOOKKEEPING.contains(&name.as_str()) {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let side = |of: &Map<String, Value>| of.get(name).cloned().unwrap_or_default();
        compare(&path, &side(was), &side(is), fields);
    }
}

/// The detail with every text under a secret's name replaced. Numbers, truths and null stay: they
/// tell that there is a secret, not which.
pub(super) fn masked(detail: Value) -> Value {
    hide(detail, false)
}

fn hide(value: Value, secret: bool) -> Value {
    match value {
        Value::String(_) if secret => MASK.into(),
        Value::Array(items) => items.into_iter().map(|item| hide(item, secret)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let secret = secret || is_secret(&name);
                (name, hide(value, secret))
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

fn is_secret(field: &str) -> bool {
    // `changed` names fields of objects within with dots: any part may be the secret's.
    field.split('.').any(|part| {
        SECRETS.iter().any(|secret| {
            part.strip_suffix(secret).is_some_and(|front| front.is_empty() || front.ends_with('_'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_differ_are_named_with_both_values() {
        let before = json!({
            "name": "ann", "note": "x", "email": null, "roles": ["a"], "limits": { "tps": 10, "quota": 0 },
            "gone": 1, "version": 1, "updated_at": 5,
        });
        let after = json!({
            "name": "ann", "note": "y", "email": "a@b.example", "roles": ["a", "b"],
            "limits": { "tps": 20, "quota": 0 }, "new": false, "version": 2, "updated_at": 6,
        });
        assert_eq!(
            changed(&before, &after),
            json!({
                "note": { "before": "x", "after": "y" },
                "email": { "before": null, "after": "a@b.example" },
                "roles": { "before": ["a"], "after": ["a", "b"] },
                "limits.tps": { "before": 10, "after": 20 },
                "gone": { "before": 1, "after": null },
                "new": { "before": null, "after": false },
            })
        );
        assert_eq!(changed(&after, &after), json!({}));
    }

    #[test]
    fn an_object_that_appears_or_goes_shows_its_fields() {
        let (without, with) = (json!({ "hours": null }), json!({ "hours": { "from": "09:00" } }));
        let from =
            |before: Value, after: Value| json!({ "hours.from": { "before": before, "after": after } });
        assert_eq!(changed(&without, &with), from(Value::Null, json!("09:00")));
        assert_eq!(changed(&with, &without), from(json!("09:00"), Value::Null));
        let empty = json!({ "hours": {} });
        assert_eq!(changed(&without, &empty), json!({ "hours": { "before": null, "after": {} } }));
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let detail = json!({
            "password": "p", "client_secret": "s", "tokens": 3, "token_id": "ot_1", "must_change_password": true,
            "changed": {
                "password": { "before": "p", "after": "q" },
                "login.password_hash": { "before": null, "after": "h" },
                "access_token_ttl_s": { "before": 1, "after": 2 },
            },
            "keys": [{ "x_api_key": "k", "alias": "a" }], "secret": ["a", { "b": "c" }],
        });
        assert_eq!(
            masked(detail),
            json!({
                "password": "***", "client_secret": "***", "tokens": 3, "token_id": "ot_1",
                "must_change_password": true,
                "changed": {
                    "password": { "before": "***", "after": "***" },
                    "login.password_hash": { "before": null, "after": "***" },
                    "access_token_ttl_s": { "before": 1, "after": 2 },
                },
                "keys": [{ "x_api_key": "***", "alias": "a" }], "secret": ["***", { "b": "***" }],
            })
        );
    }
}
