#!/usr/bin/env bash
# Install the Debian packages that the test cluster and its tests need, if they are missing.
set -euo pipefail
packages=(
  buildah containerd containernetworking-plugins debootstrap iproute2 iptables nftables openssl procps
  prometheus runc skopeo util-linux
)
missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "installing ${missing[*]}" >&2
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >&2
