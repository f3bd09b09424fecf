# The HTTP entrance. It never loads torch, so the image stays small.
FROM python:3.11-slim
WORKDIR /errata
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY editing editing
COPY errata errata
COPY migrations migrations
COPY workers workers
RUN pip install --no-cache-dir -c constraints.txt ".[server]" && useradd --create-home errata
USER errata
EXPOSE 8642
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8642", "--no-access-log"]
