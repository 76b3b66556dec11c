#!/bin/sh
# Measure the library on the GPU of this machine, in eight minutes at most: filter, training steps, image encoder.
# Options are passed on, for example: benchmarks/gpu_check.sh --out results --minutes 5
#                                     benchmarks/gpu_check.sh --device cpu --quick --out quick
# It needs the library with torch for CUDA; jax[cuda12] and dynamax for the comparison are optional.
cd "$(dirname "$0")/.." || exit 1
python=.venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}"
# Interrupted after eight minutes; finished rows are stored, and the same command continues with the others.
exec timeout --signal=INT --kill-after=10 475 "$python" benchmarks/gpu "$@"
