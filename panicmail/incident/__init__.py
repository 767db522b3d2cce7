"""Pure rules: what an incident is, how it changes, who is called. Only the standard library; `now` is an argument."""
