//! What a document says before anybody knows what it is about: values, and where each stands.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Number, Value};
use serde_saphyr::{Options, Spanned};

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From 1; 0 where lines are not known (a body sent over HTTP).
    pub line: u64,
    /// The value.
    pub tree: Tree,
}

/// A value. Maps keep their order and the keys that stand twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that JSON can hold.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys with their lines, and values.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its line.
    pub line: u64,
    /// What stands under it.
    pub value: Node,
}

impl Node {
    /// The documents of a text of YAML or JSON, with their lines.
    pub fn documents(text: &str, options: Options) -> Result<Vec<Self>, serde_saphyr::Error> {
        let documents = serde_saphyr::from_multiple_with_options::<Lined>(text, options)?;
        Ok(documents.into_iter().map(Self::from).collect())
    }

    /// As JSON. A key that stands twice has its last value.
    pub fn value(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(yes) => Value::Bool(*yes),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => items.iter().map(Self::value).collect(),
            Tree::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.value())).collect())
            }
        }
    }

    /// The line of what `path` leads to, or of the last of it that exists.
    pub fn line_at(&self, path: &serde_path_to_error::Path) -> u64 {
        let mut node = self;
        for segment in path {
            let next = match (segment, &node.tree) {
                (serde_path_to_error::Segment::Seq { index }, Tree::List(items)) => items.get(*index),
                (serde_path_to_error::Segment::Map { key }, Tree::Map(entries)) => {
                    entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value)
                }
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.line
    }

    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "a yes or no",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "a text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "an object",
        }
    }
}

/// A value of a text, whose lines are known; a [`Node`] that is read itself has none.
struct Lined(Node);

/// A key with its line.
struct LinedKey(Spanned<String>);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = deserializer.deserialize_any(TreeVisitor::<Self, String>(PhantomData))?;
        Ok(Self { line: 0, tree })
    }
}

impl<'de> Deserialize<'de> for Lined {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<LinedTree>::deserialize(deserializer)?;
        Ok(Self(Node { line: spanned.referenced.line(), tree: spanned.value.0 }))
    }
}

struct LinedTree(Tree);

impl<'de> Deserialize<'de> for LinedTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor::<Lined, LinedKey>(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for LinedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl From<Lined> for Node {
    fn from(lined: Lined) -> Self {
        lined.0
    }
}

/// A key and its line.
trait Key {
    fn parts(self) -> (String, u64);
}

impl Key for String {
    fn parts(self) -> (String, u64) {
        (self, 0)
    }
}

impl Key for LinedKey {
    fn parts(self) -> (String, u64) {
        (self.0.value, self.0.referenced.line())
    }
}

/// Builds a tree from nodes and keys of one sort.
struct TreeVisitor<N, K>(PhantomData<(N, K)>);

impl<'de, N, K> Visitor<'de> for TreeVisitor<N, K>
where
    N: Deserialize<'de> + Into<Node>,
    K: Deserialize<'de> + Key,
{
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(yes))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
        Number::from_f64(number)
            .map(Tree::Number)
            .ok_or_else(|| E::custom(format!("{number} is no number that can be used here")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Tree, E> {
        if text.contains('\0') {
            return Err(E::custom("a text holds the character U+0000, which no database keeps: take it out"));
        }
        Ok(Tree::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<N>()? {
            list.push(item.into());
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<K>()? {
            let (key, line) = key.parts();
            entries.push(Entry { key, line, value: map.next_value::<N>()?.into() });
        }
        Ok(Tree::Map(entries))
    }
}
