# The coordinator. Built at the root of the checkout:
#   docker build -f deploy/docker/coordinator.Dockerfile -t penstock-coordinator .

# Versions are those of constraints.txt, also of what builds the wheel of Penstock.
FROM python:3.11.14-bookworm AS build
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY deploy/docker/dependencies.py deploy/docker/
# A layer of its own: it is made again when a dependency changes, and not with every line of code.
RUN python deploy/docker/dependencies.py coordinator > dependencies.txt \
    && pip wheel --wheel-dir /wheels --requirement dependencies.txt
COPY coordinator coordinator
COPY agent agent
COPY sdk sdk
RUN pip wheel --no-deps --wheel-dir /wheels . \
    && python -m venv /opt/penstock \
    && /opt/penstock/bin/pip install --no-index --no-deps /wheels/*.whl

FROM python:3.11.14-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Penstock coordinator" \
      org.opencontainers.image.description="Decides what runs when, and writes every decision to PostgreSQL" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# tini is process 1: a process of that number ignores SIGTERM unless it asks for it, and has to reap what others leave.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends "tini=0.19.0-*" \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-log-init --home-dir /var/lib/penstock --shell /usr/sbin/nologin penstock \
    && install -d -o penstock -g penstock -m 0750 /var/lib/penstock
COPY --from=build /opt/penstock /opt/penstock
COPY deploy/docker/probe.py /usr/local/lib/penstock/probe.py
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PENSTOCK_DATA_DIR=/var/lib/penstock \
    PENSTOCK_LISTEN=0.0.0.0:7400 \
    PENSTOCK_HTTP_LISTEN=0.0.0.0:7480
USER 10001:10001
WORKDIR /var/lib/penstock
EXPOSE 7400 7480
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/usr/local/lib/penstock/probe.py", "PENSTOCK_HTTP_LISTEN", "/readyz"]
ENTRYPOINT ["tini", "--", "penstock"]
CMD ["server"]
