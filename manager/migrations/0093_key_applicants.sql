-- The operator who applied for the key: gets its secrets where `credential_recipients` says so.
ALTER TABLE keys ADD COLUMN applied_by TEXT; -- operators.id; NULL = its client did, or the pair was brought in

UPDATE keys
   SET applied_by = form.applicant
  FROM applications AS form
 WHERE form.effect_key = keys.id AND form.kind = 'KA' AND form.applicant_kind = 'operator';
