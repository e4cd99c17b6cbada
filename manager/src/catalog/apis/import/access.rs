//! Who may call an operation: from the importer's choice and the document's security schemes.

use gate::request::CredentialKind;
use serde_json::Value;

use super::document::Document;
use super::model::{Accepts, Access, DEFAULT_ACCEPTS, Options};

/// Who may call `operation`; the error says why that cannot be told.
pub(super) fn access(document: &Document, operation: &Value, options: &Options) -> Result<Access, String> {
    let requirements = Requirements::of(document, operation)?;
    if requirements.open && options.allow_no_auth {
        return Ok(Access {
            accepts: Vec::new(),
            warnings: vec!["anybody may call it: no credential is asked for, as the document says".into()],
        });
    }
    let (accepts, mut warnings) = match &options.accepts {
        Some(Accepts::Document) => from_document(document, &requirements)?,
        Some(Accepts::Named(accepts)) => (accepts.clone(), Vec::new()),
        None => (DEFAULT_ACCEPTS.to_vec(), Vec::new()),
    };
    if requirements.open {
        warnings.push(
            "the document lets anybody call it, here it asks for a credential: allow_no_auth=true opens it"
                .into(),
        );
    }
    Ok(Access { accepts, warnings })
}

/// What the document asks for.
struct Requirements<'d> {
    /// Alternatives that ask for something.
    alternatives: Vec<&'d serde_json::Map<String, Value>>,
    /// It says in so many words that it asks for nothing.
    open: bool,
    /// It says so beside alternatives that do ask.
    optional: bool,
}

impl<'d> Requirements<'d> {
    fn of(document: &'d Document, operation: &'d Value) -> Result<Self, String> {
        let Some(security) = operation.get("security").or_else(|| document.root().get("security")) else {
            return Ok(Self { alternatives: Vec::new(), open: false, optional: false });
        };
        let wrong = || "`security` is no list of objects".to_string();
        let all = security.as_array().ok_or_else(wrong)?.iter();
        let all = all.map(|one| one.as_object().ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?;
        let (nothing, alternatives): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.is_empty());
        Ok(Self {
            open: alternatives.is_empty(),
            optional: !nothing.is_empty() && !alternatives.is_empty(),
            alternatives,
        })
    }
}

fn from_document(
    document: &Document,
    requirements: &Requirements<'_>,
) -> Result<(Vec<CredentialKind>, Vec<String>), String> {
    if requirements.open {
        return Err(
            "the document lets anybody call it: allow_no_auth=true opens it, or name `accepts`".into()
        );
    }
    if requirements.alternatives.is_empty() {
        return Err("the document says nothing about its credentials: name `accepts`".into());
    }
    let (mut accepts, mut warnings) = (Vec::new(), Vec::new());
    for alternative in &requirements.alternatives {
        let mut known = Vec::new();
        for name in alternative.keys() {
            match credential(document, name) {
                Ok(kind) => known.push(kind),
                Err(reason) => warnings.push(format!("security scheme {name:?} {reason}")),
            }
        }
        if alternative.len() > 1 && !known.is_empty() {
            let names: Vec<_> = alternative.keys().map(String::as_str).collect();
            warnings.push(format!(
                "the document asks for {} together, here one of them is enough",
                names.join(" and ")
            ));
        }
        accepts.extend(known);
    }
    accepts.sort();
    accepts.dedup();
    if accepts.is_empty() {
        return Err(format!("{}: name `accepts`", warnings.join("; ")));
    }
    if requirements.optional {
        warnings.push("the document asks for a credential or none, here one is asked for".into());
    }
    Ok((accepts, warnings))
}

/// Our kind of credential that a security scheme is.
fn credential(document: &Document, name: &str) -> Result<CredentialKind, String> {
    let scheme = document
        .root()
        .get("components")
        .and_then(|components| components.get("securitySchemes"))
        .and_then(|schemes| schemes.get(name))
        .ok_or("is not described under components.securitySchemes")?;
    let scheme = document.resolve(scheme)?;
    let text = |field: &str| scheme[field].as_str().unwrap_or_default();
    match text("type") {
        "http" => match text("scheme").to_ascii_lowercase().as_str() {
            "basic" => Ok(CredentialKind::Basic),
            "bearer" => Ok(CredentialKind::Bearer),
            "dgrk" => Ok(CredentialKind::Dgrk),
            other => Err(format!("is HTTP {other:?}, which no gate checks")),
        },
        "oauth2" | "openIdConnect" => Ok(CredentialKind::Bearer),
        "apiKey" if text("in") == "header" && text("name").eq_ignore_ascii_case("x-api-key") => {
            Ok(CredentialKind::XApiKey)
        }
        "apiKey" => Err(format!(
            "is an API key in the {} {:?}, gates read the header X-Api-Key alone",
            if text("in").is_empty() { "parameter" } else { text("in") },
            text("name")
        )),
        other => Err(format!("is of type {other:?}, which no gate checks")),
    }
}

#[cfg(test)]
mod unit {
    use super::super::document::Format;
    use super::*;
    use CredentialKind::{Basic, Bearer, Dgrk, XApiKey};
    use serde_json::json;

