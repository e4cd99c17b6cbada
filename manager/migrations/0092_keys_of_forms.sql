-- Who fills in or signs a form about a key sees the key: a change or revocation names it. A role that
-- the installation has changed stays as it is.
UPDATE roles SET permissions = 'catalog.read clients.read keys.read applications.apply'
 WHERE name = 'applicant' AND permissions = 'catalog.read clients.read applications.apply';
UPDATE roles SET permissions = 'catalog.read clients.read keys.read applications.read applications.review'
 WHERE name IN ('reviewer_1', 'reviewer_2')
   AND permissions = 'catalog.read clients.read applications.read applications.review';
