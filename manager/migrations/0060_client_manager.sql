-- The ready-made role for those who hold partners. A role of that name, and one that the
-- installation has changed, stays as it is.
INSERT INTO roles (name, description, permissions, created_at) VALUES
    ('client_manager', 'Holds partners: their accounts, keys, X-Api-Keys and limits', 'catalog.read clients.read clients.write keys.read keys.write keys.resend applications.read quotas.read quotas.write usage.read', 0)
ON CONFLICT (name) DO NOTHING;
