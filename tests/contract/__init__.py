"""What others rely on: SMTP, HTTP, GitLab, relays, push services, on loopback in this process."""
