"""The GitLab room: an incident's issue, its notes and files, and text that cannot act there."""
