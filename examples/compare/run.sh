#!/usr/bin/env bash
# Train the project's architectures on the same data, one after the other, and print a table; see README.md.
# Run it again after an interruption: it goes on where it stopped.
set -euo pipefail
if [ $# -ne 3 ]; then
    cat >&2 <<USAGE
usage: run.sh DATA OUT TABLE
  DATA   folder with yeast/, promoters/, human/, human_dhs/ and asb/ (see README.md)
  OUT    folder for datasets, runs, evaluations and tables
  TABLE  yeast | globals | context | planted | promoters | human
USAGE
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
cp -r "$here/configs" "$here/tracks.tsv" .
for name in promoters human; do ln -sfn "$data/$name" "$name"; done
ln -sfn "$data/yeast/stripe_seq" stripe_seq
threads=${THREADS:-1}

yeast() { # CONTEXT
    [ -f "yeast_$1.h5" ] || gexpr prepare --fasta "$data/yeast/sacCer3.fa.gz" --tracks tracks.tsv -o "yeast_$1.h5" \
        --context-length "$1" --bin-size 128 --crop-bp 2048 --valid chrVIII --test chrI,chrIX
}
run() { # CONFIG NAME [gexpr train options ...]
    gexpr train "configs/$1.yaml" -o "runs/$2" --threads "$threads" "${@:3}"
}
genes() { # NAME CONTEXT
    [ -f "evaluations/$1/metrics.tsv" ] || gexpr evaluate --force -c "runs/$1/checkpoint" -d "yeast_$2.h5" \
        -g "$data/yeast/genes.bed.gz" --no-ridge -o "evaluations/$1" --threads "$threads"
}

case $3 in
yeast)
    yeast 32768
    names=(basenji basenji_2018 standard exp_decay exp_decay_learned decay_attention_none
        decay_attention_exponential decay_attention_two_sided decay_attention_2_layers
        decay_attention_16_heads enformer sparse_enformer)
    for name in "${names[@]}"; do
        run "$name" "$name"
        genes "$name" 32768
    done
    for name in enformer sparse_enformer; do # the closest contest
        for seed in 2 3; do
            run "$name" "$name-seed$seed" --set training.seed=$seed
            genes "$name-seed$seed" 32768
        done
        names+=("$name-seed2" "$name-seed3")
    done
    python "$here/tables.py" yeast . --only "$(IFS=,; echo "${names[*]}")"
    python "$here/positions.py" runs/{decay_attention_two_sided,decay_attention_exponential,exp_decay_learned}/checkpoint \
        -o positions.png
    python "$here/genes.py" evaluations/{basenji,decay_attention_two_sided,standard,sparse_enformer} -o genes.png
    python "$here/receptive.py" runs/{basenji,decay_attention_two_sided,exp_decay,standard,enformer,sparse_enformer}/checkpoint \
        --fasta "$data/yeast/sacCer3.fa.gz" -o receptive.png
    ;;
globals)
    yeast 32768
    for where in all last none; do
        for seed in 1 2 3; do
            run "globals_$where" "globals_$where-seed$seed" --set training.seed=$seed
            genes "globals_$where-seed$seed" 32768
        done
    done
    python "$here/tables.py" yeast . --only 'globals_*'
    python "$here/alternate_cost.py" runs/globals_{all,last,none}-seed1/checkpoint --fasta "$data/yeast/sacCer3.fa.gz" \
        --vcf "$(python -c 'from gexpr.genome.examples import resolve_vcf; print(resolve_vcf("example"))')"
    ;;
context)
    for context in 16384 32768 65536 131072; do
        yeast "$context"
        run "context_$context" "context_$context"
        genes "context_$context" "$context"
    done
    python "$here/tables.py" yeast . --only 'context_*'
    ;;
planted)
    [ -f planted/genome.fa ] || python "$here/planted.py" make planted
    cd planted
    [ -f sites.h5 ] || gexpr prepare --fasta genome.fa --tracks tracks.tsv -o sites.h5 --context-length 1024 \
        --bin-size 128 --split-bed sites.bed
    [ -f planted.h5 ] || gexpr prepare --fasta genome.fa --tracks tracks.tsv -o planted.h5 --context-length 131072 \
        --bin-size 1024 --valid "$(cat valid.txt)" --test "$(cat test.txt)"
    cd ..
    run planted_trunk planted_trunk
    for name in sparse dense local convolution; do
        run "planted_$name" "planted_$name"
        [ -f "planted_$name.tsv" ] || python "$here/planted.py" judge planted "runs/planted_$name/checkpoint" \
            -o "planted_$name.tsv"
    done
    python "$here/tables.py" planted .
    python "$here/receptive.py" runs/planted_{sparse,dense,local,convolution}/checkpoint --fasta planted/genome.fa \
        -o planted_receptive.png
    ;;
promoters)
    for name in cnn mini_enformer multiscale multiscale_frozen; do
        run "promoters_$name" "promoters_$name"
        [ -f "evaluations/promoters_$name/metrics.tsv" ] || gexpr evaluate --force -c "runs/promoters_$name/checkpoint" \
            -d promoters/test71k.tsv.gz --subsets promoters/subsets.json -o "evaluations/promoters_$name"
    done
    python "$here/tables.py" promoters .
    ;;
human)
    [ -f dhs.tsv.gz ] || python "$here/dhs_table.py" "$data/human_dhs/dhs_200bp.tsv.gz" \
        "$data/human/windows.tsv" dhs.tsv.gz
    # trunks learned from accessible sites: one of Enformer's layers, one of Basenji's
    for name in dhs dhs_basenji; do run "human_$name" "human_$name"; done
    for name in sparse_enformer enformer basenji sparse_enformer_long basenji_long mini; do
        run "human_$name" "human_$name"
    done
    run human_sparse_enformer human_sparse_enformer_dhs --init runs/human_dhs/checkpoint \
        --set 'training.init_only=[stem, tower]'
    python "$here/asb.py" vcf "$data" -o asb.vcf
    for name in human_{sparse_enformer,sparse_enformer_dhs,enformer,basenji,sparse_enformer_long,basenji_long,mini}; do
        [ -f "evaluations/$name/metrics.tsv" ] || gexpr evaluate --force -c "runs/$name/checkpoint" -d human -o "evaluations/$name"
        gexpr score-variants asb.vcf -f "$data/human/windows.fa.gz" -c "runs/$name/checkpoint" \
            -t assay:CAGE,assay:DNASE --mask center:500 -o "asb_$name.h5" --force
    done
    python "$here/tables.py" human .
    python "$here/asb.py" judge asb_human_*.h5 "$data"
    ;;
*)
    echo "run.sh: $3 is no table" >&2
    exit 2
    ;;
esac
