"""The database: tables, the ledger over them, migrations. The only room that knows SQL."""
