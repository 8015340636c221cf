#!/usr/bin/env bash
# Run a trial: the settings in a folder -> its table.md and long.csv, and pairs.md if docs/results.md shows it. Run again
# to resume. `--by-seed` trains a long trial seed by seed, and keeps what is finished in long.csv (seeds.py); a folder with
# choices.txt is a search on the validation split (tune.py); before.sh makes what the trial's teachers need.
#   bash experiments/run.sh experiments/methods
#   bash experiments/run.sh experiments/cifar100 --by-seed
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD trial=${1:?a folder with params.yaml, such as experiments/methods}
work=$trial/work  # ignored by git: data, teacher, stores, runs
mkdir -p "$work"
cp "$trial/params.yaml" "$work"
cd "$work"
export PYTHONPATH=$here/examples  # somebody else's architectures
# Real files, for the trials that need them.
if [ -n "${PREPKD_CIFAR100:-}" ]; then mkdir -p data/raw; ln -sfn "$PREPKD_CIFAR100/cifar-100-python" data/raw/; fi
if [ -n "${PREPKD_TEACHERS:-}" ]; then ln -sfn "$PREPKD_TEACHERS" weights; fi
prepkd prepare
if [ -f "$here/$trial/before.sh" ]; then . "$here/$trial/before.sh"; fi
for name in $(python -c 'import sys; from ruamel.yaml import YAML; print(*YAML().load(sys.stdin)["teachers"])' < params.yaml); do
    prepkd train-teacher "$name"
    prepkd cache-logits "$name"
done
if grep -q 'features: \[.\+\]' params.yaml; then
    prepkd cache-features "$(python -c 'import sys; from ruamel.yaml import YAML; print(YAML().load(sys.stdin)["distill"]["teacher"])' < params.yaml)"
fi
if [ -f "$here/$trial/choices.txt" ]; then
    exec python "$here/experiments/tune.py" "$here/$trial"
elif [ "${2:-}" = --by-seed ]; then
    exec python "$here/experiments/seeds.py" "$here/$trial"
fi
for run in $(python -c 'import sys; from ruamel.yaml import YAML; print(*YAML().load(sys.stdin)["compare"]["runs"])' < params.yaml); do
    prepkd compare --run "$run"
done
prepkd compare
cp results/compare/table.md results/compare/long.csv "$here/$trial"
if grep -qx "<!-- $(basename "$trial") -->" "$here/docs/results.md"; then
    python "$here/experiments/pairs.py" results/compare/long.csv > "$here/$trial/pairs.md"
fi
