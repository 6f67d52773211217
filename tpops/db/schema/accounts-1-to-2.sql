-- Accounts of the embedded default, version 2: quotas.  NULL is the configured default, 0 is none.
ALTER TABLE users ADD COLUMN quota_octets INTEGER CHECK (quota_octets >= 0);
ALTER TABLE users ADD COLUMN quota_messages INTEGER CHECK (quota_messages >= 0);
