#!/bin/sh
# Makes ready what `npm pack` puts into the tarball, so that the same sources give the same bytes: a dist without the
# leavings of earlier builds, the addon for every machine that gets it prebuilt, and modes that no umask has a say in.
set -eu
umask 022
cd "$(dirname "$0")/.."

rm -rf dist
npm run --silent prepare
sh scripts/build-native.sh x64 arm64
chmod -R u=rwX,go=rX LICENSE README.md package.json dist scripts/build-native.sh scripts/keys scripts/policies scripts/systemd \
  src/extras/policy/policy.schema.json src/*/README.md src/native/*.[ch] src/launcher.sh