    fn document(security: Option<Value>) -> Document {
        let mut root = json!({ "components": { "securitySchemes": {
            "basic": { "type": "http", "scheme": "Basic" },
            "jwt": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            "dgrk": { "type": "http", "scheme": "DGRK" },
            "oauth": { "type": "oauth2", "flows": {} },
            "oidc": { "type": "openIdConnect", "openIdConnectUrl": "https://id.example/" },
            "key": { "type": "apiKey", "in": "header", "name": "X-API-KEY" },
            "alias": { "$ref": "#/components/securitySchemes/key" },
            "query": { "type": "apiKey", "in": "query", "name": "api_key" },
            "cookie": { "type": "apiKey", "in": "cookie", "name": "session" },
            "digest": { "type": "http", "scheme": "digest" },
            "mtls": { "type": "mutualTLS" },
            "nothing": {},
        } } });
        if let Some(security) = security {
            root["security"] = security;
        }
        Document::read(root.to_string().as_bytes(), Format::Json).expect("readable")
    }

    fn from(security: Option<Value>, options: &Options) -> Result<Access, String> {
        access(&document(security), &json!({}), options)
    }

    fn as_document() -> Options {
        Options { accepts: Some(Accepts::Document), ..Options::default() }
    }

    #[test]
    fn schemes_that_gates_check_are_taken_over() {
        for (security, accepts) in [
            (json!([{ "basic": [] }]), &[Basic][..]),
            (json!([{ "jwt": [] }]), &[Bearer]),
            (json!([{ "oauth": ["read"] }, { "oidc": [] }]), &[Bearer]),
            (json!([{ "key": [] }]), &[XApiKey]),
            (json!([{ "alias": [] }]), &[XApiKey]),
            (json!([{ "jwt": [] }, { "key": [] }, { "dgrk": [] }]), &[Dgrk, XApiKey, Bearer]),
        ] {
            let expected = Access { accepts: accepts.to_vec(), warnings: vec![] };
            assert_eq!(from(Some(security.clone()), &as_document()), Ok(expected), "{security}");
        }
    }

    #[test]
    fn what_gates_do_not_check_is_told_or_refused() {
        for (security, accepts, told) in [
            (json!([{ "key": [] }, { "query": [] }]), Some(XApiKey), "query \"api_key\""),
            (json!([{ "key": [], "basic": [] }]), Some(Basic), "basic and key together"),
            (json!([{}, { "key": [] }]), Some(XApiKey), "a credential or none"),
            (json!([{ "query": [] }]), None, "query \"api_key\""),
            (json!([{ "cookie": [] }]), None, "cookie \"session\""),
            (json!([{ "digest": [] }]), None, "HTTP \"digest\""),
            (json!([{ "mtls": [] }]), None, "mutualTLS"),
            (json!([{ "nothing": [] }]), None, "of type \"\""),
            (json!([{ "unknown": [] }]), None, "not described"),
            (json!({}), None, "no list of objects"),
            (json!(["key"]), None, "no list of objects"),
        ] {
            match (from(Some(security.clone()), &as_document()), accepts) {
                (Ok(access), Some(kind)) => {
                    assert!(access.accepts.contains(&kind), "{security}: {access:?}");
                    assert!(access.warnings.concat().contains(told), "{security}: {access:?}");
                }
                (Err(reason), None) => assert!(reason.contains(told), "{security}: {reason}"),
                (result, _) => panic!("{security}: {result:?}"),
            }
        }
        assert!(from(None, &as_document()).expect_err("nothing said").contains("says nothing"));
    }

    #[test]
    fn an_open_operation_is_opened_on_demand_alone() {
        let named = Options { accepts: Some(Accepts::Named(vec![Basic])), ..Options::default() };
        for open in [json!([]), json!([{}])] {
            for options in [Options::default(), named.clone(), as_document()] {
                let allowed = Options { allow_no_auth: true, ..options.clone() };
                let access = from(Some(open.clone()), &allowed).expect("allowed");
                assert!(access.accepts.is_empty() && access.warnings[0].contains("anybody"), "{access:?}");
                match from(Some(open.clone()), &options) {
                    Ok(access) => {
                        assert!(
                            !access.accepts.is_empty() && access.warnings[0].contains("allow_no_auth=true")
                        );
                    }
                    Err(reason) => {
                        assert_eq!(options, as_document());
                        assert!(reason.contains("allow_no_auth=true"), "{reason}");
                    }
                }
            }
        }
        let allowed = Options { allow_no_auth: true, ..Options::default() };
        for not_open in [None, Some(json!([{ "key": [] }])), Some(json!([{}, { "key": [] }]))] {
            assert_eq!(from(not_open, &allowed).expect("closed").accepts, DEFAULT_ACCEPTS);
        }
    }

    #[test]
    fn an_operation_speaks_before_its_document() {
        let document = document(Some(json!([{ "key": [] }])));
        let of =
            |operation: Value| access(&document, &operation, &as_document()).map(|access| access.accepts);
        assert_eq!(of(json!({})), Ok(vec![XApiKey]));
        assert_eq!(of(json!({ "security": [{ "basic": [] }] })), Ok(vec![Basic]));
        assert!(of(json!({ "security": [] })).is_err());
    }

    #[test]
    fn what_the_importer_names_is_taken_whatever_the_document_says() {
        let named = Options { accepts: Some(Accepts::Named(vec![Basic])), ..Options::default() };
        for security in [None, Some(json!([{ "query": [] }]))] {
            let expected = Access { accepts: vec![Basic], warnings: vec![] };
            assert_eq!(from(security, &named), Ok(expected));
        }
        assert_eq!(from(None, &Options::default()).expect("default").accepts, DEFAULT_ACCEPTS);
    }
}
