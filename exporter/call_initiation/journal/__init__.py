"""What outlives a process: failures that wait for a collector, and the calls that were under way, on disk."""
