-- The subject in small letters, by which the log is searched in whatever case: written with the mail,
-- since SQLite's own LOWER knows the letters A to Z alone. So do rows of older versions there.
ALTER TABLE mails ADD COLUMN search TEXT NOT NULL DEFAULT '';
UPDATE mails SET search = LOWER(subject);
