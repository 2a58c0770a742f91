# sgacodec as a program:
#   docker build -t sgacodec .
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/data" sgacodec encode photo.jpg
FROM python:3.12-slim
COPY . /src
# The build of torch for CPUs is a tenth of the size of the one for GPUs.
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir "/src[encode]" \
    && rm -r /src
WORKDIR /data
ENTRYPOINT ["sgacodec"]
CMD ["--help"]
