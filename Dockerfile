# redline with runc and gVisor, which run its cells inside this container. See docs/platforms.md.
FROM debian:trixie-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates curl git make procps python3 python3-venv runc uidmap \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/redline
COPY scripts/install-gvisor scripts/unpack-debian-package scripts/container-entrypoint scripts/
RUN scripts/install-gvisor

COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt .
ENV PATH=/opt/venv/bin:$PATH

WORKDIR /project
ENTRYPOINT ["/opt/redline/scripts/container-entrypoint", "redline"]
CMD ["doctor"]
