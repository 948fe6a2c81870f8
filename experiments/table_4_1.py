"""Table 4.1: ablations of limited context inpainting, LCI against untransformed.

--size cpu    on Fashion-on-Photos, 3,000 steps each, CPU-sized network; patches of 16,
              20, 24 (baseline) and 28 px stand for the thesis' 32, 40, 48 and 56; they
              are multiples of 4, so F scales down twice here, not three times
--size paper  on STL-10 as in the thesis (needs the data and GPUs)

Row (d) freezes the inpainter of the run "(e) No adversarial loss w.r.t. C" of the same
seed: trained on reconstruction and by the patch critic, then left alone.
"""

import runner
import thesis

FILES = {
    "cpu": "configs/transformations_fashion_on_photos.py:lci",
    "paper": "configs/transformations_stl10.py",
}
STEPS = 3_000
NO_ADVERSARY = "(e) No adversarial loss w.r.t. C"
ROWS = {
    "(a) 32x32 patches": ("patch_32", {"patch_size": 16}),
    "(b) 40x40 patches": ("patch_40", {"patch_size": 20}),
    "(c) 56x56 patches": ("patch_56", {"patch_size": 28}),
    "(d) Pre-trained and frozen F": ("frozen", {"inpainter": "frozen"}),
    NO_ADVERSARY: ("no_adversary", {"lambda_classifier": 0.0}),
    "(f) No patch autoencoding": ("no_autoencoding", {"patch_autoencoding": False}),
    "Baseline (48x48 patches)": ("lci", {}),
}
"""Row to its variant on STL-10 and its changes at CPU size."""


def rows(size: str) -> list[runner.Row]:
    """Return the thesis' rows in its order."""
    table = []
    for name, (variant, changes) in ROWS.items():
        if size == "paper":
            spec, overrides = f"{FILES[size]}:{variant},released", ()
        else:
            spec = FILES[size]
            overrides = (
                f"--config.train.num_steps={STEPS}",
                f"--config.train.save_every={STEPS // 3}",
                f"--config.train.eval_every={STEPS}",
                "--config.inpainter.num_layers=3",
                *(f"--config.method.{key}={value}" for key, value in changes.items()),
            )
        needs = {}
        if variant == "frozen":
            needs = {"init_from.inpainter": (NO_ADVERSARY, "")}
        numbers = thesis.numbers("4.1", name)
        table.append(runner.Row(name, spec, overrides, needs=needs, thesis=numbers))
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    print(runner.markdown(runner.measure("table_4_1", rows(args.size), args)))
