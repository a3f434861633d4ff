"""The state feed: keeps agents' states current from the API's notifications and reads."""
