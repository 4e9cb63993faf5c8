"""The control API: HTTP over a Unix socket, and how its two ends find each other."""
