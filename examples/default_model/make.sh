#!/bin/sh
# Trains the default model: photographs, virtual pairs, shards, training. Usage: sh examples/default_model/make.sh FOLDER
# A stopped run goes on where it was; the same machine gives the same weights.
set -eu
out=${1:-default-model}
here=$(dirname "$0")
export OMP_NUM_THREADS=1

test -d "$out/data/pictures" || python "$here/photographs.py" "$out/data"
python "$here/make_pairs.py" "$out/data/pictures" "$out/pairs"
sdd import "$out/pairs" --layout sdd --out "$out/shards" --config "$here/train.toml"
resume=
test ! -d "$out/run" || resume=--resume
sdd train "$out/shards" --out "$out/run" --config "$here/train.toml" $resume

echo
echo "weights   $out/run/best/network.safetensors"
echo "scores    python benchmarks/default_model.py --network $out/run --pairs FOLDER --sharp FOLDER"
