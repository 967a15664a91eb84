#!/usr/bin/env bash
# Build images and load them into the node, if their content changed: images.sh operator trainer client …
# Prints the name of each image in the node, one a line.
set -euo pipefail
cd "$(dirname "$0")"
source ./paths.sh
# Run in a mount namespace, so that buildah's mounts and its records of them end with this process.
[ "${unshared:-}" = yes ] || unshared=yes exec unshare --mount "./$(basename "$0")" "$@"
mount -t tmpfs tmpfs /mnt
eval "$(./env.sh)"
# One builder runs at a time. Others wait, and then find the built images.
exec 9>"$cache/images.lock"
flock 9
renice --priority 10 $$ > /dev/null # tests may run meanwhile

root=$(cd ../.. && pwd)
base=localhost/tunegate-base:bookworm
uv=localhost/tunegate-uv:$("$root/.venv/bin/uv" --version | cut -d' ' -f2)
storage=$cache/buildah runroot=/mnt

buildah() { command buildah --root "$storage" --runroot "$runroot" --storage-driver overlay "$@"; }

# Remove the containers and files of a builder that was killed.
buildah rm --all > /dev/null
rm -rf --one-file-system "$scratch"
mkdir "$scratch"
trap 'rm -rf --one-file-system "$scratch"' EXIT

has() { buildah inspect --type image "$1" > /dev/null 2>&1; }

# Build an image with one file: file_image IMAGE FILE PATH
file_image() {
  local container
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$2" "$3" > /dev/null
  buildah config --user 65532:65532 --entrypoint "[\"$3\"]" "$container"
  buildah commit --quiet --rm "$container" "$1" > /dev/null
}

# Build a base image, Debian with Python, that replaces the Dockerfiles' base image from a registry.
base_image() {
  has $base && return
  local folder=$scratch/base container
  mkdir "$folder"
  debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$folder/root" > "$folder/log" 2>&1 \
    || { tail -5 "$folder/log" >&2; exit 1; }
  (cd "$folder/root" && rm -rf var/cache/apt/* var/lib/apt/*)
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$folder/root" / > /dev/null
  buildah commit --quiet --rm "$container" $base > /dev/null
}

# Build an image from a Dockerfile, with this machine's certificates, which may include a proxy's:
# dockerfile_image IMAGE FILE …
dockerfile_image() {
  local image=$1 dockerfile=$2
  shift 2
  base_image
  has "$uv" || file_image "$uv" "$root/.venv/bin/uv" /uv
  buildah bud --quiet --layers --isolation chroot --network host --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    --build-arg BASE_IMAGE=$base --build-arg UV_IMAGE="$uv" "$@" \
    --file "$root/$dockerfile" --tag "$image" "$root" > /dev/null
}

# Load an image into the node. Links stand for the layers that the node has already, so that they are not copied.
load() {
  local layout=$scratch/layout
  mkdir -p "$layout/blobs/sha256"
  find "$images/io.containerd.content.v1.content/blobs/sha256" -type f \
    -exec ln --target-directory "$layout/blobs/sha256" {} + 2> /dev/null || true
  skopeo --insecure-policy copy --quiet --dest-oci-accept-uncompressed-layers \
    "containers-storage:[overlay@$storage+$runroot]$1" "oci:$layout:$1"
  find "$layout/blobs" -type f -links +1 -delete
  tar --directory "$layout" --create . | ctr images import - > /dev/null
  rm -r "$layout"
}

# Print a short hash of the files that an image is built from: files_hash FILE OR FOLDER …
files_hash() {
  (cd "$root" && find "$@" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum) \
    | sha256sum | cut -c1-12
}

# Remove the older images that NEW replaces, unless an object in the cluster uses them: remove_older NAME NEW
remove_older() {
  local in_use old
  for old in $(buildah images --format '{{.Name}}:{{.Tag}}' | grep "^$1:"); do
    [ "$old" = "$2" ] || buildah rmi "$old" > /dev/null
  done
  in_use=$(kubectl get deployments,jobs,pods --all-namespaces --output yaml)
  for old in $(ctr images list --quiet | grep "^$1:"); do
    [ "$old" = "$2" ] || grep -qF "$old" <<< "$in_use" || ctr images remove "$old" > /dev/null
  done
}

# Remove images that have no name except the one that the kubelet gave them.
remove_nameless() {
  ctr images list | awk '
    /^sha256:/ { kubelets[$1] = $3; next }
    { named[$3] }
    END { for (name in kubelets) if (!(kubelets[name] in named)) print name }
  ' | xargs --no-run-if-empty ctr images remove > /dev/null
}

# Build and load an image of Tunegate, unless the node has it. Its tag is a hash of the requirements and one of the
# code: image NAME GIB DOCKERFILE FOLDERS REQUIREMENTS [MORE REQUIREMENTS]
image() {
  local name=localhost/$1 space=$2 dockerfile=$3 code installed image
  read -ra code <<< "$4"
  shift 4
  installed=$(files_hash "$dockerfile" "$@")
  image=$name:$installed-$(files_hash .dockerignore crds/tunegate_api "${code[@]}")
  if ! ctr images list --quiet | grep -xF "$image" > /dev/null; then
    ctr images list --quiet | grep "^$name:$installed-" > /dev/null || ./space.sh "$space" "$name"
    say "building $image"
    # Without a compiler, because the node has no GPU.
    dockerfile_image "$image" "$dockerfile" --build-arg EXTRA_REQUIREMENTS="${*:2}" --build-arg COMPILER=
    load "$image"
    remove_older "$name" "$image"
  fi
  echo "$image"
}

for name in "$@"; do
  case $name in
    pause | coredns)
      file_image "localhost/$name:1" "$(cat "$node/bin")/$name" "/$name"
      load "localhost/$name:1"
      buildah rmi "localhost/$name:1" > /dev/null
      echo "localhost/$name:1"
      ;;
    operator)
      image tunegate-operator 3 operator/Dockerfile operator/tunegate_operator requirements/operator.txt
      ;;
    client)
      image tunegate-client 3 client/Dockerfile "operator/tunegate_operator client/tunegate_client" \
        requirements/client.txt
      ;;
    trainer)
      image tunegate-trainer 30 trainer_image/Dockerfile trainer_image/tunegate_trainer \
        requirements/trainer.txt requirements/smollm2.txt
      ;;
    *) say "unknown image $name: use operator, client or trainer"; exit 1 ;;
  esac
done
remove_nameless
