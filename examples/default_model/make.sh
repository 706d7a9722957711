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

# The last checkpoint: the mean PSNR of validation is that of its sharp crops.
python - "$out" <<'END'
import sys
from pathlib import Path
from jdrl.checkpoints.checkpoint import latest_checkpoint, write_single_file
out = Path(sys.argv[1])
write_single_file(latest_checkpoint(out / "run"), out / "default.safetensors")
END

echo
echo "weights   $out/default.safetensors, to become jdrl/weights/default.safetensors"
echo "scores    python benchmarks/default_model.py --network $out/default.safetensors --pairs FOLDER --sharp FOLDER"
