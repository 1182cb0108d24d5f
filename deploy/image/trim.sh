#!/bin/sh
# Removes from an environment what a service never opens: `trim.sh FOLDER`. Run by the Dockerfile.
set -eu
cd "$1"/lib/python3.*/site-packages
# Headers and programs to develop torch with: nothing compiles against them in an image without
# a compiler. torch does not start without its shm manager.
rm -rf torch/include torch/share torch/test onnx/backend/test
find torch/bin -type f ! -name torch_shm_manager -delete
find . -name '*.a' -delete
for package in networkx numpy scipy sympy; do
    [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
