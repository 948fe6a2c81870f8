"""Table 4.2: which combinations of image transformations learn the best features.

--size cpu    all eight rows on Fashion-on-Photos, 3,000 steps each, CPU-sized network;
              beside them a supervised row at the same number of views
--size paper  all eight rows on STL-10 as in the thesis (needs the data and GPUs)

Each row is pre-trained with as many steps of as many source images, and probed by the
same linear classifiers. The thesis' numbers are shown as the thesis'.
"""

import runner
import thesis

VARIANTS = {
    "Warp": "warp",
    "LCI": "lci",
    "Rot": "rot",
    "Warp + LCI": "warp_lci",
    "Rot + Warp": "rot_warp",
    "Rot + LCI": "rot_lci",
    "Rot + Warp + LCI": "rot_warp_lci",
}
FILES = {
    "cpu": "configs/transformations_fashion_on_photos.py",
    "paper": "configs/transformations_stl10.py",
}
SUPERVISED = "configs/classify_fashion_on_photos.py"
STEPS = 3_000


def rows(size: str) -> list[runner.Row]:
    """Return the thesis' rows in its order; "Random" is a run before its first step."""
    cut = (
        f"--config.train.num_steps={STEPS}",
        f"--config.train.save_every={STEPS // 3}",
        f"--config.train.eval_every={STEPS}",
    )
    overrides = cut if size == "cpu" else ()
    side = "" if size == "cpu" else ",released"

    def row(name, variant, *, untrained=False):
        spec = f"{FILES[size]}:{variant}{side}"
        numbers = thesis.numbers("4.2", name)
        return runner.Row(name, spec, overrides, untrained=untrained, thesis=numbers)

    table = [row("Random", "rot", untrained=True)]
    table += [row(name, variant) for name, variant in VARIANTS.items()]
    if size == "cpu":
        evals = ("linear_probe",)  # It has no pretext task.
        table.append(runner.Row("Supervised", SUPERVISED, overrides, evals=evals))
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    print(runner.markdown(runner.measure("table_4_2", rows(args.size), args)))
