-- The RSA keys that sign tokens. Their public halves are in every gateway's directory and in the JWKS.
CREATE TABLE token_keys (
    kid        TEXT   NOT NULL PRIMARY KEY, -- kid_…: names it in the header of the tokens that it signs
    public_key TEXT   NOT NULL,             -- DER of its SubjectPublicKeyInfo, in Base64
    sealed_key TEXT   NOT NULL,             -- DER of its PKCS#8, sealed for tokens.key:<kid>
    created_at BIGINT NOT NULL,             -- UTC ms
    signs_from BIGINT NOT NULL              -- UTC ms: it signs from then on, until the next one does
);

-- One row, held by whoever changes the set.
CREATE TABLE token_key_head (
    id       BIGINT NOT NULL PRIMARY KEY, -- always 1
    revision BIGINT NOT NULL              -- the change that announced the set as it is; 0 = none yet
);

INSERT INTO token_key_head (id, revision) VALUES (1, 0);

UPDATE roles SET permissions = permissions || ' tokens.read'
 WHERE name IN ('auditor', 'client_manager') AND permissions <> '*';
UPDATE roles SET permissions = permissions || ' tokens.write'
 WHERE name = 'client_manager' AND permissions <> '*';
