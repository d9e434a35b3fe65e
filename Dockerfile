# syntax=docker/dockerfile:1
# Targets: `api` (small, without torch) and `worker`. For NVIDIA GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /venv
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY estimators estimators
COPY workers workers
RUN /venv/bin/pip install '.[s3,otel]'

FROM build AS build-worker
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /venv/bin/pip install --index-url "${TORCH_INDEX}" torch torchvision \
    && /venv/bin/pip install '.[worker,s3,otel]'

FROM python:${PYTHON}-slim AS base
RUN useradd --uid 10001 --create-home forerank \
    && mkdir --parents /var/lib/forerank \
    && chown forerank:forerank /var/lib/forerank
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    OPENBLAS_THREAD_TIMEOUT=4 \
    FORERANK_HOME=/var/lib/forerank \
    FORERANK_LOG_FORMAT=json
USER forerank
WORKDIR /var/lib/forerank
VOLUME /var/lib/forerank

FROM base AS worker
COPY --from=build-worker /venv /venv
CMD ["forerank", "worker"]

FROM base AS api
COPY --from=build /venv /venv
ENV FORERANK_HOST=0.0.0.0 FORERANK_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["forerank", "serve", "--no-worker"]
