//! Schemas of values whose rules the code holds as constants: a type of a `model.rs` says its own
//! with these, so that the bound of the code and that of the document are the same one.
//!
//! ```ignore
//! impl PartialSchema for Alias {
//!     fn schema() -> RefOr<Schema> {
//!         schema::text(1, MAX_ALIAS).into()
//!     }
//! }
//! impl ToSchema for Alias {}
//! ```

use utoipa::openapi::schema::Type;
use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat};

/// A text of `min` to `max` characters.
pub fn text(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length((min > 0).then_some(min)).max_length(Some(max))
}

/// A text of `min` to `max` characters that all are of `class`, a class of regular expressions
/// without its brackets.
pub fn text_of(class: &str, min: usize, max: usize) -> ObjectBuilder {
    text(min, max).pattern(Some(format!("^[{class}]*$")))
}

/// One of these texts.
pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
}

/// A whole number.
pub fn number(min: i64, max: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max))
}

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
