//! Who may sign: rules alone in [`model`], the persons they are asked about from the database.

mod matching;
mod model;
mod people;
#[cfg(test)]
mod tests;

pub use model::{
    Bar, Circle, FourEyes, Grounds, NoEscalation, Person, Right, Shortage, Signer, StandIn, Word,
};
pub use people::circle;
