#!/usr/bin/env bash
# Run a trial: the settings in a folder -> its table.md and long.csv, and pairs.md, views.md or errors.md. Run again to
# resume. `--by-seed`, or a folder with variants.txt: a long trial, trained seed by seed, which keeps what is finished in
# long.csv (seeds.py). choices.txt: a search on the validation split (tune.py). before.sh makes what the teachers need.
#   bash experiments/run.sh experiments/methods
#   bash experiments/run.sh experiments/cifar100 --by-seed
set -euo pipefail
# Words of a setting, by its keys.
words() {
    python -c 'import sys; from ruamel.yaml import YAML
found = YAML().load(sys.stdin)
for key in sys.argv[1:]: found = found[key]
print(*[found] if isinstance(found, str) else found)' "$@" < params.yaml
}
cd "$(dirname "$0")/.."
here=$PWD trial=${1:?a folder with params.yaml, such as experiments/methods}
trial=${trial%/}
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
for name in $(words teachers); do
    prepkd train-teacher "$name"
    prepkd cache-logits "$name"
done
if grep -q 'features: \[.\+\]' params.yaml; then prepkd cache-features "$(words distill teacher)"; fi
if [ -f "$here/$trial/choices.txt" ]; then
    exec python "$here/experiments/tune.py" "$here/$trial"
elif [ "${2:-}" = --by-seed ] || [ -f "$here/$trial/variants.txt" ]; then
    python "$here/experiments/seeds.py" "$here/$trial"
else
    for run in $(words compare runs); do
        prepkd compare --run "$run"
    done
    prepkd compare
    cp results/compare/table.md results/compare/long.csv "$here/$trial"
fi
# What a script prints -> a file of the trial, once it has ended without an error.
written() {
    python "$here/experiments/$2.py" "${@:3}" > "$here/$trial/$1.part"
    mv "$here/$trial/$1.part" "$here/$trial/$1"
}
case $trial in
*/cifar100-teachers) written errors.md errors . ;;
*/cifar100-views)  # 32 views: of cifar100-tau2, and of cifar100, whose ce has no temperature
    written views.md views "$here/$trial" "$here"/experiments/cifar100{-tau2,}
    ;;
*/cifar100-methods) written pairs.md pairs "$here/$trial/long.csv" --mean ;;
*/methods | */two-views) written pairs.md pairs "$here/$trial/long.csv" ;;
esac
