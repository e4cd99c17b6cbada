//! What becomes of a token that somebody asks about: which one it is, whether it serves, how often still.

use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;

use super::keys;
use super::model::{self, Claims, Token};
use super::refresh::{self, RefreshToken};
use super::refusal::Refusal;
use super::store;
use crate::app::App;
use crate::bearer;
use crate::db::{Conn, DbError};
use crate::quotas;

/// A token of ours, by its text.
pub(super) struct Found {
    /// What it says.
    pub claims: Claims,
    /// As it is on record; None: it is so no more.
    pub record: Option<OnRecord>,
}

/// One kind or the other.
pub(super) enum OnRecord {
    Access(Token),
    Refresh(RefreshToken),
}

/// The token of that text; None: we have not signed it.
pub(super) async fn find(app: &App, text: &str) -> Result<Option<Found>, Refusal> {
    let Some(claims) = model::verified(&*keys::keys(app).await?, text) else { return Ok(None) };
    let mut read = app.db.read().await?;
    let record = match claims.ati {
        Some(_) => refresh::store::by_id(&mut read, &claims.jti).await?.map(OnRecord::Refresh),
        None => store::by_id(&mut read, &claims.jti).await?.map(OnRecord::Access),
    };
    Ok(Some(Found { claims, record }))
}

impl Found {
    /// Whether it is a refresh token.
    pub fn is_refresh(&self) -> bool {
        self.claims.ati.is_some()
    }

    /// Whether that text serves: of a refresh token the last one does.
    pub fn is_text(&self, text: &str) -> bool {
        let sha256 = bearer::sha256_hex(text);
        match &self.record {
            Some(OnRecord::Access(token)) => token.sha256 == sha256,
            Some(OnRecord::Refresh(token)) => token.sha256 == sha256,
            None => false,
        }
    }

    /// Whether its time runs and nobody has ended it. What is used up is so still.
    pub fn is_live(&self, now: UnixMillis) -> bool {
        let ended = match &self.record {
            Some(OnRecord::Access(token)) => token.ended.is_some(),
            Some(OnRecord::Refresh(token)) => token.ended.is_some(),
            None => true,
        };
        !ended && self.claims.last_instant() >= now
    }

    /// Uses that nobody has taken yet; None: they are not counted. What a gateway holds in a lease is taken
    /// until it gives it back.
    pub async fn remaining_uses(&self, conn: &mut Conn) -> Result<Option<u64>, DbError> {
        Ok(match &self.record {
            Some(OnRecord::Access(token)) => remaining_uses(conn, token).await?,
            Some(OnRecord::Refresh(token)) => {
                (token.uses > 0).then(|| u64::from(token.uses.saturating_sub(token.used)))
            }
            None => None,
        })
    }
}

/// As [`Found::remaining_uses`], of an access token.
pub(super) async fn remaining_uses(conn: &mut Conn, token: &Token) -> Result<Option<u64>, DbError> {
    if token.uses == 0 {
        return Ok(None);
    }
    let meter = quotas::meter_of(conn, MeterKind::TokenUses, &token.id).await?;
    Ok(Some(meter.map_or(0, |meter| meter.remaining())))
}
