#!/usr/bin/env bash
# The GPU proof: speeds, a detector over five seeds, label dispersion on CIFAR-10; offline, in under nine minutes on one
# H100. Results as CSV files in $OUT (or runs/gpu). What it does: benchmarks/gpu.py; what it needs: benchmarks/gpu_pack.py.
#
#     LABELWISE_DATA=data python benchmarks/gpu_pack.py       # where there is a network and the data: writes .gpu
#     OUT=runs/gpu bash benchmarks/gpu.sh                     # where there is a GPU: all of it
#     OUT=runs/gpu bash benchmarks/gpu.sh speed               # one part: speed, boxes, classes
#     bash benchmarks/gpu.sh --dry                            # everything tiny, made data, on a CPU, in under a minute
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/gpu}
mkdir -p "$out"
options=() parts=()
for word in "$@"; do
  case $word in
    speed | boxes | classes) parts+=("$word") ;;
    *) options+=("$word") ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || parts=(speed boxes classes)
if ! python3 -c "import labelwise" 2>/dev/null; then # no network: from the wheels
  site=${TMPDIR:-/tmp}/labelwise-site
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .gpu/wheels/*.whl
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
case " ${options[*]-} " in
  *" --dry "*) exec python3 -u benchmarks/gpu.py "${parts[@]}" "${options[@]}" --out "$out" ;;
esac
run() { # a part, its output as it comes and in a log
  python3 -u benchmarks/gpu.py "$@" --data .gpu/data --out "$out" --runs "${TMPDIR:-/tmp}/labelwise-gpu" 2>&1 | tee "$out/gpu_$1.log"
}
for part in "${parts[@]}"; do
  if [ "$part" = speed ]; then run speed ${options[@]+"${options[@]}"}; fi # alone on the card
done
running=()
for part in "${parts[@]}"; do
  if [ "$part" != speed ]; then
    run "$part" ${options[@]+"${options[@]}"} &
    running+=($!)
  fi
done
for one in ${running[@]+"${running[@]}"}; do wait "$one"; done
