"""Alembic's folder: `env.py` connects, `versions/` are the steps in order."""
