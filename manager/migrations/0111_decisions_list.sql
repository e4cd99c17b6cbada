-- Lists of decisions, newest first, by what they are asked for: code, client, credential or address.
CREATE INDEX decisions_client_list ON decisions (client, received_at, id);
CREATE INDEX decisions_code_list ON decisions (code, received_at, id);
CREATE INDEX decisions_credential_list ON decisions (credential, received_at, id);
CREATE INDEX decisions_address_list ON decisions (address, received_at, id);
-- The first of them does all that it did.
DROP INDEX decisions_client;
