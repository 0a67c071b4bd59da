# syntax=docker/dockerfile:1
#
#   docker build -t waypost .
#   docker run -v ./waypost.yaml:/etc/waypost/waypost.yaml:ro -v waypost:/var/lib/waypost -p 2525:2525 waypost
#
# No configuration is in the image: the one that is mounted is the one that is used, and plugins are mounted beside it
# (a program of any kind that runs in Debian's slim image). Whoever comes from smtpmux or
# GoSMTP-dup mounts the old file where it was, at /app/config.yaml or /etc/smtp-dup/config.yaml.
# compose.yaml has a whole example with two test servers.

FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/waypost
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Compiled here, because the running container writes nothing: without it every start would compile anew.
# With every extra, which costs nothing where it is not used.
RUN /opt/waypost/bin/pip install --no-compile '.[dkim,htpasswd,postgres,starlark]' \
    && /opt/waypost/bin/python -m compileall -q -j 0 /opt/waypost/lib


FROM python:3.13-slim

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Waypost" \
      org.opencontainers.image.description="An SMTP router and duplicator: one endpoint in front of all your mail servers" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"

# A number, so that Kubernetes can see that it is not root (runAsNonRoot). /app and the spool belong to it, and the
# place of the control socket where the spool is a database; a new volume takes over the owner of the folder it covers.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/waypost --shell /usr/sbin/nologin waypost \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/waypost /run/waypost \
    && install -d -o 10001 -g 10001 -m 0755 /app
COPY --from=build /opt/waypost /opt/waypost

ENV PATH=/opt/waypost/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /app

# What waits for its upstream, with the control socket for `docker exec CONTAINER waypost queue summary`. Everything
# else is read only; with `--read-only` add `--tmpfs /tmp`, where messages over spill_size lie while they come in, and
# with a database as the spool `--tmpfs /run/waypost:uid=10001,mode=0700`.
VOLUME /var/lib/waypost

# Ports that configurations commonly use; 1020 is smtpmux's, 8025 the health checks and metrics.
EXPOSE 25 465 587 1020 2525 8025

# Asks the admin address of the configuration, or without one the first listener.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["waypost", "healthcheck"]

# Signals reach Waypost itself. It ends within 8 seconds of SIGTERM, before the 10 that Docker grants.
ENTRYPOINT ["waypost"]
CMD ["run"]
