-- Where a new key's credentials go is part of what reviewers sign.
ALTER TABLE applications ADD COLUMN credentials_go_to TEXT; -- KA: addresses, one a line, as when it was submitted last; null = not submitted since it was edited, before this column, or no KA
