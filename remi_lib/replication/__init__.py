"""What any replication needs; this wing knows no loss and no data set, they are handed in."""
