-- Who filed a form: an operator, a client for itself, or a visitor who asks to become a client.
ALTER TABLE applications ADD COLUMN applicant_kind TEXT NOT NULL DEFAULT 'operator'; -- operator, client or visitor: what `applicant` names by id, id or e-mail address

DROP INDEX applications_by_applicant;
CREATE INDEX applications_by_applicant ON applications (applicant_kind, applicant, created_at);
