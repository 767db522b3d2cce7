"""A GitLab and a mail relay to try everything against, on this machine only; the demo and the tests use the same."""
