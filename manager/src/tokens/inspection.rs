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
use crate::clients::Client;
use crate::db::{Conn, DbError};
use crate::quotas;
use crate::users::{self, UserStatus};

/// A token of ours, by its text.
pub(super) struct Found {
    /// What it says.
    pub claims: Claims,
    /// As it is on record; None: it is so no more.
    pub record: Option<OnRecord>,
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Refresh,
}

impl Kind {
    /// As a hint names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access_token",
            Self::Refresh => "refresh_token",
        }
    }

    /// As people say it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Access => "access token",
            Self::Refresh => "refresh token",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(hint: &str) -> Option<Self> {
        [Self::Access, Self::Refresh].into_iter().find(|kind| kind.as_str() == hint)
    }
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
    /// What it says that it is.
    pub fn kind(&self) -> Kind {
        match self.claims.ati {
            Some(_) => Kind::Refresh,
            None => Kind::Access,
        }
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

    /// Whether a gateway would let its client and its user in: it is within the client's days, and no
    /// operator has stopped the user. (A client that is stopped gets as far as this nowhere.)
    pub async fn is_open(&self, conn: &mut Conn, client: &Client, now: UnixMillis) -> Result<bool, DbError> {
        if client.validity().is_some_and(|days| now < days.from || now > days.until) {
            return Ok(false);
        }
        match &self.claims.user_name {
            Some(name) => {
                let user = users::by_name(conn, name).await?;
                Ok(user.is_none_or(|user| user.status == UserStatus::Active))
            }
            None => Ok(true),
        }
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
pub async fn remaining_uses(conn: &mut Conn, token: &Token) -> Result<Option<u64>, DbError> {
    if token.uses == 0 {
        return Ok(None);
    }
    let meter = quotas::meter_of(conn, MeterKind::TokenUses, &token.id).await?;
    Ok(Some(meter.map_or(0, |meter| meter.remaining())))
}
