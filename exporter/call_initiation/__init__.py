"""Says why Genesys Cloud refused an outbound call: an instrumented httpx client and what it exports."""
