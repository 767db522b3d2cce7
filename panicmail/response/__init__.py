"""What people say and do: replies, links, webhooks, work in GitLab, and the thread with the reporter."""
