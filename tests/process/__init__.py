"""The program and its children as processes, on real files; PostgreSQL that is stopped and started."""
