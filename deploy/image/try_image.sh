#!/bin/bash
# Builds the image where no container engine runs, and serves from it: `try_image.sh [TARGET]`.
#
# buildah executes the Dockerfile itself, by chroot, on a base that debootstrap makes of Debian's
# packages as Docker's official one is. Then the service runs from the image's files as a container
# would: with its entry point, environment and user, on a root that cannot be written. Needs root
# and the Debian packages buildah, bubblewrap and debootstrap. BUILD_OPTIONS are buildah's, such as
# --build-arg TORCH_INDEX=... or --volume for a pip.conf; RUN_OPTIONS are bubblewrap's, such as
# --ro-bind FOLDER /tmp/model --setenv BEAMLINE_MODEL /tmp/model for an image without a model.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${1:-cpu}
base=localhost/debian:bookworm-slim
image=localhost/beamline:$target
port=${PORT:-8123}

make_base() {
    local folder container root
    folder=$(mktemp -d)
    debootstrap --variant=minbase bookworm "$folder/root"
    root=$folder/root
    printf 'deb http://deb.debian.org/debian%s main\n' \
        ' bookworm' ' bookworm-updates' '-security bookworm-security' \
        > "$root/etc/apt/sources.list"
    # As Docker's slim image leaves them out, now and of what is installed later.
    printf 'path-exclude /usr/share/%s/*\n' doc groff info lintian locale man \
        > "$root/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$root"/usr/share/{doc,groff,info,lintian,locale,man}/* \
        "$root"/var/{cache/apt,lib/apt/lists,log}/*
    container=$(buildah from scratch)
    cp -a "$root/." "$(buildah mount "$container")"
    buildah commit --rm --quiet "$container" "$base"
    rm -rf "$folder"
}

buildah inspect --type image "$base" > /dev/null 2>&1 || make_base
# shellcheck disable=SC2086  # several options
buildah build --isolation chroot --format docker --layers --target "$target" --tag "$image" \
    --build-arg "DEBIAN=$base" ${BUILD_OPTIONS:-} .

container=$(buildah from "$image")
root=$(buildah mount "$container")
log=$(mktemp)
service=0
trap '[ "$service" = 0 ] || kill "$service" || true; buildah rm "$container" > /dev/null; rm -f "$log"' EXIT
python3 deploy/image/root_check.py "$root" "$target"

told() { buildah inspect --type image --format "$1" "$image"; }
environment=()
while IFS= read -r line; do
    [ -z "$line" ] || environment+=(--setenv "${line%%=*}" "${line#*=}")
done < <(told '{{range .Docker.Config.Env}}{{println .}}{{end}}')
IFS=: read -r user group <<< "$(told '{{.Docker.Config.User}}')"
mapfile -t entry < <(told '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}{{range .Docker.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t health < <(told '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed '/^$/d; 1d')

# Everything is read-only but /tmp; the cache folder is only what the image holds of it.
inside() {
    bwrap --clearenv "${environment[@]}" --setenv BEAMLINE_PORT "$port" \
        --ro-bind "$root" / --proc /proc --dev /dev --tmpfs /tmp --chdir /tmp "${more[@]}" \
        --unshare-user --uid "$user" --gid "$group" --cap-drop ALL --unshare-pid --as-pid-1 --die-with-parent "$@"
}

serve_once() {
    local process code=0
    echo "as $user:$group: ${entry[*]}"
    inside "${entry[@]}" 2> "$log" &
    service=$!
    until inside "${health[@]}" 2> /dev/null; do
        kill -0 "$service" || { cat "$log"; exit 1; }
        sleep 1
    done
    cat "$log"
    curl --fail --silent --show-error "http://127.0.0.1:$port/health"
    echo
    curl --fail --silent --show-error "http://127.0.0.1:$port/generate" --json \
        '{"text": "The capital of France is", "strategy": "beam", "max_new_tokens": 12}'
    echo
    inside /bin/sh -c 'id; ! touch /opt/x /var/cache/beamline/x'
    # To the service itself, as an engine does, and not to the shell and bwrap around it.
    process=$service
    while [[ $(ps -o comm= -p "$process") =~ ^(bash|bwrap|try_image.sh)$ ]]; do
        process=$(pgrep --parent "$process")
    done
    kill -TERM "$process"
    wait "$service" || code=$?
    service=0
    tail -n 2 "$log"
    echo "exit code after SIGTERM: $code"
    return "$code"
}

read -ra more <<< "${RUN_OPTIONS:-}"
if [ "$target" = cuda ] && [ ! -e /dev/nvidiactl ]; then
    ! inside "${entry[@]}" 2> "$log" || { echo "served without a GPU, slowly"; exit 1; }
    cat "$log"
    more+=(--setenv BEAMLINE_DEVICE cpu)  # shows at least that what was installed serves
fi
serve_once
# As platforms do that choose the user: a number that nobody has heard of, in group 0.
user=1000680000 group=0
serve_once
