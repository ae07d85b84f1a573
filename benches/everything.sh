#!/usr/bin/env bash
# Everything that is measured on a GPU, in under ten minutes on a fast one: what is correct first, then what is fast.
#
#   cargo build --release
#   benches/everything.sh gpu results/
#   benches/everything.sh gpu results/ 'python train.py --mode eager --workload {}' 'python train.py --mode graph --workload {}'
#
# The first argument is a device, the second a folder for tables and lines of JSON, the others are commands of other programs that
# run in turn with ours: see `shadegrad bench --help`, --beside.
set -u
device=${1:?a device, as of \`shadegrad devices\`}
out=${2:?a folder to write to}
shift 2
shadegrad=${SHADEGRAD:-target/release/shadegrad}
seconds=${SECONDS_EACH:-0.3}
mkdir -p "$out"

# What it prints goes to a file, too; what fails stops nothing else.
part() {
    local name=$1
    shift
    echo "== $name: $*"
    timeout "${limit:-200}" "$@" 2>&1 | tee "$out/$name.txt"
    [ "${PIPESTATUS[0]}" = 0 ] || echo "== $name failed" | tee -a "$out/$name.txt"
}

bench() {
    local name=$1
    shift
    part "$name" "$shadegrad" bench "$@" --device "$device" --seconds "$seconds" --json "$out/$name.json"
}

part correct "$shadegrad" selftest --device "$device" --one-in 8
bench all all
bench apart steps --apart
bench autotuned steps matmul matmul-4096 conv --autotune
for precision in medium high; do
    bench "$precision" matmul matmul-4096 matmul-8192 conv --matmul-precision "$precision"
done
part host "$shadegrad" bench --host --device "$device" --seconds "$seconds"
bench starts lenet --starts
if [ $# -gt 0 ]; then
    others=()
    for command in "$@"; do others+=(--beside "$command"); done
    limit=400 bench beside mlp lenet cifar lstm gpt matmul "${others[@]}" --rounds 2
fi
