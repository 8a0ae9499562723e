"""What tables say about claims.  Nothing that computes imports it: words change no result."""
