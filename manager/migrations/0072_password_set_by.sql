-- Whoever knows a client's password can file forms as that client. Such a form counts as filed by that operator too,
-- and by every operator with one of the client's addresses: approval_rounds.author_operator may be the operator who
-- set the password, and author_email the client's addresses, one a line.
ALTER TABLE clients ADD COLUMN password_set_by TEXT; -- operator who entered the password, kept while it is replaced by who knows it; NULL: none did, it was drawn and mailed, or set before this column was there
