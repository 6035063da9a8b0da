# One image for both ways: MCP on stdio as it is, MCP over HTTP with `http --host 0.0.0.0`.
#
#   docker build -t inferencesh-mcp .
#   docker run -i --rm --read-only --tmpfs /tmp --cap-drop ALL -e INFERENCE_API_KEY inferencesh-mcp
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL -p 8000:8000 \
#     -e INFERENCE_ALLOWED_HOSTS=mcp.example.com inferencesh-mcp http --host 0.0.0.0
#
# Nothing in it is ever written to but `/tmp`, its home: what the sandbox is sent, and on stdio what is saved and known of pins.

# The tag is for people, the digest decides. To move on: `docker buildx imagetools inspect python:TAG`, change both.
# It is the Python of `.python-version`, which the tests ran on.
ARG BASE=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3

# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# All of the lock, each file by its hash. What follows looks nowhere else, so nothing comes in that is not locked;
# and it takes what it needs of it, so that no tool for developing is in the image.
COPY requirements.lock ./
RUN python3 -m pip download --require-hashes -r requirements.lock -d locked

COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY server server
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS="/build/locked /build/own"
RUN python3 -m pip wheel --no-deps -w own . \
 && python3 -m venv --without-pip /opt/inferencesh \
 && python3 -m pip --python /opt/inferencesh/bin/python install --no-compile "inferencesh-mcp[metrics,otel,redis,images]" \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/inferencesh/lib

# hadolint ignore=DL3006
FROM ${BASE}
ARG VERSION=0.1.0
LABEL io.modelcontextprotocol.server.name="io.github.inferencesh-mcp/inferencesh-mcp" \
      org.opencontainers.image.title="inferencesh-mcp" \
      org.opencontainers.image.description="Run inference.sh apps from any MCP host: seen, safe and never lost." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/inferencesh /opt/inferencesh
# It starts as nobody in particular, and where somebody makes it root, it does not start (threat T-25).
ENV PATH=/opt/inferencesh/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 INFERENCE_REFUSE_ROOT=true
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
# On stdio nobody listens on a port: alive is who runs.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "\
import urllib.request as r; \
b'http' in open('/proc/1/cmdline', 'rb').read().split(b'\\0') and r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["inferencesh-mcp"]
