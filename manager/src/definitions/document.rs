//! Documents: YAML or JSON text to definitions, and definitions to text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, budget, options, ser_options};

use super::kinds::{ApiSpec, ClientSpec, FlowSpec, GroupSpec, ScopeSpec, UserSpec};
use super::model::{API_VERSION, Defined, Fault, Kind, MAX_DEFINITIONS, Place, Spec, Wanted};
use super::tree::{Entry, Node, Tree};

/// Bytes of one file at most.
pub const MAX_FILE_BYTES: usize = 8 << 20;
/// Lists and objects within each other at most; a definition has four.
pub const MAX_DEPTH: usize = 32;
/// Values of one file at most: an API has about twenty.
pub const MAX_NODES: usize = 2_000_000;

/// Reads documents one source after the other and keeps what it finds, right and wrong.
#[derive(Debug, Default)]
pub struct Reader {
    /// What is defined.
    pub wanted: Wanted,
    /// What is wrong, in the order in which it stands.
    pub faults: Vec<Fault>,
    /// Where each thing is defined.
    seen: BTreeMap<(Kind, String), Place>,
}

impl Reader {
    /// Reads a file's text: YAML documents, or JSON; each is one definition or a list of them.
    pub fn text(&mut self, source: &str, text: &str) {
        let source: Arc<str> = source.into();
        let whole = |line| Place { source: source.clone(), line, field: String::new() };
        if text.len() > MAX_FILE_BYTES {
            let reason = format!("has {} bytes, {MAX_FILE_BYTES} at most: split it", text.len());
            return self.unreadable(whole(0), reason);
        }
        let documents = match parse(text) {
            Ok(documents) => documents,
            Err((line, reason)) => return self.unreadable(whole(line), reason),
        };
        let before = self.faults.len();
        for document in documents {
            let line = document.line;
            match document.tree {
                Tree::List(items) => {
                    for item in &items {
                        self.definition(whole(item.line), item);
                    }
                }
                tree => self.definition(whole(line), &Node { line, tree }),
            }
        }
        self.faults.get_mut(before..).unwrap_or_default().sort_by_key(|fault| fault.place.line);
    }

    /// Reads the definitions of a body.
    pub fn body(&mut self, definitions: &[Node]) {
        for (index, node) in definitions.iter().enumerate() {
            let source = format!("definitions[{index}]").into();
            self.definition(Place { source, line: 0, field: String::new() }, node);
        }
    }

    /// Notes that a source could not be read.
    pub fn unreadable(&mut self, place: Place, reason: impl Into<String>) {
        self.wanted.incomplete = true;
        self.faults.push(Fault { place, reason: reason.into() });
    }

    fn definition(&mut self, place: Place, node: &Node) {
        if self.wanted.len() >= MAX_DEFINITIONS {
            if !self.wanted.incomplete {
                self.unreadable(place, format!("is beyond the {MAX_DEFINITIONS} definitions that one call can take: apply the files in parts"));
            }
            return;
        }
        let mut envelope = Fields::of(place.clone(), "", node, &mut self.faults);
        let version: Option<String> = envelope.required("apiVersion");
        let kind: Option<String> = envelope.required("kind");
        let spec = envelope.node("spec");
        let (version_line, kind_line) = (envelope.line_of("apiVersion"), envelope.line_of("kind"));
        envelope.finish(&["apiVersion", "kind", "spec"]);
        let at = |field: &str, line| Place { source: place.source.clone(), line, field: field.into() };
        if let Some(version) = version
            && version != API_VERSION
        {
            let reason = format!("is {version:?}, but this program reads {API_VERSION:?}");
            self.faults.push(Fault { place: at("apiVersion", version_line), reason });
        }
        let known = kind.as_deref().and_then(|kind| Kind::ALL.into_iter().find(|k| k.as_str() == kind));
        if let (Some(kind), None) = (&kind, known) {
            let all = Kind::ALL.map(Kind::as_str).join(", ");
            let reason = format!("is {kind:?}, which does not exist: the kinds are {all}");
            self.faults.push(Fault { place: at("kind", kind_line), reason });
        }
        let (Some(kind), Some(spec)) = (known, spec) else {
            self.wanted.incomplete = true;
            return;
        };
        match kind {
            Kind::Api => {
                let read = self.spec(place, spec);
                self.wanted.apis.extend(read);
            }
            Kind::Group => {
                let read = self.spec(place, spec);
                self.wanted.groups.extend(read);
            }
            Kind::Scope => {
                let read = self.spec(place, spec);
                self.wanted.scopes.extend(read);
            }
            Kind::Client => {
                let read = self.spec(place, spec);
                self.wanted.clients.extend(read);
            }
            Kind::User => {
                let read = self.spec(place, spec);
                self.wanted.users.extend(read);
            }
            Kind::ApprovalFlow => {
                let read = self.spec(place, spec);
                self.wanted.flows.extend(read);
            }
        }
    }

