"""Rules and readers: no process, no peer, no database."""
