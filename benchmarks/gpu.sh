#!/usr/bin/env bash
# The tests that need a GPU, then all GPU benchmarks, in one run of a few minutes: steps with and without a teacher, whole epochs, the teacher's pass.
#   bash benchmarks/gpu.sh [FOLDER]           JSON files go to FOLDER (benchmarks/results/gpu)
#   bash benchmarks/gpu.sh --smoke [FOLDER]   the same commands in seconds on a CPU, to check that they run; the numbers mean nothing
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

if [ "${1:-}" = --smoke ]; then
    shift
    step=(--device cpu --rounds 1 --steps 2 --batch-size 8 --pair 'resnet20->resnet8' --no-profile)
    compiled=("${step[@]}")  # compiling takes up to 40 s on a CPU, and tests/training/test_step.py does it
    epoch=(--rounds 1 --samples 128 --epochs 3 --batch-size 64)
    methods=(--device cpu --rounds 1 --steps 1 --batch-size 16 --only at)
    pass=(--rounds 1 --samples 64 --views 1 --model resnet8 --device cpu)
else
    "$python" -m pytest -q -m gpu tests/training/test_gpu.py  # first, since figures of wrong steps mean nothing
    step=(--device cuda --rounds 9 --steps 200 --batch-size 64 --batch-size 128)
    compiled=(--device cuda --rounds 9 --steps 200 --batch-size 64 --pair 'resnet32x4->resnet8x4' --compile --no-profile)
    epoch=(--student resnet8x4 --rounds 3 --samples 50000 --epochs 11 --batch-size 64)
    methods=(--device cuda --rounds 5 --steps 50 --batch-size 64 --teacher resnet32x4 --student resnet8x4)
    pass=(--rounds 3 --samples 50000 --views 2 --model resnet32x4 --device cuda)
fi
out=${1:-benchmarks/results/gpu}
mkdir -p "$out"
"$python" -m benchmarks.step "${step[@]}" --out "$out/step.json"
"$python" -m benchmarks.step "${compiled[@]}" --out "$out/step-compiled.json"
"$python" -m benchmarks.methods "${methods[@]}" --out "$out/methods.json"
"$python" -m benchmarks.teacher_pass "${pass[@]}" --precision bf16 --out "$out/pass-bf16.json"
"$python" -m benchmarks.teacher_pass "${pass[@]}" --precision ieee --out "$out/pass-ieee.json"
"$python" -m benchmarks.epoch "${epoch[@]}" --out "$out/epoch.json"
