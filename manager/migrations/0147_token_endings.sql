-- A user's tokens serve while they are of its present epoch. Whatever ends them all raises it: so no token is
-- missed that is issued at that very moment, and none lives again.
ALTER TABLE users ADD COLUMN token_epoch   BIGINT NOT NULL DEFAULT 0; -- 0, 1, 2 …
ALTER TABLE users ADD COLUMN signed_out_at BIGINT;                    -- UTC ms, when it was raised last; NULL = never
ALTER TABLE tokens ADD COLUMN user_id    TEXT;           -- users.id; NULL = none, or one that is not kept here
ALTER TABLE tokens ADD COLUMN user_epoch BIGINT;         -- users.token_epoch before the user was known; NULL with it
ALTER TABLE refresh_tokens ADD COLUMN user_id    TEXT;   -- as in tokens
ALTER TABLE refresh_tokens ADD COLUMN user_epoch BIGINT; -- as in tokens
ALTER TABLE refresh_tokens ADD COLUMN code_id    TEXT;   -- authorization_codes.id; NULL: it came otherwise
ALTER TABLE authorization_codes ADD COLUMN user_epoch BIGINT NOT NULL DEFAULT 0; -- users.token_epoch at its issue
CREATE INDEX refresh_tokens_code ON refresh_tokens (code_id) WHERE code_id IS NOT NULL;

UPDATE tokens SET user_epoch = 0, user_id = (SELECT u.id FROM users u WHERE u.name = tokens.user_name)
 WHERE user_name IS NOT NULL;
UPDATE refresh_tokens SET user_epoch = 0, user_id = (SELECT u.id FROM users u WHERE u.name = refresh_tokens.user_name)
 WHERE user_name IS NOT NULL;
UPDATE refresh_tokens
   SET code_id = (SELECT MIN(t.code_id) FROM tokens t WHERE t.family = refresh_tokens.id)
 WHERE grant_type = 'authorization_code';
-- Who is stopped as this is written has tokens that are let in nowhere: they stay so.
UPDATE users SET token_epoch = 1, signed_out_at = updated_at WHERE status <> 'active';
