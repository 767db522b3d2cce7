"""Who wrote a mail: DKIM, SPF, DMARC and ARC by DNS, or what our own mail server in front found."""
