-- A refresh token's successor follows from the token and this key, so that a client that did not see the answer to its
-- refresh gets the same successor again although only hashes are stored.
alter table auth.sessions add column if not exists refresh_token_hmac_key text;
