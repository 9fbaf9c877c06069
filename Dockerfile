# syntax=docker/dockerfile:1
# One target for each kind of machine, with the versions of requirements.lock:
#
#   docker build --target cpu  -t ssljax:cpu .
#   docker build --target cuda -t ssljax:cuda .    # the host needs an NVIDIA driver and the NVIDIA Container Toolkit
#   docker build --target tpu  -t ssljax:tpu .     # for a Cloud TPU VM
#
#   docker run --rm -v "$PWD:/work" ssljax:cpu train shop.py
#   docker run --rm --gpus all -v "$PWD:/work" ssljax:cuda train shop.py
#   docker run --rm --privileged --network host -v "$PWD:/work" ssljax:tpu train shop.py
#   docker run --rm -v "$PWD:/work" -p 8000:8000 ssljax:cpu serve runs/shop --host 0.0.0.0
#
# Experiments, data and runs lie in /work, the folder that you mount. The process is root in the container unless you
# pass --user "$(id -u):$(id -g)", and then what it writes is yours.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    HOME=/tmp \
    SSLJAX_DATA=/work/data
WORKDIR /opt/ssljax
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY ssljax ssljax
WORKDIR /work
ENTRYPOINT ["ssljax"]
CMD ["--help"]

FROM base AS cpu
RUN pip install --constraint /opt/ssljax/requirements.lock "/opt/ssljax[serve,tfds,xlsx]"

FROM base AS cuda
# CUDA and cuDNN come with JAX's wheels: the host gives the driver.
RUN pip install --constraint /opt/ssljax/requirements.lock "/opt/ssljax[cuda,serve,tfds,xlsx]"

FROM base AS tpu
RUN pip install --constraint /opt/ssljax/requirements.lock "/opt/ssljax[tpu,serve,tfds,xlsx]"
