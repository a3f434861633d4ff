# The gateway as an image: `docker build --tag call-initiation-exporter .`
#
# Runs with a read-only root; the journal (failures that wait for a collector) is the one thing written, to its volume:
#   docker run --read-only --volume journal:/var/lib/call-initiation call-initiation-exporter \
#     serve --upstream https://api.mypurecloud.ie --listen 0.0.0.0:8080 --metrics-listen 0.0.0.0:9464 \
#     --journal /var/lib/call-initiation/journal
# Everything binds loopback unless told otherwise, which suits a sidecar that shares its pod's network.

FROM python:3.13.14-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8 AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The dependencies first: they change less often than the program. No pip goes where the program runs.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m pip install --require-hashes -r requirements/build.txt \
    && python -m venv --without-pip /opt/call-initiation \
    && python -m pip --python /opt/call-initiation install --require-hashes -r requirements/runtime.txt
COPY LICENSE README.md pyproject.toml ./
COPY exporter/ exporter/
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/call-initiation install --no-deps dist/*.whl \
    && mkdir /var/lib/call-initiation

FROM python:3.13.14-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8
LABEL org.opencontainers.image.title="call-initiation-exporter" \
      org.opencontainers.image.description="Says why Genesys Cloud refused an outbound call, as metrics, traces and events." \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH="/opt/call-initiation/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/call-initiation /opt/call-initiation
COPY --from=build --chown=65532:65532 /var/lib/call-initiation /var/lib/call-initiation
USER 65532:65532
VOLUME ["/var/lib/call-initiation"]
EXPOSE 8080 9464
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["call-initiation-exporter", "health"]
ENTRYPOINT ["call-initiation-exporter"]
CMD ["serve"]
