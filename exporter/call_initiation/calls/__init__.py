"""A call start: which requests are one, what is noted of it while it runs, and what its answer says.

Only `client`, `observation` and `tracing` run on the caller's own path; all else is asked later, by `recording`.
"""
