//! The catalogue while a transaction changes it.

use gate::id::ApiUid;

use super::apis::{self, Clash, Place};
use super::store;
use crate::db::{Conn, DbError};

/// Proof that nobody else changes the catalogue until the transaction ends; what changes it takes
/// this as an argument. It holds where every API answers, once that was asked for, so that a
/// transaction that saves many APIs reads the catalogue once.
#[derive(Debug)]
pub struct Held {
    places: Option<Vec<Place>>,
}

/// Takes the catalogue for the rest of the transaction: before any other row, so that two never
/// wait for each other.
pub async fn hold(conn: &mut Conn) -> Result<Held, DbError> {
    store::hold(conn).await?;
    Ok(Held { places: None })
}

impl Held {
    /// The first API, by module and id, beside which one at `place` cannot be registered.
    pub(super) async fn clash(&mut self, conn: &mut Conn, place: &Place) -> Result<Option<Clash>, DbError> {
        let places = self.load(conn).await?;
        let clashes = places.iter().filter(|other| other.uid != place.uid).filter_map(|o| place.clash(o));
        Ok(clashes.min_by(|a, b| a.rival_title.cmp(&b.rival_title)))
    }

    /// Reads where every API answers, unless that was done.
    pub(super) async fn load(&mut self, conn: &mut Conn) -> Result<&[Place], DbError> {
        Ok(match &mut self.places {
            Some(places) => places,
            none => none.insert(apis::places(conn).await?),
        })
    }

    /// An API was saved at `place`.
    pub(super) fn saved(&mut self, place: Place) {
        let Some(places) = &mut self.places else { return };
        match places.iter_mut().find(|other| other.uid == place.uid) {
            Some(old) => *old = place,
            None => places.push(place),
        }
    }

    /// An API was deleted.
    pub(super) fn deleted(&mut self, uid: &ApiUid) {
        if let Some(places) = &mut self.places {
            places.retain(|place| place.uid != *uid);
        }
    }
}
