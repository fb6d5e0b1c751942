# vrseg on the CPU.
#
#   docker build -t vrseg .
#   docker run --rm vrseg demo
#   docker run --rm -v "$PWD/my:/etc/vrseg:ro" -v vrseg:/var/lib/vrseg -p 127.0.0.1:9090:9090 -e VRSEG_TOKEN vrseg
#
# The last one reads my/vrseg.yaml, in which the server listens on "0.0.0.0:9090" with `token: ${VRSEG_TOKEN}`.

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml LICENSE README.md ./
COPY vrseg ./vrseg
RUN python -m venv /opt/vrseg && /opt/vrseg/bin/pip install --no-cache-dir ".[openvino]"

FROM python:3.11-slim
# FFmpeg's program is what speaks SRT.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/vrseg --groups video vrseg
COPY --from=build /opt/vrseg /opt/vrseg
ENV PATH=/opt/vrseg/bin:$PATH MALLOC_ARENA_MAX=2
USER vrseg
WORKDIR /var/lib/vrseg
VOLUME /var/lib/vrseg
EXPOSE 9090
HEALTHCHECK --start-period=30s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/healthz', timeout=2)"]
# SIGTERM drains; give it longer than `drain_timeout` with `docker stop --time`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vrseg"]
CMD ["run", "/etc/vrseg/vrseg.yaml", "--log-format", "json"]
