#!/usr/bin/env bash
# Makes yeast-tss, or a model to compare it with, from the genome and the six STRIPE-seq samples.
# Run it again after an interruption: it goes on where it stopped.
set -euo pipefail
if [ $# -lt 2 ]; then
    cat >&2 <<USAGE
usage: train.sh DATA OUT [CONFIG [gexpr train options ...]]
  DATA    folder with sacCer3.fa.gz, genes.bed.gz and stripe_seq/S288C_{WT,D}_{1,2,3}.bed.gz (see README.md)
  OUT     folder for datasets, runs and evaluations
  CONFIG  sparse (default: yeast-tss itself), dense or dilated
USAGE
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)
config=${3:-sparse}
mkdir -p "$2"
cd "$2"
shift $(($# < 3 ? $# : 3))

cp "$here"/*.tsv "$here"/*.yaml .
ln -sfn "$data/stripe_seq" stripe_seq

prepare() {
    [ -f "$2" ] || gexpr prepare --fasta "$data/sacCer3.fa.gz" --tracks "$1" -o "$2" --context-length 16384 \
        --bin-size 16 --crop-bp 512 --valid chrVIII --test chrI,chrIX
}
prepare tracks.tsv yeast.h5
prepare replicate_1.tsv replicate_1.h5
prepare replicate_2.tsv replicate_2.h5

gexpr train "$config.yaml" -o "runs/$config" "$@"
gexpr evaluate -c "runs/$config/checkpoint" -d yeast.h5 -g "$data/genes.bed.gz" \
    --replicates replicate_1.h5,replicate_2.h5 -o "evaluations/$config"
