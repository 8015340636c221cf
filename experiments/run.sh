#!/usr/bin/env bash
# Run a trial: the settings in a folder -> its table.md and long.csv, and pairs.md if docs/results.md shows it. Run again
# to resume.
#   bash experiments/run.sh experiments/methods
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD trial=${1:?a folder with params.yaml, such as experiments/methods}
work=$trial/work  # ignored by git: data, teacher, stores, runs
mkdir -p "$work"
cp "$trial/params.yaml" "$work"
cd "$work"
prepkd prepare
for name in $(python -c 'import sys; from ruamel.yaml import YAML; print(*YAML().load(sys.stdin)["teachers"])' < params.yaml); do
    prepkd train-teacher "$name"
    prepkd cache-logits "$name"
done
if ! grep -q 'features: \[\]' params.yaml; then prepkd cache-features large; fi
for run in $(python -c 'import sys; from ruamel.yaml import YAML; print(*YAML().load(sys.stdin)["compare"]["runs"])' < params.yaml); do
    prepkd compare --run "$run"
done
prepkd compare
cp results/compare/table.md results/compare/long.csv "$here/$trial"
if grep -qx "<!-- $(basename "$trial") -->" "$here/docs/results.md"; then
    python "$here/experiments/pairs.py" results/compare/long.csv > "$here/$trial/pairs.md"
fi
