# syntax=docker/dockerfile:1

# Both stages are of Debian 13, so that the libc that the binary is linked with is the one that it meets.
FROM rust:1.95-trixie AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The caches keep what has been downloaded and compiled, so that a change compiles only what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --profile dist --bin flowgen && \
    install -D target/dist/flowgen /out/flowgen && \
    install -d /out/state

# Holds libc, libgcc, public root certificates and time zones; no shell, no package manager.
FROM gcr.io/distroless/cc-debian13:nonroot
LABEL org.opencontainers.image.title="flowgen" \
      org.opencontainers.image.description="Runs event flows written in YAML" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian13:nonroot"
COPY --from=build /out/flowgen /usr/local/bin/flowgen
COPY --from=build --chown=65532:65532 /out/state /var/lib/flowgen
COPY flows /flows
USER 65532:65532
# It can be asked how it is, from inside of the container alone; FLOWGEN_HEALTH__ADDRESS=0.0.0.0:8081 lets others ask.
ENV FLOWGEN_HEALTH__ENABLED=true
# Requests come from outside of the container.
ENV FLOWGEN_HTTP_SERVER__ADDRESS=0.0.0.0:3000
# Where flows of another directory say that it is asked elsewhere, this is to name them.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s CMD ["flowgen", "health", "/flows"]
# The only place that it writes to: the root may be read-only.
WORKDIR /var/lib/flowgen
VOLUME ["/var/lib/flowgen"]
ENTRYPOINT ["flowgen"]
CMD ["run", "/flows"]
