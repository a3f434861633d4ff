"""One feed for many processes, by way of a Redis or Valkey: one of them follows, and all hear what it says."""
