# One image for all services; the command chooses which one: `python -m services.intake`, `python -m cli init` ...
# No `# syntax=` line and no heredocs: both need a frontend from a registry, which an air-gapped machine does not have.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# A mirror of the Python package index, where the machine needs one; empty: the default one. Only this stage sees it.
ARG PIP_INDEX_URL=
COPY requirements/runtime.lock /build/runtime.lock
RUN python -m venv --without-pip /opt/venv \
    && PIP_INDEX_URL="${PIP_INDEX_URL}" pip --disable-pip-version-check --no-cache-dir --python /opt/venv/bin/python \
        install --quiet --require-hashes --only-binary :all: -r /build/runtime.lock
COPY shared /app/shared
COPY services /app/services
COPY simulator /app/simulator
COPY cli /app/cli
COPY deploy/*.py /app/deploy/
COPY data /app/data
# Byte code is made here once: the root of a running container is read-only.
RUN /opt/venv/bin/python -m compileall -q -j 0 /app


FROM ${PYTHON_IMAGE}
ARG HUB_VERSION=0.1.0
LABEL org.opencontainers.image.title="Bình Yên" \
      org.opencontainers.image.version="${HUB_VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The one folder that may be written, and only where a volume is mounted on it.
RUN groupadd --gid 10001 hub \
    && useradd --uid 10001 --gid hub --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin hub \
    && install --directory --owner hub --group hub /var/lib/binh-yen
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "cli", "--help"]
