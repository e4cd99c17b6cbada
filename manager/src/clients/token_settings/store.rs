//! The only writer of `client_token_settings` and `client_redirect_urls`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{GrantType, TokenSettings, TokenTerms, Unit};
use super::redirect_url::RedirectUrl;
use crate::db::{Conn, DbError};

/// A client's settings as they count at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What they are.
    pub settings: TokenSettings,
    /// When they were saved; None: never, the client has those of a new one.
    pub updated_at: Option<UnixMillis>,
    /// For `If-Match`; 0 = never saved.
    pub version: i64,
}

/// The settings of a client. Whether there is such a client is not asked.
pub async fn of_client(conn: &mut Conn, client: &str) -> Result<Saved, DbError> {
    let row = sqlx::query(
        "-- clients.token_settings
         SELECT grant_types, access_validity, access_unit, access_uses, refresh_validity, refresh_unit,
                refresh_uses, updated_at, version
           FROM client_token_settings
          WHERE client_id = $1",
    )
    .bind(client)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        None => Ok(Saved { settings: TokenSettings::default(), updated_at: None, version: 0 }),
        Some(row) => {
            let redirect_urls = redirect_urls_of(conn, client).await?;
            read(&row, client, redirect_urls)
        }
    }
}

/// Saves settings over those of that version. False: others were saved meanwhile.
pub(super) async fn save(
    conn: &mut Conn,
    client: &str,
    read_version: i64,
    settings: &TokenSettings,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let grant_types: Vec<&str> = settings.grant_types.iter().map(|grant| grant.as_str()).collect();
    let done = sqlx::query(
        "-- clients.set_token_settings
         INSERT INTO client_token_settings (client_id, grant_types, access_validity, access_unit, access_uses,
                                            refresh_validity, refresh_unit, refresh_uses, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10 + 1)
             ON CONFLICT (client_id) DO UPDATE
            SET grant_types = excluded.grant_types, access_validity = excluded.access_validity,
                access_unit = excluded.access_unit, access_uses = excluded.access_uses,
                refresh_validity = excluded.refresh_validity, refresh_unit = excluded.refresh_unit,
                refresh_uses = excluded.refresh_uses, updated_at = excluded.updated_at,
                version = excluded.version
          WHERE client_token_settings.version = $10",
    )
    .bind(client)
    .bind(grant_types.join(" "))
    .bind(i64::from(settings.access.validity.count()))
    .bind(settings.access.validity.unit().as_str())
    .bind(i64::from(settings.access.uses_number()))
    .bind(i64::from(settings.refresh.validity.count()))
    .bind(settings.refresh.validity.unit().as_str())
    .bind(i64::from(settings.refresh.uses_number()))
    .bind(now.0)
    .bind(read_version)
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query(
        "-- clients.set_token_settings.redirect_urls
         DELETE FROM client_redirect_urls WHERE client_id = $1",
    )
    .bind(client)
    .execute(&mut *conn)
    .await?;
    for (position, url) in (1_i64..).zip(&settings.redirect_urls) {
        sqlx::query(
            "-- clients.set_token_settings.redirect_url
             INSERT INTO client_redirect_urls (client_id, position, url)
             VALUES ($1, $2, $3)",
        )
        .bind(client)
        .bind(position)
        .bind(url.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(true)
}

fn read(row: &AnyRow, client: &str, redirect_urls: Vec<RedirectUrl>) -> Result<Saved, DbError> {
    let grant_types: String = row.try_get("grant_types")?;
    let grant_types = grant_types.split_ascii_whitespace().map(GrantType::parse).collect::<Result<_, _>>();
    let terms = |token, validity: &'static str, unit: &'static str, uses: &'static str| {
        let number = |column: &'static str| -> Result<u64, DbError> {
            u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| wrong(column, client))
        };
        let kind = Unit::parse(row.try_get(unit)?).ok_or_else(|| wrong(unit, client))?;
        TokenTerms::parse(token, number(validity)?, kind, number(uses)?).map_err(|_| wrong(validity, client))
    };
    Ok(Saved {
        settings: TokenSettings {
            grant_types: grant_types.map_err(|_| wrong("grant_types", client))?,
            access: terms("access_token", "access_validity", "access_unit", "access_uses")?,
            refresh: terms("refresh_token", "refresh_validity", "refresh_unit", "refresh_uses")?,
            redirect_urls,
        },
        updated_at: Some(UnixMillis(row.try_get("updated_at")?)),
        version: row.try_get("version")?,
    })
}

async fn redirect_urls_of(conn: &mut Conn, client: &str) -> Result<Vec<RedirectUrl>, DbError> {
    sqlx::query(
        "-- clients.redirect_urls_of
         SELECT url
           FROM client_redirect_urls
          WHERE client_id = $1
          ORDER BY position",
    )
    .bind(client)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        RedirectUrl::parse(row.try_get("url")?, 0).map_err(|_| DbError::Inconsistency {
            table: "client_redirect_urls",
            column: "url",
            row: client.into(),
        })
    })
    .collect()
}

fn wrong(column: &'static str, client: &str) -> DbError {
    DbError::Inconsistency { table: "client_token_settings", column, row: client.into() }
}
