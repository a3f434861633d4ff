"""A pretend Genesys Cloud organisation, with a ledger of what truly happened."""
