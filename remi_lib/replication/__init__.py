"""What any replication needs; this wing computes with no loss and no data set."""
