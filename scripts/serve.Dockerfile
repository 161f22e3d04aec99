# An image that serves models, or trains them on a GPU. The models are in a volume at /models.
#   docker build -f scripts/serve.Dockerfile -t textgen .
#   docker run -p 127.0.0.1:8000:8000 --stop-timeout 40 -v ./saved_models:/models -e TEXTGEN_API_KEY=... textgen
# `docker stop` kills after --stop-timeout, by default 10 seconds: give more than --drain-time, so that texts can end.
# Without a key it goes by localhost and IP addresses only: name others with --allow-host.
# For training on a GPU, with NVIDIA's container toolkit:
#   docker build -f scripts/serve.Dockerfile --build-arg TENSORFLOW='tensorflow[and-cuda]' -t textgen-gpu .
#   mkdir -p saved_models ~/.cache/textgen
#   docker run --gpus all --user "$(id -u):$(id -g)" --no-healthcheck --stop-timeout 120 -v ./saved_models:/models \
#       -v ~/.cache/textgen:/tmp/textgen -v ./texts:/texts:ro textgen-gpu train /texts/novel.txt
# `docker stop` saves a training, which takes a while; it goes on in a new container, by the same command with
# `train --resume` at the end. The mounted cache folder keeps the encoded text, and the key by which the run knows that
# the paths of its texts are yours. Docker would make a folder that is missing as root, who alone could write to it.
FROM python:3.12-slim

ARG TENSORFLOW=tensorflow
ENV PYTHONUNBUFFERED=1 TEXTGEN_MODELS=/models TEXTGEN_CACHE=/tmp/textgen
RUN pip install --no-cache-dir "$TENSORFLOW>=2.21"
# The source is mounted while it is installed (BuildKit, the default builder), so that no copy of it stays in the image.
RUN --mount=type=bind,rw,target=/source pip install --no-cache-dir '/source[serve]' \
    && useradd --system --uid 10001 textgen && install -d -o textgen /models
USER textgen
VOLUME /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["textgen"]
CMD ["serve", "--host", "0.0.0.0"]
