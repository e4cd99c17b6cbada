-- Lists are read newest first: by age within what they are narrowed by.
DROP INDEX applications_by_applicant;
CREATE INDEX applications_by_applicant ON applications (applicant_kind, applicant, created_at, id);
DROP INDEX applications_by_client;
CREATE INDEX applications_by_client ON applications (client, created_at, id);
CREATE INDEX applications_by_state_age ON applications (state, created_at, id);
CREATE INDEX application_history_by_principal ON application_history (on_behalf_of, action, application_id);
