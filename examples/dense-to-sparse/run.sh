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

[ -d sparse ] || gexpr convert gexpr runs/dense/checkpoint --attention bigbird --block-size 32 --random-blocks 2 -o sparse
evaluate sparse sparse
gexpr train tune.yaml -o runs/sparse_tuned --threads 1 --init sparse --train-only attention
evaluate runs/sparse_tuned/checkpoint sparse_tuned