    fn spec<S: Spec>(&mut self, place: Place, node: &Node) -> Option<Defined<S>> {
        let before = self.faults.len();
        let mut fields = Fields::of(place.clone(), "spec", node, &mut self.faults);
        for field in S::IDENTITY {
            fields.require(field);
        }
        let mut spec = S::take(&mut fields);
        spec.arrange();
        fields.finish(&S::fields());
        let lines = match &node.tree {
            Tree::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.line)).collect(),
            _ => BTreeMap::new(),
        };
        let defined = Defined { spec, place, lines };
        let nameless = |fault: &Fault| {
            S::IDENTITY.iter().any(|field| fault.place.field == format!("spec.{field}"))
                || fault.place.field == "spec"
        };
        if self.faults.get(before..).unwrap_or_default().iter().any(nameless) {
            self.wanted.incomplete = true;
            return None;
        }
        let id = defined.spec.id();
        if let Some(first) = self.seen.get(&(S::KIND, id.clone())) {
            let reason =
                format!("{} {id} is already defined at {first}: keep one of the two", S::KIND.noun());
            self.faults.push(Fault { place: defined.place.clone(), reason });
            return None;
        }
        self.seen.insert((S::KIND, id), defined.place.clone());
        Some(defined)
    }
}

/// The fields of an object, taken one by one; what is wrong goes to the faults.
#[derive(Debug)]
pub struct Fields<'n, 'f> {
    place: Place,
    /// In front of a field's name: `spec`, or nothing.
    prefix: &'static str,
    entries: &'n [Entry],
    /// Whether there is an object to have fields at all.
    object: bool,
    /// Where the object begins.
    line: u64,
    faults: &'f mut Vec<Fault>,
}

impl<'n, 'f> Fields<'n, 'f> {
    fn of(place: Place, prefix: &'static str, node: &'n Node, faults: &'f mut Vec<Fault>) -> Self {
        let mut fields = Self { place, prefix, entries: &[], object: false, line: node.line, faults };
        match &node.tree {
            Tree::Map(entries) => (fields.entries, fields.object) = (entries, true),
            _ => {
                let what = if prefix.is_empty() { "a definition " } else { "" };
                let reason = format!("{what}must be an object with fields, not {}", node.kind());
                fields.faults.push(Fault { place: fields.at("", node.line), reason });
            }
        }
        fields
    }

    /// The field, if it is there and can be read.
    pub fn take<T: DeserializeOwned>(&mut self, field: &str) -> Option<T> {
        let node = self.node(field)?;
        let value = node.value();
        let null = value.is_null();
        match serde_path_to_error::deserialize::<_, T>(value) {
            Ok(value) => Some(value),
            Err(_) if null => {
                let reason = "has no value: give one, or leave the field out so that it stays as it is";
                self.refuse(field, node.line, reason.into());
                None
            }
            Err(error) => {
                let path = error.path().to_string();
                let within = match path.as_str() {
                    "." => field.to_owned(),
                    path if path.starts_with('[') => format!("{field}{path}"),
                    path => format!("{field}.{path}"),
                };
                let line = node.line_at(error.path());
                let mut reason = format!("cannot be read: {}", error.into_inner());
                if reason.contains("expected a string") {
                    reason.push_str(" (a text that looks like something else is written in quotes)");
                }
                self.refuse(&within, line, reason);
                None
            }
        }
    }

