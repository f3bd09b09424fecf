# The HTTP entrance, and the job that brings the database to the newest schema.
# Neither loads torch, and the worker's code is not in here, so the image stays small.
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY editing editing
COPY errata errata
COPY migrations migrations
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm
ENV PYTHONUNBUFFERED=1 PROMETHEUS_DISABLE_CREATED_SERIES=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
# The same user as the worker's: a new volume takes its owner from the image that mounts it first.
RUN useradd --uid 10001 --create-home errata && install -d -o errata -g errata /data
WORKDIR /errata
# What is installed before the code decides how much is built again when only the code has changed.
# Give an index without a password: it stays in the image.
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml constraints.txt ./
RUN touch README.md LICENSE && pip install -c constraints.txt ".[server]"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps --force-reinstall /wheels/*.whl
USER 10001
EXPOSE 8642
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8642", \
     "--no-access-log", "--timeout-graceful-shutdown", "5"]
