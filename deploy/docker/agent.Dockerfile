# The agent, and the command line. Built at the root of the checkout:
#   docker build -f deploy/docker/agent.Dockerfile -t penstock-agent .

# Versions are those of constraints.txt, also of what builds the wheel of Penstock.
FROM python:3.11.14-bookworm AS build
# What steps import without naming it among their requirements, as pip's arguments: "pandas scikit-learn".
ARG STEP_PACKAGES=""
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY deploy/docker/dependencies.py deploy/docker/
# A layer of its own: it is made again when a dependency changes, and not with every line of code.
RUN python deploy/docker/dependencies.py agent ${STEP_PACKAGES} > dependencies.txt \
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
LABEL org.opencontainers.image.title="Penstock agent" \
      org.opencontainers.image.description="Runs steps of pipelines; has the command line too" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# tini is process 1, and not the agent: what a step leaves behind when it ends becomes a child of that process, which
# has to reap it. A signal goes to the agent alone, which stops its steps politely.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends "tini=0.19.0-*" \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-log-init --home-dir /var/lib/penstock --shell /usr/sbin/nologin penstock \
    && install -d -o penstock -g penstock -m 0750 /var/lib/penstock
COPY --from=build /opt/penstock /opt/penstock
COPY deploy/docker/probe.py /usr/local/lib/penstock/probe.py
# Environments of steps are built in the data folder, and uv's cache is beside them: on one file system a file of a
# package is linked and not copied.
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PENSTOCK_AGENT_DATA_DIR=/var/lib/penstock \
    PENSTOCK_AGENT_HTTP_LISTEN=0.0.0.0:7490 \
    UV_CACHE_DIR=/var/lib/penstock/uv-cache
USER 10001:10001
WORKDIR /var/lib/penstock
EXPOSE 7490
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/usr/local/lib/penstock/probe.py", "PENSTOCK_AGENT_HTTP_LISTEN", "/readyz"]
ENTRYPOINT ["tini", "--", "penstock"]
CMD ["agent"]
