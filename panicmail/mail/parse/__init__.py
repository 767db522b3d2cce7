"""Octets to a `Report`, in a child process; when that takes too long, from the octets alone."""
