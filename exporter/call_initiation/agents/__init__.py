"""Agents: their states over the recent past, by whose clock, and how the API's JSON tells of them."""
