"""`videolm serve`: the HTTP API, its queue, its workers and its page."""