    fn required<T: DeserializeOwned>(&mut self, field: &str) -> Option<T> {
        self.require(field);
        self.take(field)
    }

    fn require(&mut self, field: &str) {
        if self.node(field).is_none() && self.object {
            self.refuse(field, self.line, "is missing: fill it in".into());
        }
    }

    fn node(&self, field: &str) -> Option<&'n Node> {
        self.entries.iter().rev().find(|entry| entry.key == field).map(|entry| &entry.value)
    }

    fn line_of(&self, field: &str) -> u64 {
        self.entries.iter().rev().find(|entry| entry.key == field).map_or(self.line, |entry| entry.line)
    }

    /// Refuses what is no field, and fields that stand twice.
    fn finish(mut self, known: &[&str]) {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        for entry in self.entries {
            if !known.contains(&entry.key.as_str()) {
                let reason = format!("is no field here: the fields are {}", known.join(", "));
                self.refuse(&entry.key, entry.line, reason);
            } else if let Some(line) = first.insert(&entry.key, entry.line) {
                let before = if line == 0 { String::new() } else { format!(" (first in line {line})") };
                self.refuse(&entry.key, entry.line, format!("stands twice{before}: keep one of the two"));
            }
        }
    }

    fn refuse(&mut self, field: &str, line: u64, reason: String) {
        let place = self.at(field, line);
        self.faults.push(Fault { place, reason });
    }

    fn at(&self, field: &str, line: u64) -> Place {
        let field = match (self.prefix, field) {
            ("", field) => field.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, field) => format!("{prefix}.{field}"),
        };
        Place { source: self.place.source.clone(), line, field }
    }
}

/// The documents of a text; else the line and what is wrong there.
fn parse(text: &str) -> Result<Vec<Node>, (u64, String)> {
    let options = options! {
        budget: budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: MAX_DEFINITIONS,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
        },
        // Told as a fault of the field, with both lines.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `no`, `on` and `0123` are texts, as everybody expects who writes a name.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        emit_comments: false,
    };
    Node::documents(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        (line, format!("cannot be read as YAML or JSON: {error}"))
    })
}

/// A definition, to be written.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", content = "spec")]
pub enum Definition {
    /// An API.
    Api(Box<ApiSpec>),
    /// A group.
    Group(GroupSpec),
    /// A scope.
    Scope(ScopeSpec),
    /// A client.
    Client(Box<ClientSpec>),
    /// A user.
    User(UserSpec),
    /// An approval flow.
    ApprovalFlow(FlowSpec),
}

/// A definition with the version of the format.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    api_version: &'static str,
    #[serde(flatten)]
    definition: Definition,
}

impl Document {
    /// What it defines.
    pub fn kind(&self) -> Kind {
        match self.definition {
            Definition::Api(_) => Kind::Api,
            Definition::Group(_) => Kind::Group,
            Definition::Scope(_) => Kind::Scope,
            Definition::Client(_) => Kind::Client,
            Definition::User(_) => Kind::User,
            Definition::ApprovalFlow(_) => Kind::ApprovalFlow,
        }
    }
}

impl From<Definition> for Document {
    fn from(definition: Definition) -> Self {
        Self { api_version: API_VERSION, definition }
    }
}

