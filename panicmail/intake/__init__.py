"""A mail comes in: it is accepted, read, classified, and opens an incident or joins one; drills too."""
