"""The sidecar for dialers in any language: requests in, the same requests out through an instrumented client."""
