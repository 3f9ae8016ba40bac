# A small CPU image of nllb.
#
#   docker build -t nllb .
#   echo 'Good morning.' | docker run -i --rm nllb translate --source en --target fr
#
# The CPU build of torch is taken from the wheel index that TORCH_INDEX names, which saves about
# 5 GB; without the argument pip installs torch's default build.
FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/nllb
ENV PATH=/opt/nllb/bin:$PATH
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir torch --index-url "$TORCH_INDEX"; fi
COPY . /src
ARG EXTRAS=""
RUN pip install --no-cache-dir "/src${EXTRAS}"

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home nllb \
    # A volume that is mounted here takes this owner.
    && install -d -o nllb -g nllb /home/nllb/.cache
COPY --from=build /opt/nllb /opt/nllb
ENV PATH=/opt/nllb/bin:$PATH PYTHONUNBUFFERED=1
USER nllb
WORKDIR /home/nllb
ENTRYPOINT ["nllb"]
CMD ["--help"]
