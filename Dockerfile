# vrseg in a container, for the CPU (the last target, so the one built by default) or an NVIDIA GPU:
#
#   docker build -t vrseg .                  docker build --target cuda -t vrseg:cuda .
#   docker run --rm --read-only --tmpfs /tmp -v vrseg:/var/lib/vrseg -v vrseg-cache:/var/cache/vrseg \
#       -v "$PWD/my:/etc/vrseg:ro" -p 127.0.0.1:9090:9090 -e VRSEG_TOKEN vrseg
#
# It reads my/vrseg.yaml, in which the server listens on "0.0.0.0:9090" with `token: ${VRSEG_TOKEN}`.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS source
WORKDIR /src
COPY pyproject.toml LICENSE README.md ./
COPY vrseg ./vrseg
RUN python -m venv /opt/vrseg

FROM source AS cpu-build
RUN /opt/vrseg/bin/pip install --no-cache-dir ".[openvino,mqtt]"

FROM source AS cuda-build
# Both ONNX Runtimes are the same folder: the one for CPUs must not lie over the other.
# hadolint ignore=DL3013
RUN /opt/vrseg/bin/pip install --no-cache-dir ".[cuda,mqtt]" \
    && /opt/vrseg/bin/pip uninstall --yes onnxruntime onnxruntime-gpu \
    && /opt/vrseg/bin/pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]"

FROM python:${PYTHON}-slim AS base
LABEL org.opencontainers.image.title="vrseg" \
    org.opencontainers.image.description="Understand cameras, RTSP streams and VR video frame by frame" \
    org.opencontainers.image.licenses="Apache-2.0"
# FFmpeg's program is what speaks SRT. Its version is the distribution's, which keeps it safe.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 vrseg \
    && useradd --uid 10001 --gid vrseg --groups video --no-create-home --home-dir /var/lib/vrseg vrseg \
    && install -d -m 750 -o vrseg -g vrseg /var/lib/vrseg /var/cache/vrseg
# Everything that is written goes to the two volumes and /tmp, so the root may be read-only.
ENV PATH=/opt/vrseg/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VRSEG_CACHE=/var/cache/vrseg \
    XDG_CACHE_HOME=/var/cache/vrseg \
    CUPY_CACHE_DIR=/var/cache/vrseg/cupy \
    CUDA_CACHE_PATH=/var/cache/vrseg/cuda
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
WORKDIR /var/lib/vrseg
VOLUME ["/var/lib/vrseg", "/var/cache/vrseg"]
EXPOSE 9090
# With another port, or TLS, say your own: docker run --health-cmd.
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/healthz', timeout=4)"]
# SIGTERM drains; give it longer than `drain_timeout` with `docker stop --time`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vrseg"]
CMD ["run", "/etc/vrseg/vrseg.yaml", "--log-format", "json"]

FROM base AS cuda
# What the NVIDIA container toolkit is to bring in: CUDA, NVDEC and NVENC, and nvidia-smi's library.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,video,utility
COPY --from=cuda-build /opt/vrseg /opt/vrseg

FROM base AS cpu
COPY --from=cpu-build /opt/vrseg /opt/vrseg
