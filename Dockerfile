# A container for `jaxiqa serve` on CPUs; docs/serve.md says how to run it. Nobody has built this image; its installation
# step was run without Docker.
#   docker build --tag jaxiqa .
FROM python:3.11-slim AS build
WORKDIR /source
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY jaxiqa jaxiqa
COPY configs configs
RUN python -m venv /opt/jaxiqa \
    && /opt/jaxiqa/bin/python -m pip install --no-cache-dir --constraint constraints.txt ".[serve,hub]"

FROM python:3.11-slim
COPY --from=build /opt/jaxiqa /opt/jaxiqa
# All that the server writes: compiled programs and checkpoints of a hub, both of which it can do without.
ENV PATH="/opt/jaxiqa/bin:$PATH" HOME=/tmp JAXIQA_CACHE=/tmp/jaxiqa HF_HOME=/tmp/huggingface PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Without a shell, so that SIGTERM reaches the server.
ENTRYPOINT ["jaxiqa", "serve", "--host=0.0.0.0", "--port=8000"]
