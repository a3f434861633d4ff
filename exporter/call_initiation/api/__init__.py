"""The Genesys Cloud API as we ask it ourselves: hosts, tokens, reads, rate limits and the notification protocol.

Nothing here ever starts a call.
"""
