-- Which tokens a client may obtain. A client without a row has the settings of a new client
-- (TokenSettings::default).
CREATE TABLE client_token_settings (
    client_id         TEXT   NOT NULL PRIMARY KEY REFERENCES clients (id) ON DELETE CASCADE,
    grant_types       TEXT   NOT NULL, -- client_credentials, password, refresh_token, authorization_code; separated by blanks
    access_validity   BIGINT NOT NULL, -- how long an access token lasts, in access_unit; at least 1
    access_unit       TEXT   NOT NULL, -- seconds, minutes, hours, days
    access_uses       BIGINT NOT NULL, -- calls with one access token at most; 0 = unlimited
    refresh_validity  BIGINT NOT NULL, -- how long a refresh token lasts, in refresh_unit; at least 1
    refresh_unit      TEXT   NOT NULL, -- seconds, minutes, hours, days
    refresh_uses      BIGINT NOT NULL, -- renewals with one refresh token at most; 0 = unlimited
    updated_at        BIGINT NOT NULL, -- UTC ms
    version           BIGINT NOT NULL  -- 1, 2, 3 …: If-Match
);

-- Where a browser may be sent back to after a sign-in.
CREATE TABLE client_redirect_urls (
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    position   BIGINT NOT NULL, -- 1, 2, 3 … as entered; the first is the default
    url        TEXT   NOT NULL, -- compared exactly
    PRIMARY KEY (client_id, position)
);
