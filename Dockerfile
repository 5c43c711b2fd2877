# The compactor, as a sidecar: any number of these may run beside one another.

FROM rust:1.95.0-slim-trixie AS build
# etcd's protocol is compiled from its .proto files; the .proto files of protobuf itself are in the -dev package.
RUN apt-get update \
    && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p pagestore-compactor

FROM debian:trixie-20260623-slim
# Root certificates, for an etcd or S3 server behind TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin pagestore
COPY --from=build /src/target/release/pagestore-compactor /usr/local/bin/pagestore-compactor
USER 10001:10001
# The store: PAGESTORE_STORE; S3's credentials and endpoint: AWS_...; see the README.
ENTRYPOINT ["/usr/local/bin/pagestore-compactor"]
