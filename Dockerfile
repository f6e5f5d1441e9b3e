# syntax=docker/dockerfile:1
# Narrate with all it needs, ffmpeg included (inside a wheel): worker, server or command line, as compose.yaml uses it.
#   docker build --tag narrate:0.1.0 .
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE prefect.yaml prefect-docker.yaml automation.yaml ./
COPY flows flows
RUN python -m venv /opt/narrate \
    && /opt/narrate/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim
RUN useradd --uid 1000 --create-home narrate \
    && mkdir -p /studio /var/lib/prefect \
    && chown narrate: /studio /var/lib/prefect
COPY --from=build /opt/narrate /opt/narrate
# What flows/settings.py sets Prefect to, for commands of Prefect's own; a test holds it to that.
ENV PATH=/opt/narrate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PREFECT_HOME=/var/lib/prefect \
    XDG_STATE_HOME=/studio/data/.state \
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE=100 \
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE=100 \
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL=1 \
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE=200 \
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE=100 \
    PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs \
    PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=31536000 \
    PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem \
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 \
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=120 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
USER 1000:1000
# Paths of deployments are relative to it.
WORKDIR /studio
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health', timeout=5)"]
# No entrypoint: a docker work pool runs commands of Prefect's in this image.
CMD ["narrate", "up", "--health-port", "8080"]
