# cortexrig in a container: acquisition, replay and decoding, with a simulated rig inside. See docs/container.md.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# torch==2.13.0 runs on any processor. Where the package index carries CUDA with it (Linux on x86-64), a smaller image
# for the processor alone takes the wheel from PyTorch's own index: --build-arg PIP_EXTRA_INDEX_URL=<its address>
# --build-arg TORCH=torch==2.13.0+cpu. pip reads PIP_EXTRA_INDEX_URL by itself.
ARG TORCH=torch==2.13.0
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /src
RUN python3 -m venv /opt/rig
ENV PATH=/opt/rig/bin:$PATH

# What rarely changes first: the dependencies, from the same two files as everywhere else.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r requirements.txt "${TORCH}"

COPY README.md ./
COPY rig rig
COPY decoders decoders
COPY gui gui
RUN pip install --no-cache-dir --no-deps .

FROM ${PYTHON_IMAGE}
# Qt's libraries, offscreen and on an X display; their versions follow the base image's Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libdbus-1-3 libegl1 libfontconfig1 libfreetype6 libgl1 libglib2.0-0 libxcb-cursor0 libxcb-icccm4 \
        libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxkbcommon-x11-0 \
        libxkbcommon0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --groups dialout rig \
    && install -d -o rig -g rig /rig /rig/sessions

COPY --from=build /opt/rig /opt/rig
COPY hardware_configs /rig/hardware_configs
COPY docs/training /rig/docs/training
ENV PATH=/opt/rig/bin:$PATH
USER 1000
WORKDIR /rig
VOLUME /rig/sessions
ENTRYPOINT ["rig"]
CMD ["--help"]
