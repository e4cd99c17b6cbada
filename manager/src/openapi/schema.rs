//! Schemas of values whose rules the code holds as constants: a type of a `model.rs` says its own
//! with these, so that the bound of the code and that of the document are the same one.
//!
//! ```ignore
//! schema_of! { Alias: line(MAX_ALIAS_CHARS) }
//! ```

use utoipa::ToSchema;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat};

/// Gives a type its schema: an expression of this module's functions. `as` gives it another name
/// than the type's, which is unique in the whole API.
macro_rules! schema_of {
    ($type:ident: $schema:expr) => {
        $crate::openapi::schema::schema_of! { $type as $type: $schema }
    };
    ($type:ident as $name:ident: $schema:expr) => {
        impl ::utoipa::PartialSchema for $type {
            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::Schema> {
                #[allow(unused_imports, reason = "one expression needs few of them")]
                use $crate::openapi::schema::*;
                $schema.into()
            }
        }

        impl ::utoipa::ToSchema for $type {
            fn name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

pub(crate) use schema_of;

/// A text of `min` to `max` characters.
pub fn text(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length((min > 0).then_some(min)).max_length(Some(max))
}

/// A text of `min` to `max` characters that all are of `class`, a class of regular expressions
/// without its brackets.
pub fn text_of(class: &str, min: usize, max: usize) -> ObjectBuilder {
    text(min, max).pattern(Some(format!("^[{class}]*$")))
}

/// What people call something: one line of at most `max` characters, not blank.
pub fn line(max: usize) -> ObjectBuilder {
    const PRINTABLE: &str = r"[^\u0000-\u001f\u007f-\u009f]";
    text(1, max).pattern(Some(format!(r"^{PRINTABLE}*\S{PRINTABLE}*$")))
}

/// A text of at most `max` characters that may have several lines, not blank.
pub fn lines(max: usize) -> ObjectBuilder {
    const PRINTABLE: &str = r"[^\u0000-\u0009\u000b-\u001f\u007f-\u009f]";
    text(1, max).pattern(Some(format!(r"^{PRINTABLE}*\S{PRINTABLE}*$")))
}

/// One of these.
pub fn either(choices: impl IntoIterator<Item = ObjectBuilder>) -> OneOfBuilder {
    choices.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item)
}

/// `min` to `max` of something.
pub fn list<T: ToSchema>(min: usize, max: usize) -> ArrayBuilder {
    ArrayBuilder::new().items(T::schema()).min_items(Some(min)).max_items(Some(max))
}

/// One of these texts.
pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
}

/// One of these, as serde writes them.
pub fn as_written<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> ObjectBuilder {
    let written = values.into_iter().filter_map(|value| serde_json::to_value(value).ok());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(written))
}

/// A whole number.
pub fn number(min: i64, max: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max))
}

/// `yyyy-MM-dd`.
pub enum Day {}

schema_of! { Day: day() }

/// A day, `yyyy-MM-dd`.
pub fn day() -> ObjectBuilder {
    formatted(KnownFormat::Date)
}

/// An e-mail address of at most `max` characters.
pub fn email(max: usize) -> ObjectBuilder {
    formatted(KnownFormat::Email).max_length(Some(max))
}

fn formatted(format: KnownFormat) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
}
