"""Figure 8.4: Inception with more and more wrong labels; see `noise_levels`."""

import noise_levels
import runner

FILES = noise_levels.FILES


def rows(size: str) -> list[runner.Row]:
    """Return the figure's rows."""
    return noise_levels.rows("figure_8_4", size)


if __name__ == "__main__":
    noise_levels.main("figure_8_4")
