#!/usr/bin/env bash
# Run a command on the nodes of a Ray cluster, from the project's folder on a file system that all of them see:
#   export RAY_API_SERVER_ADDRESS=http://head:8265
#   recipes/cluster/ray.sh cache-logits large
#   recipes/cluster/ray.sh compare --num-gpus 0.5
# The driver runs on the head node. The command may be submitted again after any failure: what is finished is kept.
set -euo pipefail
ray job submit -- env --chdir="$PWD" prepkd "${@:?name a command: ray.sh cache-logits NAME}" --engine ray
