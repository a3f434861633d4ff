"""The ways out: Prometheus, and OpenTelemetry's exporters and pipelines."""
