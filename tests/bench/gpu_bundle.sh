#!/usr/bin/env bash
# Pack the packages that `make bench-gpu` needs besides PyTorch, for a machine without network:
# gpu_bundle.sh PYTHON-VERSION
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --no-deps --require-hashes --requirement requirements/gpu-bench.txt \
  --python-version "$1" --python-platform x86_64-manylinux_2_28 --only-binary :all: --target "$folder"

# Leave out what the benchmark does not use: descriptions of other services than S3, kernels for CUDA 12 and older.
find "$folder/botocore/data" -mindepth 1 -maxdepth 1 -type d ! -name s3 -exec rm -r {} +
find "$folder/bitsandbytes" -name 'lib*.so' ! -name '*_cpu.so' ! -name '*_cuda13*.so' -delete

mkdir -p build
tar --directory "$folder" --create --xz --file build/gpu-bundle.tar.xz .
du --human-readable --apparent-size build/gpu-bundle.tar.xz
