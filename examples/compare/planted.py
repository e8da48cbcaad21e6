"""Make a genome in which a motif 20 to 100 kb away sets the expression of promoters, and judge models on it.

    python planted.py make OUT                          genome.fa, tracks and tables
    python planted.py judge OUT CHECKPOINT... -o TABLE   how well on and off are told apart, by distance

Every contig is one window of 131,072 random bases. It has 16 promoters, copies of one 12-bp motif, and
every second contig has, near one of its ends, 32 enhancers, copies of another, within 16 kb. Every
promoter of a contig with enhancers lies 20 to 100 kb from the nearest and is on (40 reads); those of the
other contigs lie at such places too and are off (4 reads). What a promoter does thus cannot be told from
what lies within 20 kb of it. Two more tracks, of the motifs themselves, are local; ``sites.bed`` names the
kilobases with a motif, from which convolutions learn them sooner than from whole contigs.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

LENGTH = 131_072
PROMOTER = "TATAAAAGGCGC"
ENHANCER = "CCACGTGACGTC"
NEAR, FAR = 20_000, 100_000
PROMOTERS, ENHANCERS = 16, 32
ON, OFF, OPEN = 40, 4, 40
SPREAD = 16_384
MARGIN = 8_192
SITE = 1_024
COUNTS = {"train": 384, "valid": 32, "test": 64}
STRANDS = np.array(list("ACGT"))


def make(folder: Path, seed: int) -> None:
    """Write the genome, its tracks and a table of promoters."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows: list[tuple[str, int, int, int]] = []
    tracks: dict[str, list[tuple[str, int, int]]] = {"expression": [], "promoter": [], "enhancer": []}
    with open(folder / "genome.fa", "w") as fasta:
        for split, count in COUNTS.items():
            for number in range(count):
                name = f"{split}_{number:03d}"
                letters = STRANDS[generator.integers(0, 4, LENGTH)]
                on = number % 2 == 0
                mirrored = bool(generator.integers(0, 2))
                first = int(generator.integers(0, MARGIN))
                offsets = np.sort(generator.choice(SPREAD // 64, ENHANCERS, replace=False)) * 64 + first
                for start in _places(offsets, mirrored) if on else ():
                    _plant(letters, start, ENHANCER, generator)
                    tracks["enhancer"].append((name, start, OPEN))
                distances = (
                    np.sort(generator.choice((FAR - NEAR) // 64, PROMOTERS, replace=False)) * 64 + NEAR
                )
                starts = _places(distances + int(offsets[-1]), mirrored)
                for start, distance in zip(starts, distances.tolist(), strict=True):
                    _plant(letters, start, PROMOTER, generator)
                    tracks["promoter"].append((name, start, OPEN))
                    tracks["expression"].append((name, start, int(generator.poisson(ON if on else OFF))))
                    rows.append((name, start, distance, int(on)))
                fasta.write(f">{name}\n{''.join(letters)}\n")
    for track, places_of in tracks.items():
        with open(folder / f"{track}.bed", "w") as bed:
            for name, start, reads in sorted(places_of):
                if reads:
                    bed.write(f"{name}\t{start}\t{start + 1}\t.\t{reads}\t+\n")
    with open(folder / "tracks.tsv", "w") as table:
        table.write("id\tlabel\tfiles\tassay\n")
        for track in tracks:
            table.write(f"{track}\tplanted {track}\t{track}.bed\tplanted\n")
    with open(folder / "sites.bed", "w") as bed:
        sites = {(name, start // SITE) for each in tracks.values() for name, start, _ in each}
        for name, place in sorted(sites):
            bed.write(f"{name}\t{place * SITE}\t{(place + 1) * SITE}\t{name.partition('_')[0]}\n")
    with open(folder / "promoters.tsv", "w", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(("contig", "start", "distance", "on"))
        writer.writerows(rows)
    for split in ("valid", "test"):
        names = ",".join(f"{split}_{number:03d}" for number in range(COUNTS[split]))
        (folder / f"{split}.txt").write_text(names + "\n")


def _places(offsets: np.ndarray, mirrored: bool) -> list[int]:
    """Starts of motifs, counted from the other end of the contig if ``mirrored``."""
    starts = LENGTH - len(PROMOTER) - offsets if mirrored else offsets
    return [int(start) for start in starts]


def _plant(letters: np.ndarray, start: int, motif: str, generator: np.random.Generator) -> None:
    text = motif
    if generator.integers(0, 2):
        text = motif[::-1].translate(str.maketrans("ACGT", "TGCA"))
    letters[start : start + len(motif)] = list(text)


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a value of ``positive`` is above one of ``negative``; ties count half."""
    above = (positive[:, None] > negative[None]).mean()
    return float(above + 0.5 * (positive[:, None] == negative[None]).mean())


def judge(folder: Path, checkpoints: list[str], output: Path | None) -> None:
    """Tell on from off promoters of the test contigs by their predicted expression."""
    import torch

    from gexpr import checkpoints as store
    from gexpr.genome.fasta import Fasta
    from gexpr.models.layers import one_hot

    with open(folder / "promoters.tsv") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    promoters = [row for row in rows if row["contig"].startswith("test")]
    bands = ((NEAR, 40_000), (40_000, 60_000), (60_000, 80_000), (80_000, FAR))
    header = ["model", "auroc", *(f"{low // 1000}-{high // 1000}_kb" for low, high in bands), "pearson"]
    lines = ["\t".join(header)]
    fasta = Fasta(str(folder / "genome.fa"))
    for checkpoint in checkpoints:
        model = store.load(checkpoint)
        track = next(each.index for each in model.tracks if each.id == "expression")
        predicted: dict[str, np.ndarray] = {}
        for contig in sorted({row["contig"] for row in promoters}):
            codes = fasta.codes(contig, 0, model.context_length)
            with torch.inference_mode():
                x = one_hot(torch.from_numpy(codes)[None])
                both = [model(x), model(x.flip(1, 2)).flip(1)]
            predicted[contig] = ((both[0] + both[1]) / 2)[0, :, track].numpy()
        values, on, distance = [], [], []
        for row in promoters:
            place = int(row["start"]) // model.bin_size - model.crop
            if not 0 <= place < model.target_length - 1:
                continue
            values.append(float(predicted[row["contig"]][max(place - 1, 0) : place + 2].sum()))
            on.append(int(row["on"]))
            distance.append(int(row["distance"]))
        v, o, d = np.array(values), np.array(on, dtype=bool), np.array(distance)
        cells = [auroc(v[o], v[~o])]
        cells += [auroc(v[o & (d >= low) & (d < high)], v[~o]) for low, high in bands]
        cells.append(float(np.corrcoef(np.log1p(v), o)[0, 1]))
        lines.append("\t".join([Path(checkpoint).parent.name, *(f"{cell:.3f}" for cell in cells)]))
        print(lines[-1])
    if output is not None:
        output.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--seed", type=int, default=1)
    judging = commands.add_parser("judge")
    judging.add_argument("folder", type=Path)
    judging.add_argument("checkpoints", nargs="+")
    judging.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder, arguments.seed)
    else:
        judge(arguments.folder, arguments.checkpoints, arguments.output)


if __name__ == "__main__":
    main()
