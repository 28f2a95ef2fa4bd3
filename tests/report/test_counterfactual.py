"""The sheet of what retrained models make."""

import numpy as np
from PIL import Image

from ctrak_jax.report import write_counterfactual_sheet


def test_the_sheet_shows_every_image_in_its_row(tmp_path):
    colours = {"without nothing": 10, "without 7 at random": 200}
    drawn = {
        name: np.full((3, 16, 16, 3), value, np.uint8)
        + np.arange(3, dtype=np.uint8)[:, None, None, None]
        for name, value in colours.items()
    }
    write_counterfactual_sheet(tmp_path / "sheets", "a/b", drawn)
    sheet = np.asarray(Image.open(tmp_path / "sheets" / "a_b.png"))
    rows = []
    for value in colours.values():
        places = [np.argwhere((sheet == value + n).all(-1)) for n in range(3)]
        assert [len(place) for place in places] == [64 * 64] * 3
        assert places[0][:, 1].max() < places[1][:, 1].min() <= places[1][:, 1].max()
        assert places[1][:, 1].max() < places[2][:, 1].min()
        rows.append(places[0][:, 0])
    assert rows[0].max() < rows[1].min()
