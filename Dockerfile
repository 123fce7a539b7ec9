FROM node:24-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY . .
RUN npm ci && npm pack

FROM node:24-slim
COPY --from=build /src/responses-api-proxy-*.tgz /tmp/package.tgz
RUN npm install --global /tmp/package.tgz && rm /tmp/package.tgz
USER 65532:65532
ENTRYPOINT ["/bin/sh", "-c", "exec responses-api-proxy \"$@\" < /run/secrets/openai-api-key", "sh"]
CMD ["--port", "8787", "--http-health"]
