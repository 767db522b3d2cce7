"""What panicmail takes of a PostgreSQL server, and its code for one thing that server says."""

from __future__ import annotations

#: Connections to PostgreSQL that one node has at most.
CONNECTIONS = 21
#: PostgreSQL's code for a write where only reading is allowed.
READ_ONLY = "25006"
