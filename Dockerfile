# chat-agent as a container. README.md has a command for each place where the model may be; for one on this machine:
#
#   docker build -t chat-agent .
#   docker run -p 127.0.0.1:23000:23000 -v chat-agent:/data --add-host=host.docker.internal:host-gateway \
#     -e OLLAMA_MODEL=llama3.2 -e OLLAMA_BASE_URL=http://host.docker.internal:11434/v1 chat-agent
#
# Streams in progress get up to 15 seconds when it is told to stop, Docker's own patience is 10: `docker stop --time 25`.

FROM python:3.11-slim AS builder
RUN pip install uv==0.13.9
# The venv must stand on the image's own Python, which the final image has too. Its user cannot write byte code later.
ENV UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
WORKDIR /build
# Packages come before the sources, so that a change of the sources does not install them again.
COPY pyproject.toml requirements.lock ./
# What to install is said by the project, without dev and demo; the lock, as constraints, gives versions and hashes.
# A package that the lock does not know fails the build.
RUN uv venv /opt/venv \
 && uv pip install --python /opt/venv --require-hashes --constraints requirements.lock --requirements pyproject.toml \
    --extra otel --extra postgres
COPY README.md LICENSE ./
COPY graph graph
COPY server server
COPY tools tools
RUN uv pip install --python /opt/venv --no-deps .

FROM python:3.11-slim
# The numbers are fixed, so that the volume's files still belong to the user of the next version.
RUN groupadd --gid 10001 agent \
 && useradd --uid 10001 --gid agent --home-dir /data --no-create-home --shell /usr/sbin/nologin agent \
 && install --directory --owner=agent --group=agent --mode=0700 /data
COPY --from=builder /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    API_HOST=0.0.0.0 \
    CHECKPOINT_URL=sqlite:////data/chat-agent.db
# Empty, and not writable for the agent: the place to mount a .env or an MCP_CONFIG.
WORKDIR /app
VOLUME /data
# In numbers, since Kubernetes' runAsNonRoot does not look names up.
USER 10001:10001
EXPOSE 23000
# The slim image has no curl. A proxy in the environment is for the model and the tools, not for this.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + (os.environ.get('API_PORT') or '23000') + '/health', timeout=4)"]
CMD ["chat-agent", "serve"]
