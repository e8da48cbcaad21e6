#!/usr/bin/env bash
# Scores a VCF on a Slurm cluster: an array of jobs, and a job that merges what they wrote.
set -euo pipefail

usage="usage: submit.sh VCF FASTA CHECKPOINT OUT [SHARDS [OPTION...]]

  SHARDS   number of array tasks, 8 if left out; 64%8 is 64 tasks, at most 8 of them at a time
  OPTION   more options of gexpr score-variants, such as --stats SAD

The same command continues a run that has failed: finished blocks are not scored again."

fail() {
    printf 'submit.sh: %s\n' "$1" >&2
    exit 1
}

if [ "$#" -lt 4 ]; then
    printf '%s\n' "$usage" >&2
    exit 2
fi
vcf=$1 fasta=$2 checkpoint=$3 out=$4 shards=${5-8}
shift "$(($# < 5 ? 4 : 5))"

[[ $shards =~ ^([1-9][0-9]*)(%[1-9][0-9]*)?$ ]] || fail "SHARDS must be a number such as 8 or 64%8, not '$shards'"
last=$((BASH_REMATCH[1] - 1)) limit=${BASH_REMATCH[2]}
for program in gexpr sbatch; do
    command -v "$program" > /dev/null || fail "$program is not on the PATH"
done
[ ! -e "$out" ] || fail "$out exists; move it away or choose another name"

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$out.run
log=${out//\%/%%} # sbatch replaces %A and the like in names of logs.

# After "any" end of the tasks, not only a good one: merge itself sees whether a block is missing, and an array
# of which one task has failed once never counts as "ok" again, even if that task is requeued and succeeds.
array=$(sbatch --parsable --array="0-$last$limit" --output="$log.%A_%a.log" \
    "$folder/score.sbatch" "$vcf" "$fasta" "$checkpoint" "$run" "$@")
array=${array%%;*}
merge=$(sbatch --parsable --dependency="afterany:$array" --output="$log.%j.log" \
    "$folder/merge.sbatch" "$run" "$out")
merge=${merge%%;*}

cat << END
array job $array: $((last + 1)) tasks score $vcf; logs: $out.${array}_*.log
job $merge: merges into $out when they have ended; log: $out.$merge.log
progress: squeue --jobs=$array,$merge; gexpr status $(printf '%q' "$run")
END
