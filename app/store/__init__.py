"""The truth: tables, transactions, journal and blobs, in Postgres and an object store."""
