"""Who is on call in a role at an instant."""
