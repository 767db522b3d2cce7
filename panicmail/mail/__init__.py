"""Mail in: bytes to meaning. Mail out: meaning to bytes."""