/// The documents as YAML, each after a line `---`.
pub fn to_yaml(documents: &[Document]) -> Result<String, serde_saphyr::ser::Error> {
    let options = ser_options! { prefer_block_scalars: false };
    let mut text = String::new();
    for document in documents {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string_with_options(document, options.clone())?);
    }
    Ok(text)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn read(text: &str) -> (Wanted, Vec<String>) {
        let mut reader = Reader::default();
        reader.text("f.yaml", text);
        (reader.wanted, reader.faults.iter().map(Fault::to_string).collect())
    }

    const GROUP: &str = "apiVersion: keygate/v1\nkind: Group\nspec:\n  name: partners\n";

    #[test]
    fn the_character_u0000_is_refused_in_its_line() {
        let yaml = format!("{GROUP}  description: \"a\\0b\"\n");
        let json =
            "[\n{\"apiVersion\": \"keygate/v1\", \"kind\": \"Group\",\n \"spec\": {\"name\": \"a\\u0000\"}}]";
        for (text, line) in [(yaml.as_str(), 5), (json, 3)] {
            let (wanted, faults) = read(text);
            let told = faults.first().expect("a fault");
            assert!(told.starts_with(&format!("f.yaml:{line}")) && told.contains("U+0000"), "{faults:?}");
            assert_eq!((wanted.len(), faults.len()), (0, 1), "{faults:?}");
        }
    }

    #[test]
    fn yaml_documents_lists_and_json_say_the_same() {
        let json =
            r#"{"apiVersion": "keygate/v1", "kind": "Group", "spec": {"name": "partners", "apis": ["a/b"]}}"#;
        let tabbed = "{\n\t\"apiVersion\": \"keygate/v1\",\n\t\"kind\": \"Group\",\n\t\"spec\": {\n\t\t\"name\": \"partners\",\n\t\t\"apis\": [\n\t\t\t\"a\\u002fb\"\n\t\t]\n\t}\n}\n";
        let yaml = format!("# by hand\n---\n{GROUP}  apis:\n    - a/b\n---\n");
        let list = format!("[{json}]");
        let anchored = "apiVersion: keygate/v1\nkind: Group\nspec: &it {name: partners, apis: [a/b]}\n";
        for text in [json, tabbed, &yaml, &list, anchored] {
            let (wanted, faults) = read(text);
            assert_eq!(faults, Vec::<String>::new(), "{text}");
            let group = &wanted.groups.first().expect("a group").spec;
            assert_eq!(
                (group.id(), group.apis.clone()),
                ("partners".into(), Some(vec!["a/b".into()])),
                "{text}"
            );
            assert_eq!(wanted.len(), 1);
        }
        for empty in ["", "# nothing\n", "---\n---\n", "[]"] {
            assert_eq!((read(empty).0.len(), read(empty).1.len()), (0, 0), "{empty:?}");
        }
    }

    #[test]
    fn everything_wrong_is_told_with_its_line_at_once() {
        let text = "apiVersion: keygate/v1
kind: Group
spec:
  name: partners
  nmae: x
  apis: shop/orders
  description: 12
  security_level:
  alias: a
  alias: b
---
apiVersion: keygate/v2
kind: Grupo
spec: {}
---
apiVersion: keygate/v1
kind: Client
extra: 1
spec:
  bindings:
    - name: office
      adress: 10.0.0.1
  tps: -1
---
kind: Api
spec: nothing
---
just a text
---
apiVersion: keygate/v1
kind: Group
spec: {name: partners}
";
        let expected = [
            "f.yaml:5: spec.nmae is no field here: the fields are name, alias, description, security_level, apis",
            "f.yaml:6: spec.apis cannot be read: invalid type: string \"shop/orders\", expected a sequence",
            "f.yaml:7: spec.description cannot be read: invalid type: integer `12`, expected a string (a text that looks like something else is written in quotes)",
            "f.yaml:8: spec.security_level has no value: give one, or leave the field out so that it stays as it is",
            "f.yaml:10: spec.alias stands twice (first in line 9): keep one of the two",
            "f.yaml:12: apiVersion is \"keygate/v2\", but this program reads \"keygate/v1\"",
            "f.yaml:13: kind is \"Grupo\", which does not exist: the kinds are Api, Group, Scope, Client, User, ApprovalFlow",
            "f.yaml:18: extra is no field here: the fields are apiVersion, kind, spec",
            "f.yaml:20: spec.id is missing: fill it in",
            "f.yaml:22: spec.bindings[0].adress cannot be read: unknown field `adress`, expected `name` or `address`",
            "f.yaml:23: spec.tps cannot be read: invalid value: integer `-1`, expected u32",
            "f.yaml:25: apiVersion is missing: fill it in",
            "f.yaml:26: spec must be an object with fields, not a text",
            "f.yaml:28: a definition must be an object with fields, not a text",
            "f.yaml:30: group partners is already defined at f.yaml:1: keep one of the two",
        ];
        let (_, told) = read(text);
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        for (text, line) in [("a: [1\nb: 2\n", 2), ("a: b\n c: d\n", 2), ("\"open\n", 1)] {
            let (wanted, told) = read(text);
            assert!(told[0].starts_with(&format!("f.yaml:{line}")) && wanted.incomplete, "{told:?}");
        }
    }

    #[test]
    fn bounds_hold_and_what_is_at_them_passes() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(
            read(&deep(MAX_DEPTH)).1,
            ["f.yaml:1: a definition must be an object with fields, not a list"]
        );
        assert!(read(&deep(MAX_DEPTH + 1)).1[0].contains("cannot be read as YAML"));
        let long = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
        assert!(read(&long(MAX_FILE_BYTES)).1.is_empty());
        assert!(read(&long(MAX_FILE_BYTES + 1)).1[0].contains("split it"));
        let many = |count: usize| {
            (0..count)
                .map(|n| format!("- {{apiVersion: keygate/v1, kind: Group, spec: {{name: g{n}}}}}\n"))
                .collect::<String>()
        };
        assert_eq!(read(&many(MAX_DEFINITIONS)).0.len(), MAX_DEFINITIONS);
        let (wanted, told) = read(&many(MAX_DEFINITIONS + 5));
        assert_eq!((wanted.len(), told.len()), (MAX_DEFINITIONS, 1));
        // Aliases that multiply.
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
        }
        assert_eq!(read(&bomb).1.len(), 1);
    }

    #[test]
    fn words_that_yaml_would_turn_into_something_else_stay_texts() {
        let text =
            "apiVersion: keygate/v1\nkind: Group\nspec: {name: no, alias: 0123, description: 12_000}\n";
        let (wanted, told) = read(text);
        assert_eq!(told, Vec::<String>::new());
        let spec = &wanted.groups[0].spec;
        assert_eq!((spec.name.as_deref(), spec.alias.as_deref()), (Some("no"), Some("0123")));
        assert_eq!(spec.description.as_deref(), Some("12_000"));
    }

    #[test]
    fn every_text_is_written_so_that_it_is_read_as_it_was() {
        for text in [
            "",
            " ",
            "no",
            "true",
            "null",
            "~",
            "1",
            "0123",
            "1e3",
            "2026-07-14",
            "08:30",
            "a: b",
            "- a",
            "#x",
            "a #b",
            "'",
            "\"",
            "\\",
            "two\nlines",
            "\ttab",
            "trailing ",
            "ends\n",
            "\n",
            "{a}",
            "[a]",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "|",
            ">",
            "?",
            "=",
            "<<",
            "---",
            "...",
            "ä€😀",
            "\u{feff}",
            "\u{85}",
            "0x10",
            "+1",
            ".5",
            ".inf",
        ] {
            let spec =
                GroupSpec { name: Some("g".into()), description: Some(text.into()), ..GroupSpec::default() };
            let yaml = to_yaml(&[Definition::Group(spec.clone()).into()]).expect("written");
            let (wanted, told) = read(&yaml);
            assert_eq!(told, Vec::<String>::new(), "{yaml}");
            assert_eq!(wanted.groups[0].spec, spec, "{yaml}");
        }
    }

    #[test]
    fn a_body_names_the_place_within_it() {
        let nodes: Vec<Node> = serde_json::from_str(
            r#"[{"apiVersion": "keygate/v1", "kind": "Group", "spec": {"name": "g", "tps": 1}}, 5]"#,
        )
        .expect("JSON");
        let mut reader = Reader::default();
        reader.body(&nodes);
        let told: Vec<_> = reader.faults.iter().map(Fault::to_string).collect();
        assert_eq!(
            told,
            [
                "definitions[0].spec.tps: is no field here: the fields are name, alias, description, security_level, apis",
                "definitions[1]: a definition must be an object with fields, not a number",
            ]
        );
    }
}
