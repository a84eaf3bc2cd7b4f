# The build stage has pip and the sources; the image that runs has the finished environment and nothing to build with.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY soar soar
COPY connectors connectors
COPY playbooks playbooks
COPY policies policies
RUN python -m venv --without-pip /opt/soar \
    && pip --python /opt/soar/bin/python install --no-cache-dir --constraint constraints.txt .

FROM python:3.11.14-slim-bookworm
RUN pip uninstall --yes --root-user-action=ignore pip setuptools wheel \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/soar \
    && install --directory --owner=10001 --group=10001 --mode=0755 /var/lib/soar-bundle
COPY --from=build /opt/soar /opt/soar
ENV PATH=/opt/soar/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, so that an orchestrator can see without the image's user list that it is not root.
USER 10001:10001
# The only folder that soar writes to; the root file system may be read-only. `soar policy export` may write a bundle for an
# OPA beside into /var/lib/soar-bundle, which a volume takes over with its owner.
WORKDIR /var/lib/soar
VOLUME /var/lib/soar
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8787/health', timeout=4)"]
ENTRYPOINT ["soar"]
# The home is made in the volume at the first start, with keys of its own: none are in the image, and an upgrade of the
# image does not change what runs.
CMD ["run", "--init", "--config", "/var/lib/soar/soar.yaml"]
