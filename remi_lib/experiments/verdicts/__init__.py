"""What decides the claims, a module per notebook; no computed result is filed under these."""
