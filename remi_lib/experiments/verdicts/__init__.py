"""What tables say about claims.  No stored result is keyed by it: words change none."""
