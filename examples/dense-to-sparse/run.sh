#!/usr/bin/env bash
# Dense attention made sparse, and its attention layers trained again; see README.md.
# Run it again after an interruption: it goes on where it stopped.
set -euo pipefail
if [ $# -ne 2 ]; then
    echo "usage: run.sh DATA OUT   (DATA as for examples/yeast-tss/train.sh)" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
cp "$here"/*.yaml "$here"/../yeast-tss/tracks.tsv .
ln -sfn "$data/stripe_seq" stripe_seq
[ -f yeast.h5 ] || gexpr prepare --fasta "$data/sacCer3.fa.gz" --tracks tracks.tsv -o yeast.h5 \
    --context-length 16384 --bin-size 16 --crop-bp 512 --valid chrVIII --test chrI,chrIX

evaluate() { # CHECKPOINT NAME
    gexpr evaluate --force -c "$1" -d yeast.h5 -g "$data/genes.bed.gz" -o "evaluations/$2"
}
gexpr train dense.yaml -o runs/dense --threads 1
evaluate runs/dense/checkpoint dense

# The same number of steps for the dense model's attention: what the steps alone are worth.
gexpr train tune.yaml -o runs/dense_tuned --threads 1 --init runs/dense/checkpoint --train-only attention
evaluate runs/dense_tuned/checkpoint dense_tuned

for pattern in "32 2" "16 0"; do
    read -r block random <<<"$pattern"
    name=sparse_${block}_$random
    [ -d "$name" ] || gexpr convert gexpr runs/dense/checkpoint --attention bigbird \
        --block-size "$block" --random-blocks "$random" -o "$name"
    evaluate "$name" "$name"
    gexpr train tune.yaml -o "runs/$name" --threads 1 --init "$name" --train-only attention
    evaluate "runs/$name/checkpoint" "${name}_tuned"
done
