#!/bin/sh
# The whole walk: shoot, build, train, evaluate, deblur. Usage: sh examples/demo.sh FOLDER
set -eu
out=${1:-demo}
config=$(dirname "$0")/demo.toml

sdd capture simulate --scenes 14 --kind focus --defects --seed 1 --out "$out/raw" --config "$config"
sdd build "$config" --source "$out/raw" --out "$out/dataset"
sdd train "$out/dataset/shards" --out "$out/model" --config "$config"
sdd evaluate "$out/model" "$out/dataset/shards" --out "$out/evaluation"
sdd deblur "$out/model" "$out/raw/scene-0001/blur.dng" --out "$out/deblurred"

echo
echo "data set report   $out/dataset/report/report.html"
echo "evaluation page   $out/evaluation/evaluation.html"
echo "before and after  $out/evaluation/before_after.png"
echo "deblurred photo   $out/deblurred/"
