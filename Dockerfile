FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# The version in rust-toolchain.toml, without its lint and format components, which are not needed here.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
# Both caches stay on the build machine, so that only changed crates are built again. The cache is not part of the image, so the binary is
# copied out of it.
RUN --mount=type=cache,id=onrush-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=onrush-target,target=/src/target,sharing=locked \
    cargo build --profile dist --locked --package onrush --bin onrush \
    && install -D target/dist/onrush /out/onrush

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/onrush --create-home onrush
COPY --from=build /out/onrush /usr/local/bin/onrush
USER onrush
WORKDIR /var/lib/onrush
# Inside a container, loopback is not reachable from outside.
ENV ONRUSH_LISTEN=0.0.0.0:8080
# Health and metrics, inside the container only. The health check works even when all connections of the API are taken.
ENV ONRUSH_OPS_LISTEN=127.0.0.1:9080
EXPOSE 8080
VOLUME /var/lib/onrush
STOPSIGNAL SIGTERM
# Checks readiness, because a stopping process takes no more work. The image has no HTTP client, but bash can open a connection.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9080 && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["onrush"]
CMD ["serve"]
