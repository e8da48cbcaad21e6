#!/usr/bin/env bash
# Makes yeast-tss, or the three models it is compared with, from the genome and the six STRIPE-seq samples.
# Run it again after an interruption: it goes on where it stopped.
set -euo pipefail
if [ $# -lt 2 ]; then
    cat >&2 <<USAGE
usage: train.sh DATA OUT [tss|compare]
  DATA     folder with sacCer3.fa.gz, genes.bed.gz and stripe_seq/S288C_{WT,D}_{1,2,3}.bed.gz (see README.md)
  OUT      folder for datasets, runs and evaluations
  tss      yeast-tss itself, in three stages (default)
  compare  block-sparse attention, dense attention and dilated convolutions, 3,000 steps each
USAGE
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)
goal=${3:-tss}
mkdir -p "$2"
cd "$2"
cp "$here"/*.tsv "$here"/*.yaml .
ln -sfn "$data/stripe_seq" stripe_seq

prepare() {
    [ -f "$2" ] || gexpr prepare --fasta "$data/sacCer3.fa.gz" --tracks "$1" -o "$2" --context-length 16384 \
        --bin-size 16 --crop-bp 512 --valid chrVIII --test chrI,chrIX
}
prepare tracks.tsv yeast.h5
prepare replicate_1.tsv replicate_1.h5
prepare replicate_2.tsv replicate_2.h5

run() { # CONFIG NAME [gexpr train options ...]
    gexpr train "$1" -o "runs/$2" --threads 1 "${@:3}"
    gexpr evaluate --force -c "runs/$2/checkpoint" -d yeast.h5 -g "$data/genes.bed.gz" \
        --replicates replicate_1.h5,replicate_2.h5 -o "evaluations/$2"
}
case $goal in
tss)
    run sparse_1.yaml sparse_1
    run sparse_2.yaml sparse_2
    run sparse_3.yaml sparse_3
    ;;
compare)
    run sparse_1.yaml short_sparse --set schedule.steps=3000 --set training.max_steps=null
    run dense.yaml short_dense
    run dilated.yaml short_dilated
    ;;
*)
    echo "train.sh: $goal is neither tss nor compare" >&2
    exit 2
    ;;
esac
