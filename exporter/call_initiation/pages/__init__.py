"""What the metrics listener serves to people and to Prometheus, all of it read from one snapshot."""
